"""Evaluation results in the forms of the Hub: tables of the model card, `.eval_results/*.yaml`, `model-index`.

Reads metrics.json of `mgen evaluate` and card.json of `mgen critic`; computes nothing.

Source of the formats: https://huggingface.co/docs/hub/eval-results, and the classes of `huggingface_hub` for both.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml, parse_eval_result_entries

from mgen.errors import MgenError
from mgen.evaluation.columns import MetricColumn, columns
from mgen.evaluation.comparisons import Verdict, role_in_words, verdict
from mgen.evaluation.report_content import PROMPT_TITLES
from mgen.renames import check_metrics_keys
from mgen.stats.intervals import BOUND_SIGNS, Interval
from mgen.stored import explain_damage, read_json

REAL = "real"
FOLDER = ".eval_results"
FILE_PREFIX = "mgen_"
"""Of our files in that folder, which others may share."""

SENSITIVE = 0.5  # nats: a critic is sensitive to a transform that changes its score by at least this
_UNDEFINED = "\N{EN DASH}"


@dataclass(frozen=True)
class CardTable:
    """A table of the model card: `head` and `rows` hold text cells; the first cell of a row is its name."""

    title: str
    head: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class EvaluationResults:
    """An evaluation, seen from one of its systems: the published model.

    Attributes:
        name: row of the model.
        pretrained: row of the model it was fine-tuned from.
        systems: name -> role: `real`, `reference`, `baseline`, `pretrained`, `low_cost_baseline` or `tuned`, in table
            order.
        rows: system -> prompt type -> metric -> number.
        protocol: as in metrics.json.
        judge_auc: of the evaluation judge.
        content: metrics.json.
    """

    name: str
    pretrained: str
    systems: dict[str, str]
    rows: dict[str, dict[str, dict[str, Interval]]]
    protocol: dict[str, Any]
    judge_auc: Interval
    content: dict[str, Any] = field(repr=False)

    @classmethod
    def read(cls, folder: Path | str, name: str) -> EvaluationResults:
        """Reads metrics.json of an evaluation.

        Args:
            folder: of the evaluation.
            name: row of the published model.

        Raises:
            MgenError: There is no metrics.json, it is not of `mgen evaluate --model`, or no model has that name.
        """
        path = Path(folder) / "metrics.json"
        if not path.is_file():
            raise MgenError(f"--evaluation {folder}: found no {path.name}; give the --out of mgen evaluate")
        content = read_json(path, "evaluate again")
        check_metrics_keys(path, content)
        with explain_damage(path, "evaluate again with mgen evaluate --model"):
            rows = {
                system: {
                    prompt_type: {metric: _interval(cell) for metric, cell in cells.items()}
                    for prompt_type, cells in by_type.items()
                }
                for system, by_type in content["rows"].items()
            }
            systems = {system: str(content["systems"][system]) for system in rows}
            protocol = dict(content["protocol"])
            judge_auc = _interval(content.get("judge_auc") or {})
        if REAL not in rows or not any(rows[REAL].values()):
            raise MgenError(f"{path}: has no row '{REAL}'; evaluate again")
        models = [system for system in rows if system != REAL]
        trained = [system for system in models if systems[system] in {"pretrained", "tuned", "low_cost_baseline"}]
        if name not in models:
            similar = difflib.get_close_matches(name, models, n=1)
            hint = f"did you mean --name {similar[0]}?" if similar else "give --name ROW"
            raise MgenError(f"{path}: no row is called '{name}'; it has {', '.join(trained)}; {hint}")
        pretrained = next((system for system, role in systems.items() if role == "pretrained"), models[0])
        return cls(name, pretrained, systems, rows, protocol, judge_auc, content)

    @property
    def target(self) -> str:
        return str(self.protocol.get("target", "the style"))

    @property
    def prompt_types(self) -> list[str]:
        """Prompt types that the model was evaluated on."""
        return list(self.rows[self.name])

    def provenance(self) -> str:
        """What every number is computed from, in a few words."""
        facts = [f"{self.protocol['n']} pieces" if "n" in self.protocol else ""]
        facts += [f"prompts from the test split of corpus {self.protocol['data']}" if "data" in self.protocol else ""]
        return ", ".join(filter(None, facts))

    def real(self, prompt_type: str) -> dict[str, Interval]:
        """Numbers of real music to compare with; transfer is compared with real music of the target style."""
        return self.rows[REAL].get("continuation" if prompt_type == "transfer" else prompt_type, {})

    def columns(self) -> list[MetricColumn]:
        """Columns of the report that any system has a number for."""
        known = {metric for by_type in self.rows.values() for cells in by_type.values() for metric in cells}
        return [column for column in columns(self.target) if column.key in known]

    def explanations(self) -> list[tuple[str, str]]:
        """Title and explanation of each column."""
        return [(column.title, column.explanation) for column in self.columns() if column.explanation]

    def changes(self) -> dict[str, dict[Verdict, list[str]]]:
        """Compares with the pretrained model: prompt type -> verdict -> changes such as `loops 0.23 → 0.55`."""
        out: dict[str, dict[Verdict, list[str]]] = {}
        if self.name == self.pretrained:
            return out
        for prompt_type, cells in self.rows[self.name].items():
            before = self.rows[self.pretrained].get(prompt_type, {})
            real = self.real(prompt_type)
            for column in self.columns():
                pair = before.get(column.key), cells.get(column.key)
                if pair[0] is None or pair[1] is None:
                    continue
                change = verdict(pair[0], pair[1], column, real.get(column.key))
                if change is not None:
                    text = f"{column.title} {_value(pair[0], column.digits)} → {_value(pair[1], column.digits)}"
                    if column.better == "as real":
                        text += f" (real {_value(real[column.key], column.digits)})"
                    out.setdefault(prompt_type, {}).setdefault(change, []).append(text)
        return out

    def tables(self, main: bool = True) -> list[CardTable]:
        """One table per prompt type: the model next to real music and the pretrained model.

        Args:
            main: the columns of the report's short table; otherwise all others.
        """
        out = []
        shown_columns = [column for column in self.columns() if column.main == main]
        for prompt_type in self.prompt_types:
            shown = {f"real {self.target}": self.real(prompt_type)}
            if self.name != self.pretrained:
                shown["pretrained"] = self.rows[self.pretrained].get(prompt_type, {})
            shown["**this model**"] = self.rows[self.name][prompt_type]
            rows = [
                [
                    _title(column),
                    *(_text(cells.get(column.key), column.digits) for cells in shown.values()),
                    _best(column),
                ]
                for column in shown_columns
                if any(column.key in cells for cells in shown.values())
            ]
            title = PROMPT_TITLES.get(prompt_type, prompt_type).format(target=self.target)
            if rows:
                out.append(CardTable(title, ["", *shown, "best"], rows))
        return out

    def others(self) -> CardTable | None:
        """Systems other than real music, this model and its pretrained model; None without any."""
        names = [system for system in self.rows if system not in {REAL, self.pretrained, self.name}]
        kept = [column for column in self.columns() if column.key in headlines(self.target)]
        rows = []
        for prompt_type in self.prompt_types:
            for system in [self.name, *names]:
                cells = self.rows[system].get(prompt_type)
                if cells and names:
                    shown = f"{system} ({role_in_words(self.systems[system])})"
                    shown = "**this model**" if system == self.name else shown
                    rows.append([shown, prompt_type, *(_text(cells.get(column.key), column.digits) for column in kept)])
        head = ["", "prompts", *(f"{column.title} (best: {_best(column)})" for column in kept)]
        return CardTable("Other systems", head, rows) if rows else None

    def numbers(self) -> dict[str, dict[str, Interval]]:
        """Prompt type -> metric -> the model's number, defined ones only."""
        return {
            prompt_type: {metric: cell for metric, cell in cells.items() if math.isfinite(cell.value)}
            for prompt_type, cells in self.rows[self.name].items()
        }


