"""What was measured, as the Hub reads it: rows of the card's tables, `.eval_results/*.yaml`, `model-index`.

Reads `metrics.json` of `mgen evaluate` and card.json of `mgen critic`; measures nothing.

Source of the formats: https://huggingface.co/docs/hub/eval-results, and `huggingface_hub`'s own classes for both.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml, parse_eval_result_entries

from mgen.errors import MgenError
from mgen.evaluation.columns import columns
from mgen.evaluation.comparisons import Column, Verdict, role_in_words, verdict
from mgen.evaluation.summary import PROMPT_TITLES
from mgen.renames import check_metrics_keys
from mgen.stats.intervals import Interval

REAL = "real"
FOLDER = ".eval_results"
FILES = "mgen_"
"""How our files in it begin: others may have added theirs."""

HEARD = 0.5
"""Nats: a change of score below this is called hardly noticed."""

_NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class Table:
    """A table of the card: `head` and `rows` are cells of text, the first of each row its name."""

    title: str
    head: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Results:
    """An evaluation, and which of its players is the model at hand.

    Attributes:
        name: the model's row.
        pretrained: the row that the others were tuned from.
        systems: name -> `real`, `reference`, `baseline`, `pretrained`, `low_cost_baseline` or `tuned`, in the order of
            the tables.
        rows: name -> prompt type -> metric -> number.
        protocol: as in metrics.json.
        judge_auc: of the evaluation's own judge.
        content: metrics.json as it is.
    """

    name: str
    pretrained: str
    systems: dict[str, str]
    rows: dict[str, dict[str, dict[str, Interval]]]
    protocol: dict[str, Any]
    judge_auc: Interval
    content: dict[str, Any] = field(repr=False)

    @classmethod
    def read(cls, folder: Path | str, name: str) -> Results:
        """metrics.json of an evaluation.

        Args:
            folder: the evaluation's.
            name: row of the model at hand.

        Raises:
            MgenError: There is no metrics.json, it is not of `mgen evaluate --model`, or no model has that name.
        """
        path = Path(folder) / "metrics.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            check_metrics_keys(path, content)
            rows = {
                system: {
                    prompt: {metric: _interval(cell) for metric, cell in cells.items()}
                    for prompt, cells in by_prompt.items()
                }
                for system, by_prompt in content["rows"].items()
            }
            systems = {system: str(content["systems"][system]) for system in rows}
            protocol = dict(content["protocol"])
        except OSError as error:
            raise MgenError(
                f"--evaluation {folder}: {path.name}: {error.strerror}; give the --out of mgen evaluate"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise MgenError(f"{path}: not the numbers of mgen evaluate --model ({error!r}); evaluate again") from error
        if REAL not in rows or not any(rows[REAL].values()):
            raise MgenError(f"{path}: has no row '{REAL}'; evaluate again")
        models = [player for player in rows if player != REAL]
        ours = [player for player in models if systems[player] in {"pretrained", "tuned", "low_cost_baseline"}]
        if name not in models:
            near = difflib.get_close_matches(name, models, n=1)
            hint = f"did you mean --name {near[0]}?" if near else "give --name ROW"
            raise MgenError(f"{path}: no row is called '{name}'; it has {', '.join(ours)}; {hint}")
        pretrained = next((player for player, role in systems.items() if role == "pretrained"), models[0])
        return cls(name, pretrained, systems, rows, protocol, _interval(content.get("judge_auc") or {}), content)

    @property
    def target(self) -> str:
        return str(self.protocol.get("target", "the style"))

    @property
    def prompts(self) -> list[str]:
        """Kinds of prompt that the model was asked."""
        return list(self.rows[self.name])

    def said(self) -> str:
        """What every number rests on, in a few words."""
        facts = [f"{self.protocol['n']} pieces" if "n" in self.protocol else ""]
        facts += [f"prompts from the test split of corpus {self.protocol['data']}" if "data" in self.protocol else ""]
        return ", ".join(filter(None, facts))

    def real(self, prompt: str) -> dict[str, Interval]:
        """What to be like: other music that was asked to turn is held against music of the style."""
        real = self.rows[REAL]
        return real.get("continuation" if prompt == "transfer" else prompt, {})

    def columns(self) -> list[Column]:
        """The report's columns that any player has a number for."""
        known = {metric for kinds in self.rows.values() for cells in kinds.values() for metric in cells}
        return [column for column in columns(self.target) if column.key in known]

    def meanings(self) -> list[tuple[str, str]]:
        """What each number of the tables is: title and explanation."""
        return [(column.title, column.explanation) for column in self.columns() if column.explanation]

    def changes(self) -> dict[str, dict[Verdict, list[str]]]:
        """kind of prompt -> verdict -> what changed that way beside the pretrained model: `loops 0.23 → 0.55`."""
        out: dict[str, dict[Verdict, list[str]]] = {}
        if self.name == self.pretrained:
            return out
        for prompt, cells in self.rows[self.name].items():
            before = self.rows[self.pretrained].get(prompt, {})
            real = self.real(prompt)
            for column in self.columns():
                pair = before.get(column.key), cells.get(column.key)
                if pair[0] is None or pair[1] is None:
                    continue
                found = verdict(pair[0], pair[1], column, real.get(column.key))
                if found is not None:
                    said = f"{column.title} {pair[0].value:.{column.digits}f} → {pair[1].value:.{column.digits}f}"
                    if column.better == "as real":
                        said += f" (real {real[column.key].value:.{column.digits}f})"
                    out.setdefault(prompt, {}).setdefault(found, []).append(said)
        return out

    def tables(self, main: bool = True) -> list[Table]:
        """One table for each kind of prompt: the model beside real music and the pretrained one.

        Args:
            main: those that the report's short table has; otherwise all others.
        """
        out = []
        told = [column for column in self.columns() if column.main == main]
        for prompt in self.prompts:
            shown = {f"real {self.target}": self.real(prompt)}
            if self.name != self.pretrained:
                shown["pretrained"] = self.rows[self.pretrained].get(prompt, {})
            shown["**this model**"] = self.rows[self.name][prompt]
            rows = [
                [_titled(column), *(_text(cells.get(column.key), column.digits) for cells in shown.values()), best]
                for column in told
                for best in [_best(column)]
                if any(column.key in cells for cells in shown.values())
            ]
            title = PROMPT_TITLES.get(prompt, prompt).format(target=self.target)
            if rows:
                out.append(Table(title, ["", *shown, "best"], rows))
        return out

    def others(self) -> Table | None:
        """Players that are neither real music, nor this model, nor the one it was tuned from; None without any."""
        names = [player for player in self.rows if player not in {REAL, self.pretrained, self.name}]
        kept = [column for column in self.columns() if column.key in headlines(self.target)]
        rows = []
        for prompt in self.prompts:
            for player in [self.name, *names]:
                cells = self.rows[player].get(prompt)
                if cells and names:
                    shown = (
                        "**this model**" if player == self.name else f"{player} ({role_in_words(self.systems[player])})"
                    )
                    rows.append([shown, prompt, *(_text(cells.get(column.key), column.digits) for column in kept)])
        head = ["", "prompts", *(f"{column.title} (best: {_best(column)})" for column in kept)]
        return Table("Beside others", head, rows) if rows else None

    def numbers(self) -> dict[str, dict[str, Interval]]:
        """kind of prompt -> metric -> the model's number, the defined ones only."""
        return {
            prompt: {metric: cell for metric, cell in cells.items() if math.isfinite(cell.value)}
            for prompt, cells in self.rows[self.name].items()
        }


