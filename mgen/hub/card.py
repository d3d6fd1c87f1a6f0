"""README.md of a model repository: the Hub's metadata, and a page for who has never heard of mgen.

Says only what the run, the evaluation and the person who publishes said; where nobody said anything, it says that.
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
from mgen.hub import feature_critic as traits
from mgen.hub import licences
from mgen.hub.clips import Clip
from mgen.hub.private import name_of, public
from mgen.hub.results import (
    Results,
    Table,
    critic_limits,
    critic_more,
    critic_numbers,
    critic_tables,
    headlines,
    model_index,
    preference_numbers,
    preference_tables,
)
from mgen.hub.trained import CRITIC, POLICY, Trained
from mgen.notes import MAX_BEATS, STEPS_PER_QUARTER

TASKS = {POLICY: "text-generation"}
"""The Hub's task by kind: what the stock pipeline is called that runs the model. Everything else classifies."""

QUOTED = 512
"""Pieces from which a two-sample number is quoted."""

RELIABILITY = Path("evaluation/reliability.svg")
"""A critic's picture of what it said against what was true, where the repository has it."""


@dataclass(frozen=True)
class Statement:
    """What only the person who publishes can say; what is empty is not said.

    Attributes:
        repo: `user/name`.
        license, license_link: of the weights.
        data_license: of the music, in words.
        datasets: Hub ids of the data sets it was trained on.
        base_model: Hub id of the model that it was tuned from.
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
class Page:
    """All that a card is made of; the fields are those of `mgen.hub.repository.Contents`, and the clips as written."""

    trained: Trained
    statement: Statement
    corpus: Mapping[str, Any]
    results: Results | None
    clips: Mapping[str, Sequence[Clip | None]]
    clips_source: str


def write_card(path: Path, page: Page) -> None:
    """Write README.md; it reads back with `huggingface_hub.ModelCard.load`."""
    trained, statement = page.trained, page.statement
    card = ModelCard.from_template(
        card_data(page),
        template_str=files("mgen.hub").joinpath("model_card.md.jinja").read_text(encoding="utf-8"),
        title=statement.repo.rpartition("/")[2],
        repo=statement.repo,
        kind=trained.kind,
        style=trained.style,
        what=what(page),
        shape=shape(trained),
        prompt=_prompt(trained),
        example=example(trained.remi) if trained.remi else "",
        stock=trained.stock,
        multi=trained.remi is not None and trained.remi.multi,
        recipe=_recipe(page),
        clips=_clip_rows(page),
        clips_source=page.clips_source,
        tables=[_markdown(table) for table in _tables(page)],
        reliability=RELIABILITY if (trained.run / RELIABILITY.name).is_file() and not page.results else None,
        more=[_markdown(table) for table in _more(page)],
        others=_markdown(others) if page.results and (others := page.results.others()) else None,
        changes=_changes(page.results),
        protocol=protocol(page),
        meanings=page.results.meanings() if page.results else [],
        data=training_data(page),
        procedure=procedure(trained),
        options=yaml.safe_dump(public(trained.config), sort_keys=True).strip(),
        limits=limits(page),
        statement=statement,
        mgen=trained.facts.get("versions", {}).get("mgen", ""),
    )
    card.save(path)


# ----------------------------------------------------------------- metadata


def card_data(page: Page) -> ModelCardData:
    """The metadata at the top, which the Hub reads."""
    trained, statement = page.trained, page.statement
    more: dict[str, Any] = dict(licences.metadata(statement.license, statement.license_link))
    if statement.base_model and trained.command in {"finetune", "prefer"}:
        more["base_model_relation"] = "finetune"
    if trained.kind == POLICY:
        more["widget"] = [{"text": _prompt(trained)}]
    return ModelCardData(
        library_name="transformers" if trained.stock else "mgen",
        pipeline_tag=TASKS.get(trained.kind, "text-classification") if trained.stock else None,
        tags=tags(trained),
        datasets=list(statement.datasets) or None,
        base_model=statement.base_model or None,
        model_name=statement.repo.rpartition("/")[2],
        eval_results=_model_index(page) or None,
        **more,
    )


def tags(trained: Trained) -> list[str]:
    """What the model can be found by; `trl` only where TRL trained it."""
    out = ["symbolic-music", "music", "midi", *(["remi", "miditok"] if trained.stock else []), "mgen"]
    if trained.kind == POLICY:
        out.insert(1, "music-generation")
    else:
        out.insert(1, "music-classification")
        out.append("reward-model")
    if trained.command == "finetune":
        out += ["reinforcement-learning", "trl", "grpo"]
    if trained.command == "prefer":
        out += ["trl", "dpo" if trained.kind == POLICY else "reward-trainer"]
    return [*out, *([trained.style] if trained.style else [])]


def _model_index(page: Page) -> list[Any]:
    trained, statement = page.trained, page.statement
    data = statement.eval_dataset, f"test split of corpus {trained.facts.get('data', '')}".strip()
    if page.results:
        keep = headlines(page.results.target)
        return model_index(page.results.numbers(), keep, ("text-generation", "symbolic music generation"), data)
    keep = {
        "auc": "AUC",
        "accuracy": "accuracy",
        "auc_worst_pair": "AUC, worst pair of collections",
        "calibration_error": "calibration error",
        "margin": "log-odds, nats",
    }
    task = ("text-classification" if trained.stock else "other", "style of symbolic music")
    numbers = critic_numbers(trained.card) or preference_numbers(trained.facts)
    if trained.command == "prefer":
        task, data = (task[0], "preferences"), (statement.eval_dataset, "pairs kept back")
    return model_index(numbers, keep, task, data)


# ---------------------------------------------------------------- sentences


def what(page: Page) -> str:
    """The first paragraph."""
    trained = page.trained
    size = _size(trained)
    if trained.remi is None:
        return f"{traits.what(trained, size)} {traits.how(trained)}"
    band = "for several instruments" if trained.remi.multi else "for one instrument"
    if trained.kind == POLICY:
        first = f"A Llama model{size} that writes symbolic music (MIDI) {band}: it goes on from a prompt, note by note."
        styles = ", ".join(trained.remi.style_ids)
        first += f" A style can be asked for: {styles}." if styles else ""
    elif trained.kind == CRITIC:
        first = (
            f"A Llama classifier{size} that hears a piece of symbolic music (MIDI) {band} and says how surely it is "
            f"{trained.style or 'of its style'}. With its calibration it speaks nats; without, it gives a raw logit."
        )
    else:
        first = (
            f"A Llama classifier{size} that says which of two pieces of symbolic music (MIDI) {band} a listener would "
            "prefer: the difference of its two logits is the log-odds. A logit alone means nothing."
        )
    return f"{first} {_how(trained)}"


def _how(trained: Trained) -> str:
    config = trained.config
    started = f" from `{name_of(str(config['policy']))}`" if config.get("policy") else ""
    if trained.command == "finetune":
        asked = dict(str(judge).split("=", 1) for judge in config.get("judges") or [] if "=" in str(judge))
        silent = trained.facts.get("left_out") or {}  # rules that its music has no band for
        weights = {name: weight for name, weight in asked.items() if name not in silent}
        if len(set(weights.values())) == 1:
            judges = f"{', '.join(weights)}, each with weight {next(iter(weights.values()))}"
        else:
            judges = ", ".join(f"{name} with weight {weight}" for name, weight in weights.items())
        form = {
            "nats": "the form `nats`: KL from the start is paid in the return, in nats a piece",
            "normalised": "the form `normalised`: advantages divided by their deviation, as GRPO is usually run",
        }.get(str(config.get("form")), "policy gradient")
        return (
            f"It was tuned{started} by reinforcement learning (GRPO of TRL, {form}) towards "
            f"{trained.style or 'its style'}, judged by {judges or 'judges that were not stated'}."
        )
    if trained.command == "prefer":
        method = "DPO of TRL" if trained.kind == POLICY else "the reward trainer of TRL"
        return f"It was trained{started} on pairs of pieces of which listeners preferred one ({method})."
    if trained.command == "critic":
        retimed = " and was trained on other grids and uneven timing too" if config.get("retime") else ""
        return f"It is deaf to loudness and tempo{retimed}, so that it hears less of a file's format."
    return "It was trained to predict the next token of music, in all keys."


def shape(trained: Trained) -> list[tuple[str, str]]:
    """What the model is, as name and value."""
    config, remi = trained.model_config, trained.remi
    parameters = f"{int(trained.facts['parameters']):,}" if trained.facts.get("parameters") else "not stated"
    if remi is None:
        return traits.shape(trained, parameters)
    return [
        ("architecture", f"stock `{(config.get('architectures') or ['?'])[0]}`, no code of its own"),
        ("parameters", parameters),
        (
            "layers, width, heads",
            f"{config.get('num_hidden_layers')}, {config.get('hidden_size')}, {config.get('num_attention_heads')}",
        ),
        ("context", f"{trained.context} tokens"),
        ("vocabulary", f"{remi.vocab_size} tokens: REMI as MidiTok writes it, {STEPS_PER_QUARTER} positions a quarter"),
        ("styles", ", ".join(f"`{style.upper()}_None`" for style in remi.style_ids) or "none"),
    ]


def protocol(page: Page) -> list[str]:
    """How it was measured."""
    results = page.results
    if results is None:
        test = page.trained.card.get("test") or {}
        if page.trained.command == "prefer":
            return ["On pairs whose prompts were kept back from training; intervals are 95 % bootstraps over prompts."]
        if page.trained.kind != CRITIC or not test:
            return []
        return [
            f"{test.get('n')} excerpts of {test.get('works')} works of the test split, which neither training nor "
            "calibration saw; splits go by work, never by excerpt.",
            "Intervals are 95 % bootstraps over works.",
            *_calibrated(page.trained, test),
            *_abstained(page.trained, test),
        ]
    asked = results.protocol
    lines = [
        f"{asked.get('n', '?')} pieces of each kind of prompt, the same prompts for every row, from the test split of "
        f"corpus `{asked.get('data', '?')}`; real music that went on after the same prompts is a row too. Only "
        "completions are judged, never the prompt.",
        f"Prompts of {asked.get('prompt_tokens', '?')} tokens, completions of {asked.get('completion_tokens', '?')}, "
        "sampled at temperature 1 with nothing cut off.",
        "Intervals are 95 % bootstraps over works. `as real` means: the nearer to the real row, the better.",
        "Two-sample AUC: how well a fresh classifier, trained on half of the pieces, tells the other half from real "
        "music; 0.5 is not at all, 1 is always.",
    ]
    if math.isfinite(results.judge_auc.value):
        lines.append(
            f"`judged {results.target}` comes from a judge that never gave a reward and was trained on other works; it "
            f"tells {results.target} from other real music of the test split with AUC {results.judge_auc.value:.2f} "
            f"[{results.judge_auc.low:.2f}, {results.judge_auc.high:.2f}]."
        )
    remarks = results.content.get("remarks") or {}
    lines += [f"{name}: {remark}" for name, remark in remarks.items() if name.split(", ")[0] in results.rows]
    return lines


def _calibrated(trained: Trained, test: Mapping[str, Any]) -> list[str]:
    if not trained.stock:
        return traits.calibrated(trained, dict(test))
    valid = trained.card.get("valid") or {}
    raw = test.get("ece_raw", valid.get("ece_raw"))
    before = f" (on valid, before: {raw:.3f})" if raw is not None else ""
    return [
        f"Calibrated on the valid split: scale {valid.get('scale', 1):.3f}, bias {valid.get('bias', 0):.3f}; expected "
        f"calibration error on test {test.get('ece', 0):.3f}{before}."
    ]


def _abstained(trained: Trained, test: Mapping[str, Any]) -> list[str]:
    said = test.get("abstained") or {}
    names = {"positive": trained.style or "its style", "other": "other music"}
    told = ", ".join(f"{said[side]:.1%} of {names[side]}" for side in names if side in said)
    return [f"Not judged, and counted as a no: {told}."] if told else []


def training_data(page: Page) -> dict[str, Any]:
    """The music: counts and a table where the corpus is at hand, and its licence as it was stated."""
    corpus = page.corpus
    facts = page.trained.facts
    said: dict[str, Any] = {
        "pairs": facts.get("pairs") if page.trained.command == "prefer" else None,
        "fingerprint": facts.get("data", ""),
        "license": page.statement.data_license,
        "datasets": list(page.statement.datasets),
        "table": None,
        "lines": [],
    }
    collections = corpus.get("collections") or {}
    if collections:
        splits = list(dict.fromkeys(split for counts in collections.values() for split in counts))
        rows = [[name, *(str(counts.get(split, 0)) for split in splits)] for name, counts in collections.items()]
        said["table"] = _markdown(Table("", ["collection", *splits], rows))
    for style, counts in (corpus.get("pieces") or {}).items():
        words = ", ".join(f"{count:,} {split}" for split, count in counts.items())
        tokens = sum((corpus.get("tokens") or {}).get(style, {}).values())
        said["lines"].append(f"{style}: {words}" + (f"; {tokens:,} tokens" if tokens else ""))
    if "scanned" in corpus:
        said["lines"].append(
            f"{corpus['kept']:,} of {corpus['scanned']:,} files were kept"
            + "".join(f"; {count} {reason}" for reason, count in (corpus.get("rejected") or {}).items())
        )
    return said


def procedure(trained: Trained) -> list[str]:
    """What was done, on what, and what came of it."""
    facts = trained.facts
    machine = ", ".join(f"{name} {value}" for name, value in (facts.get("machine") or {}).items() if value)
    lines = [f"command: `mgen {trained.command}`, seed {facts.get('seed', '?')}"]
    if facts.get("steps"):
        epochs = f" ({facts['epochs']} epochs)" if facts.get("epochs") else ""
        lines.append(f"{facts['steps']:,} optimizer steps{epochs}")
    if facts.get("nats_per_note"):
        lines.append(
            f"on the valid split: {facts['nats_per_token']:.3f} nats a token, {facts['nats_per_note']:.3f} nats a note"
        )
    last = facts.get("last") or {}
    told = [
        f"{name} {last[key]:.3f} {unit}"
        for key, name, unit in (
            ("policy/kl", "KL from the start", "nats a piece"),
            ("entropy", "entropy", "nats a token"),
        )
        if isinstance(last.get(key), int | float)
    ]
    if told:
        lines.append(f"means of the last steps: {', '.join(told)}")
    start = trained.start()
    if start:
        name = name_of(str(trained.config.get("policy") or trained.config.get("init")))
        note = f", {start['nats_per_note']:.3f} nats a note" if start.get("nats_per_note") else ""
        lines.append(f"started from `{name}`: mgen {start.get('command')}, {start.get('steps', '?')} steps{note}")
    lines.append(f"{facts.get('seconds', '?')} s on {machine or 'a machine not stated'}")
    versions = facts.get("versions") or {}
    lines.append("versions: " + ", ".join(f"{name} {number}" for name, number in versions.items()))
    return lines


def limits(page: Page) -> list[str]:
    """What it cannot do, what the numbers say against it, and what they do not say."""
    trained, results = page.trained, page.results
    low, high = PITCH_RANGE
    multi = trained.remi is not None and trained.remi.multi
    lines = [
        f"Pitches {low} to {high}; bars of 1 to {MAX_BEATS} whole quarters (6/8 is written as 3/4). Tempo, pedal and "
        "exact dynamics are not modelled; a MIDI file gets one tempo.",
        "One instrument: a piece of several is written as one part." if not multi else "",
        f"{trained.context} tokens at once: what happened before is forgotten." if trained.stock else "",
    ]
    if not trained.stock:
        lines = []  # no token enters
    if results:
        lines += _against(results)
        if results.protocol.get("data") not in {None, trained.facts.get("data")}:
            lines.append("It was measured on another corpus than it was trained on.")
    elif trained.kind == POLICY:
        lines.append("No evaluation was published with it: how it plays, nobody measured for this page.")
    if trained.kind != POLICY:
        lines += _hears(trained)
    if trained.command == "prefer":
        lines.append("It knows what a few listeners said of a few pieces; others may hear otherwise.")
    lines.append("One training run: nothing here says how another seed would have come out.")
    if trained.kind == POLICY:
        lines.append("It may repeat passages of its training music; check before you publish what it wrote.")
    return [line for line in lines if line]


def _against(results: Results) -> list[str]:
    lines = []
    for prompt, by_verdict in results.changes().items():
        if Verdict.WORSE in by_verdict:
            lines.append(f"Worse than the pretrained model ({prompt}): {'; '.join(by_verdict[Verdict.WORSE])}.")
    for prompt, cells in results.numbers().items():
        told = cells.get("c2st_auc")
        if told and told.low > 0.5:
            lines.append(
                f"Its pieces are told from real {results.target} ({prompt}): two-sample AUC {told.value:.2f} "
                f"[{told.low:.2f}, {told.high:.2f}]."
            )
    n = results.protocol.get("n")
    if isinstance(n, int) and n < QUOTED:
        lines.append(f"Measured on {n} pieces a row: too few for a two-sample number to be quoted (from {QUOTED} on).")
    judge = results.judge_auc
    if math.isfinite(judge.value) and judge.low < 0.8:
        lines.append(
            f"The evaluation's judge hears {results.target} with an AUC of {judge.value:.2f} only; do not read much "
            f"into `judged {results.target}`."
        )
    return lines


def _hears(trained: Trained) -> list[str]:
    lines = [
        "It hears what it was trained on. On small corpora a classifier may learn the format of a collection instead "
        "of its style; the rows for pairs of collections and for changed format show how far.",
        "As a reward it will be exploited: pieces that please it need not please anybody. Hold the policy back (KL), "
        "and listen.",
    ]
    lines += critic_limits(trained.card)
    if not trained.stock:
        lines += traits.limits(trained)
    elif trained.kind == CRITIC:
        worst, fewest = trained.critic.get("worst"), trained.critic.get("min_notes")
        lines.append(
            f"Excerpts of up to {trained.critic.get('max_tokens')} tokens are heard, the rest is cut. Below {fewest} "
            f"notes it does not judge and gives its worst score, {worst:.2f} nats."
            if isinstance(worst, float)
            else ""
        )
    return lines


# -------------------------------------------------------------------- parts


def example(remi: Remi) -> str:
    """A bar of music as text: five notes of equal length upwards."""
    names = np.array(remi.names)

    def token(kind: Kind, value: int) -> str:
        ids = np.flatnonzero(remi.kind == kind)
        return str(names[ids[np.abs(remi.value[ids] - value).argmin()]])

    words = ["Bar_None", token(Kind.TIME_SIGNATURE, 4)]
    for beat, pitch in enumerate((60, 63, 65, 67)):
        words.append(token(Kind.POSITION, beat * STEPS_PER_QUARTER))
        words += [token(Kind.PROGRAM, 0)] if remi.multi else []
        words += [
            token(Kind.PITCH, pitch),
            token(Kind.VELOCITY, 64),
            token(Kind.DURATION, STEPS_PER_QUARTER),
        ]
    return " ".join([*words, "EOS_None"])


def _prompt(trained: Trained) -> str:
    return " ".join(["BOS_None", *([f"{trained.style.upper()}_None"] if trained.style else []), "Bar_None"])


def _size(trained: Trained) -> str:
    count = trained.facts.get("parameters")
    if not count:
        return ""
    return f" of {count / 1e6:.{1 if count < 1e7 else 0}f} M parameters"


def _tables(page: Page) -> list[Table]:
    if page.results:
        return page.results.tables()
    return critic_tables(page.trained.card) or preference_tables(page.trained.facts)


def _more(page: Page) -> list[Table]:
    return page.results.tables(main=False) if page.results else critic_more(page.trained.card)


def _recipe(page: Page) -> str:
    """How a file is cleaned before it is judged: as the corpus was."""
    remi = page.trained.remi
    return str(page.corpus.get("recipe") or ("band" if remi is not None and remi.multi else "piano"))


def _changes(results: Results | None) -> list[str]:
    if results is None:
        return []
    words = {
        Verdict.BETTER: "better",
        Verdict.WORSE: "worse",
        Verdict.MOVED: "changed, not clearly for better or worse",
    }
    return [
        f"**{prompt}**: "
        + ("; ".join(f"{words[key]}: {', '.join(by[key])}" for key in words if key in by) or "no clear change")
        for prompt, by in results.changes().items()
    ]


def _clip_rows(page: Page) -> dict[str, Any]:
    """A table of players: a heading a column, a prompt a row."""
    headings = list(page.clips)
    rows = [
        ["no note" if clip is None else _player(clip, page.statement) for clip in clips]
        for clips in zip(*page.clips.values(), strict=True)
    ]
    return {"head": headings, "rows": rows}


def _player(clip: Clip, statement: Statement) -> str:
    # The Hub plays what has a whole address; the link beside it also works in a folder.
    return (
        f'<audio controls preload="none" src="{statement.file(clip.sound)}"></audio> '
        f"[ogg]({clip.sound}) · [MIDI]({clip.midi})"
    )


def _markdown(table: Table) -> dict[str, str]:
    """A table as GitHub's Markdown, with the names of other people's files and folders made harmless."""
    lines = [table.head, ["---", *["---:"] * (len(table.head) - 1)], *table.rows]
    body = "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)
    return {"title": _cell(table.title), "body": body}


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", str(text)).replace("|", "\\|").replace("<", "&lt;").strip()
