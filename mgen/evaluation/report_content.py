"""The content of a report, from an evaluation or a comparison of folders: rows, examples, curves, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mgen.evaluation.captions import describe_piece
from mgen.evaluation.columns import columns
from mgen.evaluation.comparisons import SystemRow, format_interval
from mgen.evaluation.folders import FolderComparison
from mgen.evaluation.measure import Measurements, paired_differences
from mgen.evaluation.outcome import outcome
from mgen.evaluation.protocol import OWN_MUSIC, REAL, Evaluation
from mgen.evaluation.report import Example, ExamplePiece, Opening, render_report
from mgen.evaluation.self_reinforcement import RepetitionCurves
from mgen.render.audio import ogg, synthesise, synthesiser
from mgen.render.charts import Curve, Distribution
from mgen.runs.folder import CONFIG_FILE, RUN_FILE, read_facts
from mgen.runs.metrics import read_metrics
from mgen.sampling.samples import PromptedPiece, decode_with_prompt
from mgen.stats.graded import LENGTHS
from mgen.stats.intervals import Interval
from mgen.stored import explain_damage

PROMPT_TITLES = {
    "continuation": "continuation: the prompt is {target} from the test split",
    "transfer": "transfer: the prompt is other music from the test split, with the style token of {target}",
    "unconditional": "unconditional: the prompt is the style token of {target} alone",
}

ACTS = {
    "transfer": "plays {target} after other music",
    "continuation": "continues {target} as {target}",
    "unconditional": "plays {target} without a prompt",
}
"""What the judge's share is of, by prompt type; the first screen is about the first that was evaluated."""

REPETITION_ACROSS = "times that the bar was played just before"

LIMITS = (
    "Every interval is a 95 % bootstrap over works. It does not cover other training seeds, except in rows of several "
    "training runs, whose intervals include the spread of the runs.",
    "The two-sample test detects only differences that its two classifiers can use; the judge uses the features of "
    "one of them. No number here shows what both miss.",
    "Loop rates at other temperatures are measured on fewer prompts; their intervals are wide.",
    "Numbers that compare real music with itself compare two halves of it, with half as many pieces per side.",
    "Audio is a plain synthesis at one tempo: the models write neither tempo nor sound.",
)

DISTRIBUTIONS = (
    *("rep4", "interval_rep8", "H1", "CPI", "GS", "SI_short"),
    *("swing", "triplet_share", "polyphony", "density"),
)
"""Metrics whose distribution over pieces is drawn."""


def evaluation_page(
    evaluation: Evaluation, rows: Sequence[SystemRow], run_folders: Mapping[str, Path], title: str, examples: int
) -> str:
    """report.html of an evaluation.

    Args:
        rows: those of `system_rows`.
        run_folders: system -> folder of its run, for training curves, options and versions.
        examples: examples of each prompt type, at most 3.
    """
    remarks = [f"{name}: {system.remark}" for name, system in evaluation.systems.items() if system.remark]
    target = evaluation.protocol.target
    chosen = select_examples(evaluation, examples)
    about = next(prompt_type for prompt_type in ACTS if prompt_type in evaluation.prompts)
    opening = next(iter(chosen[about]), None)
    others = [example for found in chosen.values() for example in found if example is not opening]
    return render_report(
        title,
        rows,
        columns(target),
        training_curves(run_folders),
        others,
        {**run_facts(evaluation, run_folders), "sound": synthesiser()},
        [*LIMITS, *remarks],
        distributions=distributions(evaluation),
        by_length=curves_by_length(evaluation),
        repetition=charts_of_repetition(evaluation.repetition),
        opening=Opening(PROMPT_TITLES[about].format(target=target), ACTS[about].format(target=target), opening),
    )


def outcome_of(evaluation: Evaluation, rows: Sequence[SystemRow]) -> list[str]:
    """The outcome in words, from the rows of `system_rows`."""
    target = evaluation.protocol.target
    acts = {
        PROMPT_TITLES[name].format(target=target): act.format(target=target)
        for name, act in ACTS.items()
        if name in evaluation.prompts
    }
    return outcome(rows, columns(target), acts)


