"""README.md of a model repository: metadata for the Hub, and a model card for readers who do not know mgen.

States only what the run, the evaluation and the publisher recorded; missing information is named as missing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import yaml
from huggingface_hub import ModelCard, ModelCardData

from mgen.encoding.remi import PITCH_RANGE, Kind, Remi
from mgen.evaluation.comparisons import Verdict
from mgen.hub import feature_critic, licences
from mgen.hub.evaluation_results import (
    CardTable,
    EvaluationResults,
    critic_limits,
    critic_more,
    critic_numbers,
    critic_tables,
    headlines,
    model_index,
    preference_numbers,
    preference_tables,
)
from mgen.hub.private import base_name, redact
from mgen.hub.published_samples import PublishedSamples
from mgen.hub.trained_run import CRITIC, POLICY, TrainedRun
from mgen.notes import MAX_BEATS, STEPS_PER_QUARTER
from mgen.runs.judges import JudgeSpec
from mgen.stats.intervals import Interval

TASKS = {POLICY: "text-generation"}
"""Kind of model -> the Hub's task, which is also the name of its pipeline; all other kinds classify."""

ENOUGH_PIECES = 512  # pieces per row that a two-sample test needs
RELIABILITY = Path("evaluation/reliability.svg")  # reliability diagram of a critic, if the run has one

ALGORITHMS = {
    "finetune": "policy gradient of mgen; the KL divergence from the initial policy is part of the return",
    "grpo": "GRPO of TRL",
}
"""Command -> what it trains by."""


@dataclass(frozen=True)
class PublisherInfo:
    """What only the publisher can state; empty fields are not stated.

    Attributes:
        repo: `user/name`.
        license, license_link: of the weights.
        data_license: of the music, in words.
        datasets: Hub ids of the training data sets.
        base_model: Hub id of the model that it was fine-tuned from.
        eval_dataset: Hub id of the data set that results are reported for.
        endpoint: address of the Hub.
        revision: branch.
    """

    repo: str
    license: str = ""
    license_link: str = ""
    data_license: str = ""
    datasets: Sequence[str] = ()
    base_model: str = ""
    eval_dataset: str = ""
    endpoint: str = "https://huggingface.co"
    revision: str = "main"

    @property
    def url(self) -> str:
        return f"{self.endpoint}/{self.repo}"

    def file(self, path: str) -> str:
        """Address of a file of the repository."""
        return f"{self.url}/resolve/{quote(self.revision, safe='')}/{quote(path)}"


@dataclass(frozen=True)
class RepositoryContents:
    """Everything that goes into a repository.

    Attributes:
        run: the trained run.
        publisher: what only the publisher can state.
        corpus: corpus.json of the music; empty if not available.
        results: the evaluation; None without one.
        samples: generated pieces; None for none.
        private_paths: paths that no file may contain -> a description.
    """

    run: TrainedRun
    publisher: PublisherInfo
    corpus: Mapping[str, Any]
    results: EvaluationResults | None
    samples: PublishedSamples | None
    private_paths: Mapping[str, str]

    def numbers(self) -> dict[str, dict[str, Interval]]:
        """group -> metric -> number, from the evaluation or from what the run measured itself."""
        if self.results:
            return self.results.numbers()
        return critic_numbers(self.run.card) or preference_numbers(self.run.facts)


