"""From measured numbers and played pieces to the report: which columns, which examples, which curves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mgen.encoding.remi import Remi
from mgen.evaluation.audio import ogg, synthesise, synthesiser
from mgen.evaluation.metrics import METRICS
from mgen.evaluation.protocol import Numbers, Played, changes
from mgen.evaluation.report import Column, Curve, Example, Row, Take, render_report
from mgen.notes import Notes
from mgen.rl.prompts import Prompts

KIND_TITLES = {
    "continue": "continue {target}: the prompt is {target} of the test split",
    "turn": "turn to {target}: the prompt is other music of the test split, {target} is asked for",
    "nothing": "from nothing: only the style is asked for",
}

LIMITS = (
    "Every interval is a 95 % bootstrap over works; it says nothing of another training seed.",
    "The two-sample test and the judge read one table of features: what it does not hear, no number here shows.",
    "Greedy decoding is measured on fewer prompts than sampling; its interval is wide.",
    "Audio is a plain synthesis at one tempo: the model writes neither tempo nor sound.",
)


@dataclass(frozen=True)
class Evaluation:
    """All that a report is made of.

    Attributes:
        played, numbers: player -> kind of prompt -> what it made, and its numbers. The first player is `real`, the
            second the one that the others were tuned from.
        prompts: kind -> prompts.
        folders: model -> folder of its run, where training curves and run.json are looked for.
        facts: what was run, in words.
    """

    played: Mapping[str, Mapping[str, Played]]
    numbers: Mapping[str, Mapping[str, Numbers]]
    prompts: Mapping[str, Prompts]
    folders: Mapping[str, Path]
    remi: Remi
    target: str
    facts: Mapping[str, str]


def columns(target: str) -> list[Column]:
    """The report's columns."""
    told = "how well a fresh classifier tells the pieces from real music of the style; 0.5: not at all"
    loops = "share of pieces with more than 0.6 of pitch 4-grams repeated"
    return [
        Column("c2st_auc", "two-sample AUC", "0.5", 2, told),
        Column(
            f"judge_{target}", f"judged {target}", "as real", 2, f"share that the evaluation's judge calls {target}"
        ),
        Column("loop_rate", "loops", "as real", 3, f"{loops}, sampled at temperature 1"),
        Column("loop_rate_greedy", "greedy loops", "lower", 2, f"{loops}, decoded greedily"),
        Column("rep4", "repeated 4-grams", "as real", 3, "share of pitch 4-grams that were heard before in the piece"),
        Column("H1", "entropy H1", "as real", 2, "entropy of pitch classes in a bar", "bits"),
        Column("swing", "swing ratio", "as real", 2, "median ratio of the two halves of a beat with two onsets"),
        Column("triplet_share", "triplets", "as real", 2, "share of onsets in triplet subdivisions"),
        Column("polyphony", "polyphony", "as real", 2, "notes sounding at a time, where any does"),
        Column("density", "notes a beat", "as real", 2, "onsets a quarter note"),
        Column("valid", "valid", "higher", 2, "share of pieces without a token that breaks the grammar"),
        Column("kl_piece", "KL", "stated", 1, "distance from the pretrained model, on own pieces", "nats a piece"),
    ]


def rows(evaluation: Evaluation) -> list[Row]:
    """A row a player and kind of prompt, with differences from the pretrained player prompt by prompt."""
    real, pretrained, *_ = evaluation.numbers
    out = []
    for kind, prompts in evaluation.prompts.items():
        group = KIND_TITLES[kind].format(target=evaluation.target)
        aim = evaluation.numbers[real]["continue" if kind == "turn" else kind]
        out.append(Row(f"real {evaluation.target}", "real", aim.cells, group))
        if kind == "turn":
            out.append(Row("the prompts' own music", "reference", evaluation.numbers[real][kind].cells, group))
        for name, by_kind in evaluation.numbers.items():
            if name == pretrained:
                out.append(Row(name, "pretrained", by_kind[kind].cells, group))
            elif name != real:
                differ = changes(by_kind[kind], evaluation.numbers[pretrained][kind], prompts.work)
                out.append(Row(name, "tuned", by_kind[kind].cells, group, differ))
    return out


