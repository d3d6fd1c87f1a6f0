"""From measured numbers and played pieces to the report: which columns, which examples, which curves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mgen.encoding.remi import Remi
from mgen.evaluation.columns import columns
from mgen.evaluation.folders import Compared
from mgen.evaluation.measure import Numbers, changes
from mgen.evaluation.protocol import EvaluatedSystem, PromptSet, SystemOutput
from mgen.evaluation.report import Curve, Distribution, Example, Row, Take, render_report
from mgen.music.metrics import METRICS
from mgen.notes import Notes
from mgen.render.audio import ogg, synthesise, synthesiser
from mgen.sampling.samples import PromptedPiece, decode_with_prompt

PROMPT_TITLES = {
    "continuation": "continuation: the prompt is {target} from the test split",
    "transfer": "transfer: the prompt is other music from the test split, with the style token of {target}",
    "unconditional": "unconditional: the prompt is the style token of {target} alone",
}

LIMITS = (
    "Every interval is a 95 % bootstrap over works. It says nothing of another training seed, but for rows of several "
    "training runs, whose spread is joined to it.",
    "The two-sample test hears what its two classifiers hear; the judge reads the same features as one of them. What "
    "neither hears, no number here shows.",
    "Numbers of loops at other temperatures are measured on fewer prompts; their intervals are wide.",
    "Numbers that compare real music with itself compare two halves of it, with half as many pieces a side.",
    "Audio is a plain synthesis at one tempo: the model writes neither tempo nor sound.",
)

SHOWN_WHOLE = ("rep4", "interval_rep8", "H1", "CPI", "GS", "SI_short", "swing", "triplet_share", "polyphony", "density")
"""Metrics whose distribution over pieces is drawn."""


@dataclass(frozen=True)
class Evaluation:
    """All that a report on models is made of.

    Attributes:
        played, numbers: player -> kind of prompt -> what it made, and its numbers. The first player is `real`, the
            second the one that the others were tuned from.
        asked: kind -> prompts.
        systems: player -> what it is; real music is not among them.
        folders: model -> folder of its run, where training curves and run.json are looked for.
        facts: what was run, in words.
    """

    played: Mapping[str, Mapping[str, SystemOutput]]
    numbers: Mapping[str, Mapping[str, Numbers]]
    asked: Mapping[str, PromptSet]
    systems: Mapping[str, EvaluatedSystem]
    folders: Mapping[str, Path]
    remi: Remi
    target: str
    facts: Mapping[str, str]


def rows(evaluation: Evaluation) -> list[Row]:
    """A row a player and kind of prompt, with differences from the pretrained player prompt by prompt."""
    real, pretrained, *_ = evaluation.numbers
    out = []
    for kind, asked in evaluation.asked.items():
        group = PROMPT_TITLES[kind].format(target=evaluation.target)
        aim = evaluation.numbers[real]["continuation" if kind == "transfer" else kind]
        out.append(Row(f"real {evaluation.target}", "real", aim.cells, group))
        if kind == "transfer":
            out.append(Row("the prompts' own music", "reference", evaluation.numbers[real][kind].cells, group))
        for name, system in evaluation.systems.items():
            numbers = evaluation.numbers[name][kind]
            if name == pretrained:
                out.append(Row(name, system.role, numbers.cells, group))
            else:
                differ = changes(numbers, evaluation.numbers[pretrained][kind], asked.work)
                against = {
                    other: changes(numbers, evaluation.numbers[other][kind], asked.work)
                    for other, of in evaluation.systems.items()
                    if system.role == "tuned" and of.role in ("low_cost_baseline", "baseline")
                }
                out.append(Row(name, system.role, numbers.cells, group, differ, against))
    return out


def distributions(evaluation: Evaluation) -> list[Distribution]:
    """Values of every piece, beside real music's, for each kind of prompt."""
    real, *others = evaluation.numbers
    said = {column.key: column for column in columns(evaluation.target)}
    out = []
    for kind in evaluation.asked:
        aim = evaluation.numbers[real]["continuation" if kind == "transfer" else kind]
        for key in SHOWN_WHOLE:
            name = f"real {evaluation.target}"
            values = {name: aim.pieces[key]} | {row: evaluation.numbers[row][kind].pieces[key] for row in others}
            column = said[key]
            group = PROMPT_TITLES[kind].format(target=evaluation.target)
            out.append(Distribution(key, column.title, column.unit, column.explanation, values, name, group))
    return out


def _order(numbers: Numbers, real: Numbers, target: str) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Pieces from best to worst: judged first, then by how near the share of repeats comes to real music's."""
    far = np.abs(np.nan_to_num(numbers.pieces["rep4"], nan=1.0) - np.nanmedian(real.pieces["rep4"]))
    judged = numbers.pieces.get(f"judge_{target}", np.zeros(len(far)))
    return np.lexsort((far, -judged))