def write_model_card(path: Path, contents: RepositoryContents, samples: Mapping[str, Sequence[str | None]]) -> None:
    """Writes README.md; `huggingface_hub.ModelCard.load` reads it back.

    Args:
        samples: as `write_samples` returns them.
    """
    run, publisher, results = contents.run, contents.publisher, contents.results
    if results:
        tables, more = results.tables(), results.tables(main=False)
    else:
        tables, more = critic_tables(run.card) or preference_tables(run.facts), critic_more(run.card)
    card = ModelCard.from_template(
        card_data(contents),
        template_str=files("mgen.hub").joinpath("model_card.md.jinja").read_text(encoding="utf-8"),
        title=publisher.repo.rpartition("/")[2],
        repo=publisher.repo,
        kind=run.kind,
        style=run.style,
        summary=summary(run),
        shape=shape(run),
        prompt=_prompt(run),
        example=example(run.remi) if run.remi else "",
        stock=run.stock,
        registered_by=run.registered_by,
        multi=run.remi is not None and run.remi.multi,
        recipe=_recipe(contents),
        samples=_sample_table(samples, contents.publisher),
        samples_source=contents.samples.source if contents.samples else "",
        tables=[_markdown(table) for table in tables],
        reliability=RELIABILITY if (run.folder / RELIABILITY.name).is_file() and not results else None,
        more=[_markdown(table) for table in more],
        others=_markdown(others) if results and (others := results.others()) else None,
        changes=_changes(results),
        protocol=protocol(contents),
        explanations=results.explanations() if results else [],
        data=training_data(contents),
        procedure=procedure(run),
        options=yaml.safe_dump(redact(run.options), sort_keys=True).strip(),
        limits=limits(contents),
        publisher=publisher,
        mgen=run.facts.get("versions", {}).get("mgen", ""),
    )
    card.save(path)


# ----------------------------------------------------------------- metadata


def card_data(contents: RepositoryContents) -> ModelCardData:
    """The metadata block, which the Hub reads."""
    run, publisher = contents.run, contents.publisher
    more: dict[str, Any] = dict(licences.license_metadata(publisher.license, publisher.license_link))
    if publisher.base_model and run.command in {*ALGORITHMS, "prefer"}:
        more["base_model_relation"] = "finetune"
    if run.kind == POLICY:
        more["widget"] = [{"text": _prompt(run)}]
    return ModelCardData(
        library_name="transformers" if run.stock and not run.registered_by else "mgen",
        pipeline_tag=TASKS.get(run.kind, "text-classification") if run.stock else None,
        tags=tags(run),
        datasets=list(publisher.datasets) or None,
        base_model=publisher.base_model or None,
        model_name=publisher.repo.rpartition("/")[2],
        eval_results=_model_index(contents) or None,
        **more,
    )


def tags(run: TrainedRun) -> list[str]:
    """Search tags; `trl` only if TRL trained the model."""
    out = ["symbolic-music", "music", "midi", *(["remi", "miditok"] if run.stock else []), "mgen"]
    if run.kind == POLICY:
        out.insert(1, "music-generation")
    else:
        out.insert(1, "music-classification")
        out.append("reward-model")
    if run.command in ALGORITHMS:
        out += ["reinforcement-learning", *(["trl", "grpo"] if run.command == "grpo" else [])]
    if run.command == "prefer":
        out += ["trl", "dpo" if run.kind == POLICY else "reward-trainer"]
    return [*out, *([run.style] if run.style else [])]


def _model_index(contents: RepositoryContents) -> list[Any]:
    run, publisher = contents.run, contents.publisher
    data = publisher.eval_dataset, f"test split of corpus {run.facts.get('data', '')}".strip()
    if contents.results:
        keep = headlines(contents.results.target)
        return model_index(contents.numbers(), keep, ("text-generation", "symbolic music generation"), data)
    keep = {
        "auc": "AUC",
        "accuracy": "accuracy",
        "auc_worst_pair": "AUC, worst pair of collections",
        "calibration_error": "calibration error",
        "margin": "log-odds, nats",
    }
    task = ("text-classification" if run.stock else "other", "style of symbolic music")
    if run.command == "prefer":
        task, data = (task[0], "preferences"), (publisher.eval_dataset, "held-out pairs")
    return model_index(contents.numbers(), keep, task, data)


# ---------------------------------------------------------------- sentences