def critic_numbers(card: Mapping[str, Any]) -> dict[str, dict[str, Interval]]:
    """The one group of numbers in a critic's card: of its test split."""
    test = card.get("test") or {}
    numbers = {name: _interval(test[name]) for name in ("auc", "accuracy") if name in test}
    pairs = [_interval(pair) for others in (test.get("pairs") or {}).values() for pair in others.values()]
    if pairs:
        numbers["auc_worst_pair"] = min(pairs, key=lambda pair: pair.value)
    if "ece" in test:
        numbers["calibration_error"] = Interval(float(test["ece"]), math.nan, math.nan)
    return {"critic": {name: cell for name, cell in numbers.items() if math.isfinite(cell.value)}} if numbers else {}


def critic_tables(card: Mapping[str, Any]) -> list[Table]:
    """How well a critic hears what it never saw, and what moves its score."""
    test = card.get("test") or {}
    if not test:
        return []
    style = card.get("positive", "the style")
    rows: list[tuple[str, Any, int, str]] = [
        ("AUC", test.get("auc"), 3, "1"),
        ("accuracy", test.get("accuracy"), 3, "1"),
    ]
    rows += [
        (f"AUC, {a} against {b}", pair, 3, "1") for a, them in test.get("pairs", {}).items() for b, pair in them.items()
    ]
    rows += [
        (f"mean log P({style}) of {'other music' if side == 'other' else style}, nats", cell, 2, best)
        for side, best in (("positive", "0"), ("other", "low"))
        if (cell := test.get("score", {}).get(side))
    ]
    heard = Table(
        f"{test.get('n', '?')} excerpts of {test.get('works', '?')} works of the test split",
        ["", "value", "best"],
        [[name, _text(_interval(cell or {}), digits), best] for name, cell, digits, best in rows],
    )
    moved = [
        [name.replace("_", " "), _text(_interval(cell), 2), best]
        for part, best in (("format", "0: only the format changed"), ("broken", "far below 0: the music is broken"))
        for name, cell in (test.get(part) or {}).items()
    ]
    out = [heard]
    if moved:
        title = f"change of the score of real {style}, in nats, when one thing in it is changed"
        out.append(Table(title, ["", "change", "should be"], moved))
    return out