def critic_numbers(card: Mapping[str, Any]) -> dict[str, dict[str, Interval]]:
    """Returns the group `critic`: the numbers of its test split."""
    test = card.get("test") or {}
    numbers = {name: _interval(test[name]) for name in ("auc", "accuracy") if name in test}
    pairs = [_interval(pair) for others in (test.get("pairs") or {}).values() for pair in others.values()]
    if pairs:
        numbers["auc_worst_pair"] = min(pairs, key=lambda pair: pair.value)
    if "ece" in test:
        numbers["calibration_error"] = Interval(float(test["ece"]), math.nan, math.nan)
    return {"critic": {name: cell for name, cell in numbers.items() if math.isfinite(cell.value)}} if numbers else {}


def critic_tables(card: Mapping[str, Any]) -> list[CardTable]:
    """Tables of a critic's test split: discrimination, and how transforms of the music change its score."""
    test = card.get("test") or {}
    if not test:
        return []
    style = card.get("positive", "the style")
    rows: list[tuple[str, Any, int, str]] = [("AUC", test.get("auc"), 3, "1")]
    rows += [("accuracy", test.get("accuracy"), 3, "1")]
    rows += [
        (f"AUC, {a} against {b}", pair, 3, "1") for a, them in test.get("pairs", {}).items() for b, pair in them.items()
    ]
    rows += [
        (f"mean log P({style}) of {'other music' if side == 'other' else style}, nats", cell, 2, best)
        for side, best in (("positive", "0"), ("other", "low"))
        if (cell := test.get("score", {}).get(side))
    ]
    discrimination = CardTable(
        f"{test.get('n', '?')} excerpts of {test.get('works', '?')} works of the test split",
        ["", "value", "best"],
        [[name, _text(_interval(cell or {}), digits), best] for name, cell, digits, best in rows],
    )
    expected = {"format": "0: only the format changed", "corrupted": "far below 0: the music is corrupted"}
    moved = [
        [name.replace("_", " "), _text(_interval(cell), 2), best]
        for part, best in expected.items()
        for name, cell in (test.get(part) or {}).items()
    ]
    title = f"change of the score of real {style} under one transform, in nats"
    return [discrimination, *([CardTable(title, ["", "change", "should be"], moved)] if moved else [])]