def system_rows(evaluation: Evaluation) -> list[SystemRow]:
    """A row for each system and prompt type, with paired differences from the pretrained model."""
    target, measurements = evaluation.protocol.target, evaluation.measurements
    pretrained = next(iter(evaluation.systems))
    out = []
    for prompt_type, prompts in evaluation.prompts.items():
        group = PROMPT_TITLES[prompt_type].format(target=target)
        out.append(SystemRow(f"real {target}", "real", _real(evaluation, prompt_type).metrics, group))
        if prompt_type == "transfer":
            own_music = measurements[REAL][prompt_type].metrics
            out.append(SystemRow(OWN_MUSIC, "reference", own_music, group))
        for name, system in evaluation.systems.items():
            own = measurements[name][prompt_type]
            if name == pretrained:
                out.append(SystemRow(name, system.role, own.metrics, group))
                continue
            compared = [
                other
                for other, row in evaluation.systems.items()
                if system.role == "tuned" and row.role in ("low_cost_baseline", "baseline")
            ]
            changes, *against = (
                paired_differences(own, measurements[other][prompt_type], prompts.work)
                for other in (pretrained, *compared)
            )
            by_name = dict(zip(compared, against, strict=True))
            out.append(SystemRow(name, system.role, own.metrics, group, changes, by_name))
    return out


def _real(evaluation: Evaluation, prompt_type: str) -> Measurements:
    """Measurements of the real music that a prompt type is compared with."""
    return evaluation.measurements[REAL]["continuation" if prompt_type == "transfer" else prompt_type]


def _by_system(evaluation: Evaluation, prompt_type: str) -> dict[str, Measurements]:
    """Measurements of real music, first, and of each system."""
    by_system = {f"real {evaluation.protocol.target}": _real(evaluation, prompt_type)}
    return by_system | {name: evaluation.measurements[name][prompt_type] for name in evaluation.systems}


def distributions(evaluation: Evaluation) -> list[Distribution]:
    """Values of all pieces of each system and of real music, for each prompt type."""
    target = evaluation.protocol.target
    out = []
    for prompt_type in evaluation.prompts:
        group = PROMPT_TITLES[prompt_type].format(target=target)
        out += _distributions(_by_system(evaluation, prompt_type), target, group)
    return out


def _distributions(measurements: Mapping[str, Measurements], target: str, group: str) -> list[Distribution]:
    """The distributions of several systems; the first one is real music."""
    by_key = {column.key: column for column in columns(target)}
    real = next(iter(measurements))
    return [
        Distribution(
            key,
            by_key[key].title,
            by_key[key].unit,
            by_key[key].explanation,
            {name: part.per_piece[key] for name, part in measurements.items()},
            real,
            group,
        )
        for key in DISTRIBUTIONS
    ]


def curves_by_length(evaluation: Evaluation) -> list[Curve]:
    """AUC by number of notes of each system and of real music, for each prompt type."""
    out = []
    for prompt_type in evaluation.prompts:
        out += _curves_by_length(_by_system(evaluation, prompt_type), prompt_type)
    return out


def _curves_by_length(measurements: Mapping[str, Measurements], title: str) -> list[Curve]:
    """One chart, of the systems and lengths that were measured; none without any."""
    series = {}
    for name, part in measurements.items():
        found = [(n, part.metrics[key].value) for n in LENGTHS if (key := f"auc_by_notes_{n}") in part.metrics]
        if known := [(float(n), value) for n, value in found if np.isfinite(value)]:
            series[name] = [n for n, _ in known], [value for _, value in known]
    return [Curve(title, "AUC", series, "notes", logarithmic=True)] if series else []


def charts_of_repetition(curves: RepetitionCurves) -> list[Curve]:
    """Likelihood and probability of a bar by the copies of it before, of each model; none without any."""
    likelihood = {name: _points(own.nats_per_note) for name, own in curves.models.items()}
    probability = {name: _points(own.probability) for name, own in curves.models.items()}
    if not any(steps for steps, _ in likelihood.values()):
        return []
    return [
        Curve("log-likelihood of a bar", "nats per note", likelihood, REPETITION_ACROSS),
        Curve(
            "probability that the bar is played once more",
            "probability; real music: share",
            {**probability, "real music": _points(curves.real)},
            REPETITION_ACROSS,
        ),
    ]


def _points(curve: Sequence[Interval]) -> tuple[list[float], list[float]]:
    """Numbers of copies, from 0, and values of a curve where it is defined."""
    known = [(float(copies), point.value) for copies, point in enumerate(curve) if np.isfinite(point.value)]
    return [copies for copies, _ in known], [value for _, value in known]


