"""What an evaluation has found, in a few sentences, from the numbers in its metrics.json.

A difference is stated where the two intervals do not overlap; all else is no measured difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mgen.evaluation.columns import MetricColumn, columns

PROMPTS = {
    "continuation": "after music of the same style",
    "transfer": "after music of other styles",
    "unconditional": "without a prompt",
}
COMPARED = ("judge_{target}", "valid", "loop_rate", "vendi_ratio")
"""Metrics that are compared with those of the pretrained model; the first is what fine-tuning is for."""

Cell = Mapping[str, float]


def findings(metrics: Mapping[str, Any]) -> list[str]:
    """Sentences on each tuned model: what changed, at what KL, and whether a low-cost baseline does as well.

    Args:
        metrics: content of metrics.json.
    """
    target, systems = metrics["protocol"]["target"], metrics["systems"]
    by_key = {column.key: column for column in columns(target)}
    shown = [by_key[key] for name in COMPARED if (key := name.format(target=target)) in by_key]
    roles = {role: [name for name, own in systems.items() if own == role] for role in set(systems.values())}
    base = roles.get("pretrained", [""])[0]
    lines = []
    for name in roles.get("tuned", []):
        for prompt_type, own in metrics["rows"][name].items():
            rows = {other: row[prompt_type] for other, row in metrics["rows"].items() if prompt_type in row}
            if base in rows:
                changes = _changes(rows[base], own, shown)
                price = own.get("kl_piece")
                cost = f"; at {price['value']:.1f} nats of KL per piece" if price else ""
                where = PROMPTS.get(prompt_type, prompt_type)
                lines.append(f"{name}, {where}: {'; '.join(changes) or 'nothing to compare'}{cost}.")
            lines += _cheaper(name, own, {other: rows[other] for other in roles.get("low_cost_baseline", [])}, shown[0])
    return lines or ["No fine-tuned model to compare."]


def _changes(before: Mapping[str, Cell], after: Mapping[str, Cell], shown: Sequence[MetricColumn]) -> list[str]:
    both = [column for column in shown if _known(before.get(column.key)) and _known(after.get(column.key))]
    return [f"{column.title} {_step(before[column.key], after[column.key], column.digits)}" for column in both]


def _step(before: Cell, after: Cell, digits: int) -> str:
    words = {1: "higher", -1: "lower", 0: "no measured difference"}[_order(after, before)]
    return f"{_text(before, digits)} before, {_text(after, digits)} after ({words})"


def _cheaper(
    name: str, own: Mapping[str, Cell], others: Mapping[str, Mapping[str, Cell]], lead: MetricColumn
) -> list[str]:
    """One sentence on the low-cost baselines that are not behind in the first metric."""
    known = {other: row[lead.key] for other, row in others.items() if _known(row.get(lead.key))}
    if not known or not _known(own.get(lead.key)):
        return []
    level = [f"{other} {_text(cell, lead.digits)}" for other, cell in known.items() if _order(own[lead.key], cell) <= 0]
    if not level:
        return [f"  No low-cost baseline reaches its {lead.title}."]
    return [f"  Costs less and is not behind in {lead.title}: {', '.join(level)}."]


def _order(one: Cell, other: Cell) -> int:
    """1 or -1 where the interval of one number is above or below that of the other, 0 where they overlap."""
    return int(one["low"] > other["high"]) - int(one["high"] < other["low"])


def _known(cell: Cell | None) -> bool:
    return cell is not None and all(cell.get(end) is not None for end in ("value", "low", "high"))


def _text(cell: Cell, digits: int) -> str:
    return f"{cell['value']:.{digits}f} [{cell['low']:.{digits}f}, {cell['high']:.{digits}f}]"