def critic_more(card: Mapping[str, Any]) -> list[CardTable]:
    """Further tables of a critic: by length of excerpts, degenerate inputs, reliability."""
    test = card.get("test") or {}
    out = []
    lengths = card.get("by_length") or {}
    if lengths:
        rows = [
            [
                count,
                str(part.get("n", "?")),
                *(_text(_interval(part.get(name) or {}), 3) for name in ("auc", "accuracy")),
                f"{part.get('ece', math.nan):.3f}",
            ]
            for count, part in lengths.items()
        ]
        head = ["notes", "excerpts", "AUC", "accuracy", "calibration error"]
        out.append(CardTable("By the number of notes", head, rows))
    out += [_degenerate_inputs(count, kinds) for count, kinds in (card.get("degenerate_inputs") or {}).items()]
    bins = test.get("reliability") or []
    if bins:
        style = card.get("positive", "the style")
        rows = [[f"{cell['predicted']:.2f}", f"{cell['observed']:.2f}", str(cell["n"])] for cell in bins]
        out.append(CardTable("Reliability", [f"predicted P({style})", f"share of {style}", "excerpts"], rows))
    return out


def _degenerate_inputs(count: str, kinds: Mapping[str, Any]) -> CardTable:
    """Scores of degenerate inputs, for critics trained with their kind and for critics trained without it."""

    def shown(part: Mapping[str, Any] | None, name: str, form: str) -> str:
        return _UNDEFINED if not part or part.get(name) is None else format(part[name], form)

    rows = [
        [
            name.replace("_", " "),
            str(cell.get("n", "?")),
            *(shown(cell.get(part), "above_median", ".1%") for part in ("trained", "left_out")),
            *(shown(cell.get("left_out"), name, form) for name, form in (("change", ".2f"), ("abstained", ".1%"))),
        ]
        for name, cell in kinds.items()
    ]
    head = ["", "inputs", "above median of real", "same, kind not trained", "change from real, nats", "abstained"]
    return CardTable(f"Degenerate inputs, {count} notes", head, rows)


def preference_numbers(facts: Mapping[str, Any]) -> dict[str, dict[str, Interval]]:
    """Returns the group `preference` from run.json of `mgen prefer`: how it orders held-out pairs."""
    numbers = {name: _interval(facts[name]) for name in ("accuracy", "margin") if isinstance(facts.get(name), dict)}
    return {"preference": numbers} if numbers else {}


def preference_tables(facts: Mapping[str, Any]) -> list[CardTable]:
    """The same as a table of the card."""
    numbers = preference_numbers(facts).get("preference", {})
    names = {"accuracy": "pairs in the listeners' order", "margin": "log-odds of that order, nats"}
    rows = [
        [names[name], _text(cell, 3), best]
        for name, best in (("accuracy", "1"), ("margin", "high"))
        if (cell := numbers.get(name))
    ]
    counts = facts.get("pairs") or {}
    return [CardTable(f"{counts.get('valid', '?')} held-out pairs", ["", "value", "best"], rows)] if rows else []


def critic_limits(card: Mapping[str, Any]) -> list[str]:
    """Weaknesses that a critic's own card shows, in sentences."""
    test = card.get("test") or {}
    out = []
    pairs = [(_interval(cell), a, b) for a, them in test.get("pairs", {}).items() for b, cell in them.items()]
    if pairs:
        worst, a, b = min(pairs, key=lambda pair: pair[0].value)
        out.append(f"Its worst pair of collections is {_quote(a)} against {_quote(b)}: AUC {_text(worst, 3)}.")
    moved = {
        part: {name.replace("_", " "): _interval(cell) for name, cell in (test.get(part) or {}).items()}
        for part in ("format", "corrupted")
    }
    missed = [f"{name} ({cell.value:.2f})" for name, cell in moved["corrupted"].items() if cell.value > -SENSITIVE]
    if missed:
        hardly = f"It hardly reacts to some corruptions (the score falls by less than {SENSITIVE} nats)"
        out.append(f"{hardly}: {', '.join(missed)}.")
    format_sensitive = [
        f"{name} ({cell.value:+.2f})" for name, cell in moved["format"].items() if abs(cell.value) >= SENSITIVE
    ]
    if format_sensitive:
        out.append(f"Changes of format alone move its score: {', '.join(format_sensitive)} nats.")
    return out