# ---------------------------------------------------------------- examples


def select_examples(evaluation: Evaluation, count: int) -> dict[str, list[Example]]:
    """For each prompt type a typical, the best and the worst piece of the first tuned model, with the completions of
    the same prompt by real music and every model.
    """
    target, remi = evaluation.protocol.target, evaluation.corpus.remi
    models = [name for name, system in evaluation.systems.items() if system.role in ("pretrained", "tuned")]
    subject = models[min(1, len(models) - 1)]
    out: dict[str, list[Example]] = {}
    for prompt_type, prompts in evaluation.prompts.items():
        own, real = (evaluation.measurements[name][prompt_type] for name in (subject, REAL))
        order = f"of {len(prompts.work)} pieces of {subject}, ordered by the judge, then by repetition"
        out[prompt_type] = []
        for tag, row in list(_typical_best_worst(own, real, target).items())[:count]:
            pieces = []
            for name in (REAL, *models):
                output = evaluation.outputs[name][prompt_type]
                ids, notes = output.completions[row], output.pieces.notes.pieces([row])
                probability = float(evaluation.judge.probability(notes)[0])
                caption = describe_piece(notes, target, probability, remi.eos_id in ids)
                shown = OWN_MUSIC if name == REAL and prompt_type == "transfer" else name
                pieces.append(_example_piece(shown, decode_with_prompt(prompts.ids[row], ids, remi), caption))
            reason = f"{_PLACES[tag]} {order}"
            out[prompt_type].append(Example(f"{prompt_type}: {prompts.work[row]}", target, tag, pieces, reason))
    return out


_PLACES = {"typical": "in the middle", "best": "first", "worst": "last"}