def summary(run: TrainedRun) -> str:
    """The first paragraph: what the model is, and how it was trained."""
    size = _size(run)
    if run.remi is None:
        return f"{feature_critic.summary(run, size)} {feature_critic.training(run)}"
    instruments = "for several instruments" if run.remi.multi else "for one instrument"
    if run.kind == POLICY:
        first = (
            f"A causal language model (`{run.architecture}`){size} that generates symbolic music (MIDI) {instruments}, "
            "as the continuation of a prompt."
        )
        styles = ", ".join(run.remi.style_ids)
        first += f" A style token selects the style: {styles}." if styles else ""
    elif run.kind == CRITIC:
        first = (
            f"A classifier (`{run.architecture}`){size} that estimates how likely a piece of symbolic music (MIDI) "
            f"{instruments} is {run.style or 'of its style'}. With its calibration the score is a log-probability in "
            "nats; without it, a raw logit."
        )
    else:
        first = (
            f"A reward model (`{run.architecture}`){size} that predicts which of two pieces of symbolic music (MIDI) "
            f"{instruments} a listener prefers: the difference of their two logits is the log-odds. A single logit has "
            "no meaning."
        )
    return f"{first} {_training(run)}"


def _training(run: TrainedRun) -> str:
    options = run.options
    initial = f" from `{base_name(str(options['policy']))}`" if options.get("policy") else ""
    if run.command in ALGORITHMS:
        left_out = run.facts.get("left_out") or {}  # rules for which the corpus gives no band
        specs = [JudgeSpec.parse(entry) for entry in options.get("judges") or []]
        specs = [spec for spec in specs if spec.name not in left_out]
        if len({spec.weight for spec in specs}) == 1:
            judges = f"{', '.join(spec.name for spec in specs)}, each with weight {specs[0].weight:g}"
        else:
            judges = ", ".join(f"{spec.name} with weight {spec.weight:g}" for spec in specs)
        return (
            f"It was fine-tuned{initial} by reinforcement learning ({ALGORITHMS[run.command]}) towards "
            f"{run.style or 'its style'}, judged by {judges or 'judges that are not recorded'}."
        )
    if run.command == "prefer":
        method = "DPO of TRL" if run.kind == POLICY else "the reward trainer of TRL"
        return f"It was trained{initial} on listeners' preferences between pairs of pieces ({method})."
    if run.command == "critic":
        retimed = ", and it was trained on other grids and uneven timing too" if options.get("retime") else ""
        return f"It does not read loudness or tempo{retimed}, which makes it less sensitive to file formats."
    return "It was trained to predict the next token of music, in all keys."


def shape(run: TrainedRun) -> list[tuple[str, str]]:
    """Facts about the model from its configuration, as (name, value)."""
    parameters = f"{int(run.facts['parameters']):,}" if run.facts.get("parameters") else "not recorded"
    config, remi = run.model_config, run.remi
    if config is None or remi is None:
        return feature_critic.shape(run, parameters)
    library, code = "transformers", "no custom code"
    if run.registered_by:
        library, code = (
            "mgen",
            f"registered with `transformers` by `import {run.registered_by}`; no code here",
        )
    sizes = {"layers": "num_hidden_layers", "hidden size": "hidden_size", "attention heads": "num_attention_heads"}
    return [
        ("architecture", f"`{run.architecture}` of `{library}` (`model_type` {config.model_type}), {code}"),
        ("parameters", parameters),
        *((name, str(getattr(config, key))) for name, key in sizes.items() if getattr(config, key, None)),
        ("context", f"{run.context} tokens" if run.context else "no limit in the configuration"),
        ("vocabulary", _vocabulary(remi)),
        ("styles", ", ".join(f"`{style.upper()}_None`" for style in remi.style_ids) or "none"),
    ]


def _vocabulary(remi: Remi) -> str:
    loudness = "" if remi.velocity else ", without velocity"
    merges = f", {remi.merges} of them merged inside an onset" if remi.merges else ""
    return f"{remi.vocab_size} tokens{merges}: REMI of MidiTok, {STEPS_PER_QUARTER} positions per beat{loudness}"