def examples(evaluation: Evaluation, count: int, tempo: float = 120.0) -> list[Example]:
    """For each kind of prompt, the best, the worst and a typical piece of the last tuned player, with the takes of real
    music and every model of the prompt.
    """
    out = []
    models = [name for name, system in evaluation.systems.items() if system.role in ("pretrained", "tuned")]
    last = models[-1]
    for kind, asked in evaluation.asked.items():
        order = _order(evaluation.numbers[last][kind], evaluation.numbers["real"][kind], evaluation.target)
        picks = {"best": order[0], "worst": order[-1], "typical": order[len(order) // 2]}
        ids, works = asked.ids, asked.work
        for tag, row in list(picks.items())[:count]:
            reason = {
                "best": f"judged {evaluation.target}, repeats as real music does",
                "typical": "in the middle of that order",
                "worst": f"last by the judge, then by repetition, of {len(order)} pieces of {last}",
            }[tag]
            takes = []
            for name in ("real", *models):
                played = evaluation.played[name][kind]
                piece = decode_with_prompt(ids[row], played.completions[row], evaluation.remi)
                takes.append(_take(name, piece, played.pieces.notes.pieces([int(row)]), tempo))
            out.append(Example(f"{kind}: {works[row]}", evaluation.target, tag, takes, reason))
    return out


def _take(name: str, piece: PromptedPiece, own: Notes, tempo: float) -> Take:
    rep4 = float(METRICS["rep4"](own)[0])
    caption = f"{len(own)} notes" + (f", {rep4:.0%} of 4-grams repeated" if np.isfinite(rep4) else "")
    return Take(name, piece.notes, piece.prompt_end, ogg(synthesise(piece.notes.to_score(0, tempo))), caption, tempo)


CURVES = (
    ("style critic's score, mean over completions", "nats", ("rewards/style/mean",)),
    ("KL from the pretrained model", "nats a piece", ("policy/kl",)),
    ("entropy of the policy", "nats a token", ("entropy",)),
    ("discriminator: accuracy on pieces it has not learned from", "share", ("realism/accuracy",)),
    (
        "repetition rules",
        "band widths",
        ("rewards/repetition_pitch/mean", "rewards/repetition_interval/mean", "rewards/longest_run/mean"),
    ),
    ("grammar gate", "nats", ("rewards/grammar/mean",)),
)

MOST_SHARES = 6
"""Curves of one picture: of more judges, those with the largest share of the advantage are shown."""


def curves(folders: Mapping[str, Path]) -> list[Curve]:
    """Training curves from the metrics.jsonl of each run that left one."""
    logs = {name: _log(folder) for name, folder in folders.items()}
    out = []
    for name, log in logs.items():
        loss = {
            title: _series(log, key)
            for title, key in (("train", "loss"), ("valid", "eval_loss"))
            if any("eval_loss" in line for line in log) and any(key in line for line in log)
        }
        if loss:
            out.append(Curve(f"{name}: next-token loss", "nats a token", loss))
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
            loudest = sorted(shares, key=lambda key: -sum(shares[key][1]))[:MOST_SHARES]
            series = {key.removeprefix("share/").replace("_", " "): shares[key] for key in loudest}
            out.append(Curve(f"{name}: share of the advantage, the {len(loudest)} loudest", "share", series))
    return out


def _log(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _series(log: list[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    points = [(float(line["step"]), float(line[key])) for line in log if line.get(key) is not None]
    return [step for step, _ in points], [value for _, value in points]


def model_page(evaluation: Evaluation, title: str, shown: int) -> str:
    """report.html of models, as text."""
    remarks = [f"{name}: {system.remark}" for name, system in evaluation.systems.items() if system.remark]
    return render_report(
        title,
        rows(evaluation),
        columns(evaluation.target),
        curves(evaluation.folders),
        examples(evaluation, shown),
        {**evaluation.facts, "sound": synthesiser()},
        [*LIMITS, *remarks],
        distributions=distributions(evaluation),
    )


FOLDER_LIMITS = (
    "Every interval is a 95 % bootstrap over works, which are told by file names.",
    "Files were cleaned as a corpus is: tempo, pedal, instruments and ranges of velocity are not compared.",
    "Music without a beat grid is written on a clock: swing, grooving and bars then mean nothing.",
    *LIMITS[1:2],
    *LIMITS[3:4],
)


def folder_page(found: Compared, title: str, shown: int) -> str:
    """report.html of a folder beside another, as text."""
    real = found.names[0]
    said = columns("the style")
    cells = zip(found.names, ("real", "midi"), found.numbers, strict=True)
    values = {column.key: column for column in said}
    whole_pieces = "whole pieces" if not found.length else f"excerpts of {found.length} notes"
    n = found.pieces[1].notes.n_pieces
    return render_report(
        title,
        [Row(name, kind, numbers.cells, "") for name, kind, numbers in cells],
        said,
        [],
        folder_examples(found, shown),
        {"compared": f"{n} {whole_pieces} a side", "sound": synthesiser(), **found.remarks},
        FOLDER_LIMITS,
        distributions=[
            Distribution(
                key,
                values[key].title,
                values[key].unit,
                values[key].explanation,
                {name: part.pieces[key] for name, part in zip(found.names, found.numbers, strict=True)},
                real,
                "",
            )
            for key in SHOWN_WHOLE
        ],
        listening="What the folder holds, from what repeats as the reference does to what does not.",
    )


def folder_examples(found: Compared, shown: int, tempo: float = 120.0) -> list[Example]:
    """A piece of the folder whose share of repeats is as real music's, one far from it and one between."""
    order = _order(found.numbers[1], found.numbers[0], "")
    picks = {"best": order[0], "worst": order[-1], "typical": order[len(order) // 2]}
    reasons = {
        "best": "repeats as the reference does",
        "worst": "farthest from how the reference repeats",
        "typical": "in the middle of that order",
    }
    out = []
    for tag, row in list(picks.items())[:shown]:
        one = found.pieces[1].notes.pieces([int(row)])
        name = f"an excerpt of {found.names[1]}" if found.length else f"a piece of {found.names[1]}"
        take = _take(name, PromptedPiece(one, None), one, tempo)
        out.append(Example(str(found.pieces[1].work[row]), found.names[1], tag, [take], reasons[tag]))
    return out