def write_eval_results(
    folder: Path, numbers: Mapping[str, Mapping[str, Interval]], dataset: str, source: str = "", about: str = ""
) -> list[Path]:
    """Writes `.eval_results/mgen_<group>.yaml`, one file per group of numbers, in the Hub's format.

    The Hub lists them on the model's page, and on the leaderboard of the data set if that has an eval.yaml with
    these tasks and is registered as a benchmark. A task is called `<group>_<metric>`.

    Args:
        folder: of the model repository.
        numbers: group -> metric -> number.
        dataset: Hub id of the evaluation data set.
        source: address of the model card.
        about: added to every note, after the interval.

    Raises:
        MgenError: The files do not read back as written.
    """
    out = []
    for group, cells in numbers.items():
        entries = [
            EvalResultEntry(
                dataset_id=dataset,
                task_id=f"{group}_{metric}",
                value=_round(cell.value),
                source_url=source or None,
                source_name="Model card" if source else None,
                notes="; ".join(filter(None, (_note(cell), about))) or None,
            )
            for metric, cell in cells.items()
        ]
        if not entries:
            continue
        path = folder / FOLDER / f"{FILE_PREFIX}{group}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, width=120))
        if parse_eval_result_entries(yaml.safe_load(path.read_text())) != entries:
            raise MgenError(f"{path}: does not read back as written; report this, with the evaluation")
        out.append(path)
    return out


def model_index(
    numbers: Mapping[str, Mapping[str, Interval]], keep: Mapping[str, str], task: tuple[str, str], data: tuple[str, str]
) -> list[EvalResult]:
    """The older form of results, inside the card's metadata, which many tools read.

    Args:
        numbers: group -> metric -> number.
        keep: metrics to include -> their titles.
        task: type and name of the task.
        data: id and name of the data set.
    """
    return [
        EvalResult(
            task_type=task[0],
            task_name=task[1],
            dataset_type=data[0],
            dataset_name=data[1],
            dataset_config=group,
            dataset_split="test",
            metric_type=metric,
            metric_name=f"{keep[metric]} ({_note(cell)})" if _note(cell) else keep[metric],
            metric_value=_round(cell.value),
        )
        for group, cells in numbers.items()
        for metric, cell in cells.items()
        if metric in keep
    ]


def headlines(target: str) -> dict[str, str]:
    """The few metrics that every summary shows -> their titles."""
    keys = ("notes_until_told", "c2st_auc", f"judge_{target}", "loop_rate", "loop_rate_greedy", "kl_piece")
    return {column.key: column.title for column in columns(target) if column.key in keys}


def _interval(cell: Mapping[str, Any]) -> Interval:
    numbers = [cell.get(name) for name in ("value", "low", "high")]
    value, low, high = (math.nan if number is None else float(number) for number in numbers)
    bounds = [bound for bound in BOUND_SIGNS if bound == cell.get("bound")]
    return Interval(value, low, high, int(cell.get("undefined") or 0), bound=bounds[0] if bounds else "")


def _round(value: float) -> float:
    """Rounds to six significant digits."""
    return float(f"{value:.6g}")


def _note(cell: Interval) -> str:
    if not (math.isfinite(cell.low) and math.isfinite(cell.high)):
        return ""
    bound = f"{cell.bound} {_round(cell.value):g}; " if cell.bound else ""
    return f"{bound}95 % interval {_round(cell.low):g} to {_round(cell.high):g}"


def _text(cell: Interval | None, digits: int) -> str:
    if cell is None or not math.isfinite(cell.value):
        return _UNDEFINED
    value = _value(cell, digits)
    return f"{value} [{cell.low:.{digits}f}, {cell.high:.{digits}f}]" if _note(cell) else value


def _value(cell: Interval, digits: int) -> str:
    return f"{BOUND_SIGNS[cell.bound]}{cell.value:.{digits}f}"


def _quote(name: str) -> str:
    """Quotes the name of a user's folder for a sentence of Markdown."""
    return f"`{re.sub(r'[`<>|]+', ' ', name)}`"


def _title(column: MetricColumn) -> str:
    return f"{column.title}, {column.unit}" if column.unit else column.title


def _best(column: MetricColumn) -> str:
    return {"stated": _UNDEFINED}.get(column.better, column.better)