def _typical_best_worst(own: Measurements, real: Measurements, target: str) -> dict[str, int]:
    """Indices of pieces, ordered by the judge, then by the distance of rep4 from real music's median."""
    rep4 = np.nan_to_num(own.per_piece["rep4"], nan=1.0)
    distance = np.abs(rep4 - np.nanmedian(real.per_piece["rep4"]))
    order = np.lexsort((distance, -own.per_piece.get(f"judge_{target}", np.zeros(len(distance)))))
    return {"typical": int(order[len(order) // 2]), "best": int(order[0]), "worst": int(order[-1])}


def _example_piece(system: str, piece: PromptedPiece, caption: str) -> ExamplePiece:
    audio = ogg(synthesise(piece.notes.to_score(0)))
    return ExamplePiece(system, piece.notes, piece.prompt_end, audio, caption)


# ---------------------------------------------------------------- training


CURVES = (
    ("style critic's score, mean over completions", "nats", ("rewards/style/mean",)),
    ("KL from the pretrained model", "nats per piece", ("policy/kl",)),
    ("KL of a step", "nats per piece", ("policy/kl_step",)),
    (
        "held-out: AUC of real music against completions",
        "AUC",
        ("guard/continuation/auc", "guard/transfer/auc"),
    ),
    ("mean probability of the style", "share", ("probability/style",)),
    ("KL efficiency: the least KL for that change over the KL spent", "share", ("kl_efficiency/style",)),
    ("discriminator: AUC on pieces before it is fitted on them", "AUC", ("realism/auc", "realism/fresh_auc")),
    ("discriminator: mean score", "nats", ("realism/logit_real", "realism/logit_generated")),
    (
        "repetition rules",
        "band widths",
        ("rewards/repetition_interval/mean", "rewards/repetition_rhythm/mean", "rewards/phrase_reuse/mean"),
    ),
    ("grammar rule", "nats", ("rewards/grammar/mean",)),
)

MOST_SHARES = 6  # judges in a chart of shares of the advantage: those with the largest


def training_curves(folders: Mapping[str, Path]) -> list[Curve]:
    """Training curves from the metrics.jsonl of each run that has one."""
    logs = {name: read_metrics(folder) for name, folder in folders.items()}
    out = []
    for name, log in logs.items():
        loss = {
            title: _series(log, key)
            for title, key in (("train", "loss"), ("valid", "eval_loss"))
            if any("eval_loss" in line for line in log) and any(key in line for line in log)
        }
        if loss:
            out.append(Curve(f"{name}: next-token loss", "nats per token", loss))
    for title, unit, keys in CURVES:
        series = {}
        for name, log in logs.items():
            for key in keys:
                if any(key in line for line in log):
                    label = name if len(keys) == 1 else f"{name}: {key.split('/')[1].replace('_', ' ')}"
                    series[label] = _series(log, key)
        if series:
            out.append(Curve(title, unit, series))
    for name, log in logs.items():
        shares = {key: _series(log, key) for line in log for key in line if key.startswith("share/")}
        if shares:
            largest = sorted(shares, key=lambda key: -sum(shares[key][1]))[:MOST_SHARES]
            series = {key.removeprefix("share/").replace("_", " "): shares[key] for key in largest}
            out.append(Curve(f"{name}: share of the advantage, the {len(largest)} largest", "share", series))
    return out


def _series(log: list[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    points = [(float(line["step"]), float(line[key])) for line in log if line.get(key) is not None]
    return [step for step, _ in points], [value for _, value in points]


def run_facts(evaluation: Evaluation, folders: Mapping[str, Path]) -> dict[str, str]:
    """The protocol, and of each model the options, time, machine and versions of its run."""
    out = {
        "protocol": ", ".join(f"{name} {value}" for name, value in vars(evaluation.protocol).items()),
        "judge": f"trained on the split judge, AUC on test {format_interval(evaluation.judge_auc)}",
    }
    for name, folder in folders.items():
        path = folder / RUN_FILE
        if path.is_file():
            with explain_damage(folder, "give a folder of a run, or its model alone"):
                run = read_facts(folder)
                config = (folder / CONFIG_FILE).read_text(encoding="utf-8").strip()
                versions = ", ".join(f"{package} {version}" for package, version in run["versions"].items())
                machine = ", ".join(f"{key} {value}" for key, value in run["machine"].items() if value)
            out[name] = f"{run.get('seconds', '?')} s, {machine}\n{versions}\n{config}"
    return out


# ---------------------------------------------------------------- folders

FOLDER_LIMITS = (
    "Every interval is a 95 % bootstrap over works, which are identified by file names.",
    "Files were cleaned as in a corpus: tempo, pedal, instruments and ranges of velocity are not compared.",
    "For music without a beat grid, swing, grooving and bars have no meaning.",
    *LIMITS[1:2],
    *LIMITS[3:4],
)


def folder_page(comparison: FolderComparison, title: str, examples: int) -> str:
    """report.html of a comparison of folders."""
    rows = zip(comparison.names, ("real", "evaluated"), comparison.measurements, strict=True)
    by_name = dict(zip(comparison.names, comparison.measurements, strict=True))
    unit = f"excerpts of {comparison.length} notes" if comparison.length else "complete pieces"
    n = comparison.excerpts[1].notes.n_pieces
    chosen = select_folder_examples(comparison, examples)
    return render_report(
        title,
        [SystemRow(name, role, part.metrics) for name, role, part in rows],
        columns("the style"),
        [],
        chosen[1:],
        {"compared": f"{n} {unit} per side", "sound": synthesiser(), **comparison.remarks},
        FOLDER_LIMITS,
        distributions=_distributions(by_name, "the style", ""),
        listening="Pieces of the folder, ordered by how close their repetition is to the reference.",
        by_length=_curves_by_length(by_name, "first notes of the excerpts"),
        opening=Opening("", "", next(iter(chosen), None)),
    )


def select_folder_examples(comparison: FolderComparison, count: int) -> list[Example]:
    """A typical piece with one of the reference, and the pieces whose repetition is closest to the reference and
    farthest from it.
    """
    real, own = comparison.measurements
    folder, reference = comparison.names[1], comparison.names[0]
    order = f"of {len(comparison.excerpts[1].work)} pieces, ordered by nearness of repetition to {reference}"
    out = []
    for tag, row in list(_typical_best_worst(own, real, "").items())[:count]:
        pieces = [_folder_piece(comparison, 1, row)]
        if tag == "typical":
            pieces.append(_folder_piece(comparison, 0, _typical_best_worst(real, real, "")[tag]))
        name = str(comparison.excerpts[1].work[row])
        out.append(Example(name, folder, tag, pieces, f"{_PLACES[tag]} {order}"))
    return out


def _folder_piece(comparison: FolderComparison, side: int, row: int) -> ExamplePiece:
    notes = comparison.excerpts[side].notes.pieces([row])
    caption = describe_piece(notes, ends=not comparison.length)
    return _example_piece(comparison.names[side], PromptedPiece(notes, None), caption)