def protocol(contents: RepositoryContents) -> list[str]:
    """How the numbers were measured."""
    results, run = contents.results, contents.run
    if results is None:
        test = run.card.get("test") or {}
        if run.command == "prefer":
            return ["On pairs whose prompts were held out from training; intervals are 95 % bootstraps over prompts."]
        if run.kind != CRITIC or not test:
            return []
        return [
            f"{test.get('n')} excerpts of {test.get('works')} works of the test split, used neither for training nor "
            "for calibration; splits are by work, never by excerpt.",
            "Intervals are 95 % bootstraps over works.",
            *_calibration(run, test),
            *_abstention(run, test),
        ]
    setup = results.protocol
    lines = [
        f"{setup.get('n', '?')} pieces of each prompt type, the same prompts for every row, from the test split of "
        f"corpus `{setup.get('data', '?')}`; the real continuations of these prompts are a row too. Only completions "
        "are evaluated, never the prompt.",
        f"Prompts of {setup.get('prompt_tokens', '?')} tokens, completions of {setup.get('completion_tokens', '?')}, "
        "sampled at temperature 1 without truncation.",
        "Intervals are 95 % bootstraps over works. `as real` means: the closer to the real row, the better.",
        "Two-sample AUC: how well a new classifier, trained on half of the pieces, separates the other half from real "
        "music; 0.5 is chance, 1 is perfect separation.",
    ]
    if math.isfinite(results.judge_auc.value):
        lines.append(
            f"`judged {results.target}` comes from a judge that was no reward and was trained on other works; it "
            f"separates {results.target} from other real music of the test split with AUC "
            f"{results.judge_auc.value:.2f} [{results.judge_auc.low:.2f}, {results.judge_auc.high:.2f}]."
        )
    remarks = results.content.get("remarks") or {}
    lines += [f"{name}: {remark}" for name, remark in remarks.items() if name.split(", ")[0] in results.rows]
    return lines


def _calibration(run: TrainedRun, test: Mapping[str, Any]) -> list[str]:
    if not run.stock:
        return feature_critic.calibration(run, dict(test))
    valid = run.card.get("valid") or {}
    raw = test.get("ece_raw", valid.get("ece_raw"))
    before = f" (on valid, before: {raw:.3f})" if raw is not None else ""
    return [
        f"Calibrated on the valid split: scale {valid.get('scale', 1):.3f}, bias {valid.get('bias', 0):.3f}; expected "
        f"calibration error on test {test.get('ece', 0):.3f}{before}."
    ]


def _abstention(run: TrainedRun, test: Mapping[str, Any]) -> list[str]:
    shares = test.get("abstained") or {}
    names = {"positive": run.style or "its style", "other": "other music"}
    text = ", ".join(f"{shares[side]:.1%} of {names[side]}" for side in names if side in shares)
    return [f"Abstentions, counted as negative: {text}."] if text else []


def training_data(contents: RepositoryContents) -> dict[str, Any]:
    """The music: counts and a table if the corpus is available, and its licence as stated."""
    corpus, run = contents.corpus, contents.run
    data: dict[str, Any] = {
        "pairs": run.facts.get("pairs") if run.command == "prefer" else None,
        "fingerprint": run.facts.get("data", ""),
        "license": contents.publisher.data_license,
        "datasets": list(contents.publisher.datasets),
        "table": None,
        "lines": [],
    }
    collections = corpus.get("collections") or {}
    if collections:
        splits = list(dict.fromkeys(split for counts in collections.values() for split in counts))
        rows = [[name, *(str(counts.get(split, 0)) for split in splits)] for name, counts in collections.items()]
        data["table"] = _markdown(CardTable("", ["collection", *splits], rows))
    for style, counts in (corpus.get("pieces") or {}).items():
        pieces = ", ".join(f"{count:,} {split}" for split, count in counts.items())
        tokens = sum((corpus.get("tokens") or {}).get(style, {}).values())
        data["lines"].append(f"{style}: {pieces}" + (f"; {tokens:,} tokens" if tokens else ""))
    if "scanned" in corpus:
        data["lines"].append(
            f"{corpus['kept']:,} of {corpus['scanned']:,} files were kept"
            + "".join(f"; {count} {reason}" for reason, count in (corpus.get("rejected") or {}).items())
        )
    return data