def examples(evaluation: Evaluation, count: int, tempo: float = 120.0) -> list[Example]:
    """For each kind of prompt, the best, a typical and the worst piece of the last player, with everyone's takes of
    the prompt.
    """
    out = []
    last = list(evaluation.played)[-1]
    key = f"judge_{evaluation.target}"
    for kind, prompts in evaluation.prompts.items():
        notes = evaluation.played[last][kind].notes
        # Judged first, then by how near the share of repeats comes to real music's.
        real = np.nanmedian(evaluation.numbers["real"][kind].pieces["rep4"])
        far = np.abs(np.nan_to_num(METRICS["rep4"](notes), nan=1.0) - real)
        order = np.lexsort((far, -evaluation.numbers[last][kind].pieces[key]))
        picks = {"best": order[0], "typical": order[len(order) // 2], "worst": order[-1]}
        for tag, row in list(picks.items())[:count]:
            reason = {
                "best": f"judged {evaluation.target}, repeats as real music does",
                "typical": "in the middle of that order",
                "worst": f"last by the judge, then by repetition, of {len(order)} pieces of {last}",
            }[tag]
            takes = [
                _take(name, by_kind[kind], prompts, int(row), evaluation.remi, tempo)
                for name, by_kind in evaluation.played.items()
            ]
            out.append(Example(f"{kind}: {prompts.work[row]}", evaluation.target, tag, takes, reason))
    return out


def _take(name: str, played: Played, prompts: Prompts, row: int, remi: Remi, tempo: float) -> Take:
    head = prompts.ids.shape[1] - (0 if prompts.kind == "nothing" else prompts.prompt_tokens)  # BOS and style
    prompt = prompts.ids[row].tolist()
    notes = Notes.from_ids([prompt + played.completions[row]], remi, start=head)
    given = notes.onset[notes.token < len(prompt) - head]
    prompt_end = int(given.max()) + 1 if len(given) else None
    rep4 = float(METRICS["rep4"](played.notes.pieces([row]))[0])
    caption = f"{int(played.notes.counts[row])} notes, {rep4:.0%} of 4-grams repeated"
    return Take(name, notes, prompt_end, ogg(synthesise(notes.to_score(0, tempo))), caption, tempo)


CURVES = (
    ("style critic's score, mean over completions", "nats", ("rewards/style/mean",)),
    ("KL from the pretrained model", "nats a piece", ("policy/kl",)),
    ("entropy of the policy", "nats a token", ("entropy",)),
    ("adversary: accuracy on pieces it has not learned from", "share", ("realism/accuracy",)),
    (
        "repetition rules",
        "band widths",
        ("rewards/repetition_pitch/mean", "rewards/repetition_interval/mean", "rewards/longest_run/mean"),
    ),
    ("grammar gate", "nats", ("rewards/grammar/mean",)),
)


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
        shares = sorted({key for line in log for key in line if key.startswith("share/")})
        if shares:
            series = {key.removeprefix("share/").replace("_", " "): _series(log, key) for key in shares}
            out.append(Curve(f"{name}: share of the advantage", "share", dict(list(series.items())[:6])))
    return out


def _log(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _series(log: list[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    points = [(float(line["step"]), float(line[key])) for line in log if line.get(key) is not None]
    return [step for step, _ in points], [value for _, value in points]


def render(evaluation: Evaluation, title: str, shown: int) -> str:
    """report.html as text."""
    return render_report(
        title,
        rows(evaluation),
        columns(evaluation.target),
        curves(evaluation.folders),
        examples(evaluation, shown),
        {**evaluation.facts, "sound": synthesiser()},
        list(LIMITS),
    )
