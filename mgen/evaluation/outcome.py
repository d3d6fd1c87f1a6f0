"""The outcome of fine-tuning in words, computed from the rows; nothing here measures or draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

from mgen.evaluation.columns import COST, MetricColumn
from mgen.evaluation.comparisons import (
    MetricComparison,
    SystemComparison,
    SystemRow,
    Verdict,
    compare_rows,
    compare_systems,
    disjoint,
    first_of_role,
    format_interval,
    format_number,
    graded_columns,
    groups,
    join_names,
)
from mgen.stats.intervals import is_known

_VERDICTS = {
    Verdict.BETTER: "",
    Verdict.WORSE: ": clearly worse",
    Verdict.CHANGED: ": a clear change, but not clearly towards the aim",
    Verdict.UNCLEAR: ": no measured difference",
}


def outcome(rows: Sequence[SystemRow], columns: Sequence[MetricColumn], acts: Mapping[str, str]) -> list[str]:
    """The outcome of an evaluation: sentences of each prompt type, then how each tuned row compares with the others.

    Args:
        acts: title of a prompt type -> `act` of `outcome_sentences`, in the order of the sentences.
    """
    members = groups(rows)
    by_type = [outcome_sentences(members.get(group, []), columns, act) for group, act in acts.items()]
    compared = [comparison_sentence(found) for found in compare_systems(rows, columns).values()]
    return [*chain.from_iterable(by_type), *compared]


def outcome_sentences(rows: Sequence[SystemRow], columns: Sequence[MetricColumn], act: str) -> list[str]:
    """One sentence for each tuned row, or for the first other row where there is none.

    Args:
        rows: of one prompt type.
        act: what the first graded number is the share of, such as `plays jazz after other music`; empty to name the
            number by its title.
    """
    base, real = first_of_role(rows, "pretrained"), first_of_role(rows, "real")
    tuned = [row for row in rows if row.role == "tuned"]
    if not tuned or base is None:
        own = [row for row in rows if row.role not in ("real", "reference")][:1]
        return [_without_comparison(row, real, columns, act) for row in tuned or own]
    return [
        _compared(row, base, compare_rows(row, base, graded_columns(columns), real), act, len(tuned) > 1)
        for row in tuned
    ]


def _compared(row: SystemRow, base: SystemRow, comparisons: Sequence[MetricComparison], act: str, several: bool) -> str:
    """The first graded number of a tuned row and of the pretrained one, the cost, and what else is clear."""
    name = f"The fine-tuned model{f' {row.name}' if several else ''}"
    cost = row.metrics.get(COST)
    price = f"; it costs {format_number(cost.value, 1)} nats per piece" if cost and is_known(cost) else ""
    if not comparisons:
        return f"{name} and the pretrained one have no number in common{price}."
    lead, *others = comparisons
    after, before = (format_interval(cell, lead.column.digits) for cell in (lead.after, lead.before))
    words = (
        f"{name} {act} in {after} of the pieces, the pretrained one in {before}"
        if act and lead.column.graded == 1
        else f"{_capital(lead.column.title)}: {after} for {name[:1].lower()}{name[1:]}, {before} for the pretrained one"
    )
    change = row.changes.get(lead.column.key)
    if change and lead.verdict is not Verdict.UNCLEAR and not disjoint(lead.before, lead.after):
        words += f" (difference over the same prompts {format_interval(change, lead.column.digits)})"
    sentences = [f"{words}{_VERDICTS[lead.verdict]}{price}."]
    for verdict in (Verdict.BETTER, Verdict.WORSE):
        if found := [f"{one.column.title} ({one.step})" for one in others if one.verdict is verdict]:
            sentences.append(f"Clearly {verdict}: {join_names(found)}.")
    return " ".join(sentences)


def _without_comparison(row: SystemRow, real: SystemRow | None, columns: Sequence[MetricColumn], act: str) -> str:
    """The first graded number that a row has, and real music's."""
    lead = next((column for column in graded_columns(columns) if is_known(row.metrics.get(column.key))), None)
    if lead is None:
        return f"No number of {row.name} was measured."
    own = format_interval(row.metrics[lead.key], lead.digits)
    aim = real.metrics.get(lead.key) if real else None
    if act and lead.graded == 1:
        words, link = f"{row.name} {act} in {own} of the pieces", "in "
    else:
        words, link = f"{_capital(lead.title)}: {own} for {row.name}", ""
    if real and aim and is_known(aim):
        best = format_interval(aim, lead.digits)
        words += f", {real.name} {link}{best}" if link else f", {best} for {real.name}"
    return f"{words}. There is no {'pretrained' if row.role == 'tuned' else 'fine-tuned'} model to compare with."


def comparison_sentence(comparisons: Sequence[SystemComparison]) -> str:
    """Which of the other systems a tuned row is ahead of, level with and behind, and what that means."""
    parts = []
    for result, words in (("ahead", "ahead of"), ("level", "level with"), ("behind", "behind")):
        if names := [one.other for one in comparisons if one.result == result]:
            parts.append(f"{words} {join_names(names)}")
    sentence = f"{comparisons[0].row} is {'; '.join(parts)}."
    cheaper = [one.other for one in comparisons if one.role == "low_cost_baseline" and one.result != "ahead"]
    if cheaper:
        words = (
            "costs less: while it is not behind, prefer it"
            if len(cheaper) == 1
            else ("cost less: while they are not behind, prefer them")
        )
        sentence += f" {join_names(cheaper)} {words} to fine-tuning."
    return sentence


def in_words(counts: Mapping[Verdict, int]) -> str:
    """`2 better`, `1 better, 1 worse`, `1 worse of 2` or `level`, over the prompt types."""
    total = sum(counts.values())
    found = [f"{counts[one]} {one}" for one in (Verdict.BETTER, Verdict.CHANGED, Verdict.WORSE) if counts[one]]
    rest = f" of {total}" if counts[Verdict.UNCLEAR] else ""
    return f"{', '.join(found)}{rest}" if found else "level"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