def procedure(run: TrainedRun) -> list[str]:
    """The training: command, steps, final numbers, machine and versions."""
    facts = run.facts
    machine = ", ".join(f"{name} {value}" for name, value in (facts.get("machine") or {}).items() if value)
    lines = [f"command: `mgen {run.command}`, seed {facts.get('seed', '?')}"]
    if facts.get("steps"):
        epochs = f" ({facts['epochs']} epochs)" if facts.get("epochs") else ""
        lines.append(f"{facts['steps']:,} optimizer steps{epochs}")
    if facts.get("nats_per_note"):
        lines.append(
            f"on the valid split: {facts['nats_per_token']:.3f} nats per token, {facts['nats_per_note']:.3f} nats per "
            "note"
        )
    last = facts.get("last") or {}
    names = {
        "policy/kl": ("KL from the initial policy", "nats per piece"),
        "kl_efficiency/style": ("KL efficiency of the change of style", ""),
        "realism/auc": ("held-out AUC of the discriminator", ""),
        "realism/ece": ("its calibration error", ""),
        "realism/logit_generated": ("its mean score of completions", "nats"),
    }
    means = [
        f"{name} {last[key]:.3f} {unit}".rstrip()
        for key, (name, unit) in names.items()
        if isinstance(last.get(key), int | float)
    ]
    if means:
        lines.append(f"means of the last steps: {', '.join(means)}")
    initial = run.initial_run()
    if initial:
        name = base_name(str(run.options.get("policy") or run.options.get("init")))
        loss = f", {initial['nats_per_note']:.3f} nats per note" if initial.get("nats_per_note") else ""
        lines.append(f"initial model `{name}`: mgen {initial.get('command')}, {initial.get('steps', '?')} steps{loss}")
    lines.append(f"{facts.get('seconds', '?')} s on {machine or 'a machine that is not recorded'}")
    versions = facts.get("versions") or {}
    lines.append("versions: " + ", ".join(f"{name} {number}" for name, number in versions.items()))
    return lines


def limits(contents: RepositoryContents) -> list[str]:
    """What the model cannot do, results that count against it, and what was not measured."""
    run, results = contents.run, contents.results
    lines = []
    if run.remi is not None:
        low, high = PITCH_RANGE
        lines = [
            f"Pitches {low} to {high}; bars of 1 to {MAX_BEATS[4]} quarters or 1 to {MAX_BEATS[8]} eighths. Tempo, "
            f"pedal and {'exact ' * run.remi.velocity}dynamics are not modelled; a MIDI file has one tempo.",
            "" if run.remi.multi else "One instrument: a piece for several is written as one part.",
            f"Context of {run.context} tokens: earlier music is not seen." if run.context else "",
        ]
    if results:
        lines += _weaknesses(results)
        if results.protocol.get("data") not in {None, run.facts.get("data")}:
            lines.append("It was evaluated on another corpus than it was trained on.")
    elif run.kind == POLICY:
        lines.append("No evaluation was published with it: the quality of its music was not measured for this card.")
    if run.kind != POLICY:
        lines += _critic_limits(run)
    if run.command == "prefer":
        lines.append("It reflects the preferences of a few listeners on a few pieces; other listeners may disagree.")
    lines.append("One training run: the variation between seeds was not measured.")
    if run.kind == POLICY:
        lines.append("It may reproduce passages of its training music; check its output before you publish it.")
    return [line for line in lines if line]


def _weaknesses(results: EvaluationResults) -> list[str]:
    lines = []
    for prompt_type, by_verdict in results.changes().items():
        if Verdict.WORSE in by_verdict:
            lines.append(f"Worse than the pretrained model ({prompt_type}): {'; '.join(by_verdict[Verdict.WORSE])}.")
    for prompt_type, cells in results.numbers().items():
        auc = cells.get("c2st_auc")
        if auc and auc.low > 0.5:
            lines.append(
                f"A classifier separates its pieces from real {results.target} ({prompt_type}): two-sample AUC "
                f"{auc.value:.2f} [{auc.low:.2f}, {auc.high:.2f}]."
            )
    n = results.protocol.get("n")
    if isinstance(n, int) and n < ENOUGH_PIECES:
        lines.append(f"Evaluated on {n} pieces per row; a two-sample test needs {ENOUGH_PIECES} to be quoted.")
    judge = results.judge_auc
    if math.isfinite(judge.value) and judge.low < 0.8:
        lines.append(
            f"The evaluation judge recognises {results.target} with an AUC of only {judge.value:.2f}; `judged "
            f"{results.target}` is weak evidence."
        )
    return lines