def critic_more(card: Mapping[str, Any]) -> list[Table]:
    """By the length of excerpts, what is no music of the style at all, and what was true of what was said."""
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
        out.append(Table("By the number of notes", ["notes", "excerpts", "AUC", "accuracy", "calibration error"], rows))
    out += [_wrong_way(count, kinds) for count, kinds in (card.get("wrong_way") or {}).items()]
    bins = test.get("reliability") or []
    if bins:
        style = card.get("positive", "the style")
        rows = [[f"{cell['said']:.2f}", f"{cell['true']:.2f}", str(cell["n"])] for cell in bins]
        out.append(Table("What was said, and what was true of it", [f"P({style})", "were it", "excerpts"], rows))
    return out


def _wrong_way(count: str, kinds: Mapping[str, Any]) -> Table:
    """How inputs that are no music score, where critics knew their kind in training and where they did not."""

    def shown(part: Mapping[str, Any] | None, name: str, form: str) -> str:
        return _NOTHING if not part or part.get(name) is None else format(part[name], form)

    rows = [
        [
            name.replace("_", " "),
            str(cell.get("n", "?")),
            *(shown(cell.get(part), "above_median", ".1%") for part in ("trained", "left_out")),
            *(shown(cell.get("left_out"), name, form) for name, form in (("change", ".2f"), ("abstained", ".1%"))),
        ]
        for name, cell in kinds.items()
    ]
    head = ["", "inputs", "above half of real music", "the same, kind not learned", "beside real, nats", "not judged"]
    return Table(f"What is no music of the style, {count} notes", head, rows)


def preference_numbers(facts: Mapping[str, Any]) -> dict[str, dict[str, Interval]]:
    """Of run.json of `mgen prefer`: how it orders pairs that it did not learn from."""
    numbers = {name: _interval(facts[name]) for name in ("accuracy", "margin") if isinstance(facts.get(name), dict)}
    return {"preference": numbers} if numbers else {}


def preference_tables(facts: Mapping[str, Any]) -> list[Table]:
    """The same, for the page."""
    numbers = preference_numbers(facts).get("preference", {})
    names = {"accuracy": "pairs put in the listeners' order", "margin": "log-odds of that order, nats"}
    rows = [
        [names[name], _text(cell, 3), best]
        for name, best in (("accuracy", "1"), ("margin", "high"))
        if (cell := numbers.get(name))
    ]
    counts = facts.get("pairs") or {}
    return [Table(f"{counts.get('valid', '?')} pairs kept back", ["", "value", "best"], rows)] if rows else []