def _critic_limits(run: TrainedRun) -> list[str]:
    lines = [
        "On a small corpus a classifier may learn the format of a collection instead of its style; the rows for pairs "
        "of collections and for changes of format show how far.",
        "Used as a reward it will be exploited: pieces with high scores need not be good music. Penalise the KL "
        "divergence from the initial policy, and listen.",
        *critic_limits(run.card),
    ]
    if not run.stock:
        lines += feature_critic.limits(run)
    elif run.kind == CRITIC and isinstance(worst := run.critic.get("worst"), float):
        lines.append(
            f"It reads the first {run.critic.get('max_tokens')} tokens of an excerpt. Below "
            f"{run.critic.get('min_notes')} notes it abstains and gives its worst score, {worst:.2f} nats."
        )
    return lines


# -------------------------------------------------------------------- parts


def example(remi: Remi) -> str:
    """A bar of music as text: four ascending quarter notes."""
    names = np.array(remi.names)

    def token(kind: Kind, value: int) -> str:
        ids = np.flatnonzero(remi.kind == kind)
        return str(names[ids[np.abs(remi.value[ids] - value).argmin()]])

    tokens = ["Bar_None", token(Kind.TIME_SIGNATURE, 4)]
    for beat, pitch in enumerate((60, 63, 65, 67)):
        tokens.append(token(Kind.POSITION, beat * STEPS_PER_QUARTER))
        tokens += [token(Kind.PROGRAM, 0)] if remi.multi else []
        tokens += [token(Kind.PITCH, pitch), *([token(Kind.VELOCITY, 64)] if remi.velocity else [])]
        tokens += [token(Kind.DURATION, STEPS_PER_QUARTER)]
    return " ".join([*tokens, "EOS_None"])


def _prompt(run: TrainedRun) -> str:
    return " ".join(["BOS_None", *([f"{run.style.upper()}_None"] if run.style else [])])


def _size(run: TrainedRun) -> str:
    count = run.facts.get("parameters")
    if not count:
        return ""
    size = f"{count / 1e6:.{1 if count < 1e7 else 0}f} M" if count >= 1e6 else f"{count:,}"
    return f" with {size} parameters"


def _recipe(contents: RepositoryContents) -> str:
    """Cleaning recipe of the corpus, which a file needs before it is judged."""
    remi = contents.run.remi
    return str(contents.corpus.get("recipe") or ("band" if remi is not None and remi.multi else "piano"))


def _changes(results: EvaluationResults | None) -> list[str]:
    if results is None:
        return []
    changed = "changed, not clearly for better or worse"
    words = {Verdict.BETTER: "better", Verdict.WORSE: "worse", Verdict.CHANGED: changed}
    return [
        f"**{prompt_type}**: "
        + ("; ".join(f"{words[key]}: {', '.join(by[key])}" for key in words if key in by) or "no clear change")
        for prompt_type, by in results.changes().items()
    ]


def _sample_table(samples: Mapping[str, Sequence[str | None]], publisher: PublisherInfo) -> dict[str, Any]:
    """A table of audio players: a column per heading, a row per prompt."""
    rows = [
        ["no note" if sample is None else _audio(sample, publisher) for sample in row]
        for row in zip(*samples.values(), strict=True)
    ]
    return {"head": list(samples), "rows": rows}


def _audio(sample: str, publisher: PublisherInfo) -> str:
    # The Hub plays absolute addresses only; the relative link also works in a local folder.
    return (
        f'<audio controls preload="none" src="{publisher.file(f"{sample}.ogg")}"></audio> '
        f"[ogg]({sample}.ogg) · [MIDI]({sample}.mid)"
    )


def _markdown(table: CardTable) -> dict[str, str]:
    """Formats a table as GitHub Markdown; names from users' files and folders are escaped."""
    lines = [table.head, ["---", *["---:"] * (len(table.head) - 1)], *table.rows]
    body = "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)
    return {"title": _cell(table.title), "body": body}


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", str(text)).replace("|", "\\|").replace("<", "&lt;").strip()