def critic_limits(card: Mapping[str, Any]) -> list[str]:
    """What a critic's own card says against it, in sentences."""
    test = card.get("test") or {}
    out = []
    pairs = [(_interval(cell), a, b) for a, them in test.get("pairs", {}).items() for b, cell in them.items()]
    if pairs:
        worst, a, b = min(pairs, key=lambda pair: pair[0].value)
        out.append(f"Its worst pair of collections is {_plainly(a)} against {_plainly(b)}: AUC {_text(worst, 3)}.")
    moved = {
        part: {name.replace("_", " "): _interval(cell) for name, cell in (test.get(part) or {}).items()}
        for part in ("format", "broken")
    }
    deaf = [f"{name} ({cell.value:.2f})" for name, cell in moved["broken"].items() if cell.value > -HEARD]
    if deaf:
        out.append(
            f"It hardly notices some ways to break music (the score falls by less than {HEARD} nats): "
            f"{', '.join(deaf)}."
        )
    touchy = [f"{name} ({cell.value:+.2f})" for name, cell in moved["format"].items() if abs(cell.value) >= HEARD]
    if touchy:
        out.append(f"It hears more than music: a change of format alone moves its score: {', '.join(touchy)} nats.")
    return out


def write_eval_results(
    folder: Path, numbers: Mapping[str, Mapping[str, Interval]], dataset: str, source: str = "", about: str = ""
) -> list[Path]:
    """Write `.eval_results/mgen_<group>.yaml`, one file for each group of numbers, in the Hub's format.

    The Hub lists them on the model's page, and on the leaderboard of the data set if that has an eval.yaml with
    these tasks and is registered as a benchmark. A task is called `<group>_<metric>`.

    Args:
        folder: of the model repository.
        numbers: group -> metric -> number.
        dataset: Hub id of the data set that it was measured on.
        source: address of the model card.
        about: said in every note, after the interval.

    Raises:
        MgenError: The files do not read back as what was to be written.
    """
    out = []
    for group, cells in numbers.items():
        entries = [
            EvalResultEntry(
                dataset_id=dataset,
                task_id=f"{group}_{metric}",
                value=_plain(cell.value),
                source_url=source or None,
                source_name="Model card" if source else None,
                notes="; ".join(filter(None, (_note(cell), about))) or None,
            )
            for metric, cell in cells.items()
        ]
        if not entries:
            continue
        path = folder / FOLDER / f"{FILES}{group}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, width=120))
        if parse_eval_result_entries(yaml.safe_load(path.read_text())) != entries:
            raise MgenError(f"{path}: does not read back as written; report this, with the evaluation")
        out.append(path)
    return out


def model_index(
    numbers: Mapping[str, Mapping[str, Interval]], keep: Mapping[str, str], task: tuple[str, str], data: tuple[str, str]
) -> list[EvalResult]:
    """The older form of results, inside the card, which many tools read.

    Args:
        numbers: group -> metric -> number.
        keep: metrics that are told there -> their titles.
        task: the Hub's name of the task, and ours.
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
            metric_value=_plain(cell.value),
        )
        for group, cells in numbers.items()
        for metric, cell in cells.items()
        if metric in keep
    ]


def headlines(target: str) -> dict[str, str]:
    """The few metrics that are told everywhere -> their titles."""
    told = ("c2st_auc", f"judge_{target}", "loop_rate", "loop_rate_greedy", "kl_piece")
    return {column.key: column.title for column in columns(target) if column.key in told}


def _interval(cell: Mapping[str, Any]) -> Interval:
    numbers = [cell.get(name) for name in ("value", "low", "high")]
    value, low, high = (math.nan if number is None else float(number) for number in numbers)
    return Interval(value, low, high, int(cell.get("undefined") or 0))


def _plain(value: float) -> float:
    """Six significant digits: what an interval of any width can carry."""
    return float(f"{value:.6g}")


def _note(cell: Interval) -> str:
    if not (math.isfinite(cell.low) and math.isfinite(cell.high)):
        return ""
    return f"95 % interval {_plain(cell.low):g} to {_plain(cell.high):g}"


def _text(cell: Interval | None, digits: int) -> str:
    if cell is None or not math.isfinite(cell.value):
        return _NOTHING
    value = f"{cell.value:.{digits}f}"
    return f"{value} [{cell.low:.{digits}f}, {cell.high:.{digits}f}]" if _note(cell) else value


def _plainly(name: str) -> str:
    """A name that somebody gave a folder, within a sentence of Markdown."""
    return f"`{re.sub(r'[`<>|]+', ' ', name)}`"


def _titled(column: Column) -> str:
    return f"{column.title}, {column.unit}" if column.unit else column.title


def _best(column: Column) -> str:
    return {"stated": _NOTHING}.get(column.better, column.better)
