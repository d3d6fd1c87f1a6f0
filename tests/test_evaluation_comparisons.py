from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mgen.errors import MgenError
from mgen.evaluation.columns import MetricColumn
from mgen.evaluation.comparisons import (
    SystemRow,
    Verdict,
    compare_systems,
    compare_with_pretrained,
    format_interval,
    format_number,
    format_value,
    graded_columns,
    groups,
    verdict,
)
from mgen.stats.intervals import Interval

COLUMNS = [
    MetricColumn("auc", "two-sample AUC", "0.5", 2),
    MetricColumn("rep", "repeats", "as real", 2),
    MetricColumn("loops", "greedy loops", "lower", 2),
    MetricColumn("kl", "KL", "stated", 1, "distance from the pretrained model", "nats"),
]
REAL = {"auc": Interval(0.5, 0.45, 0.55), "rep": Interval(0.14, 0.13, 0.15), "loops": Interval(0.02, 0.01, 0.03)}
BASE = {
    "auc": Interval(0.9, 0.85, 0.95),
    "rep": Interval(0.1, 0.09, 0.11),
    "loops": Interval(0.8, 0.78, 0.82),
    "kl": Interval(0, 0, 0),
}
TUNED = {
    "auc": Interval(0.6, 0.55, 0.65),
    "rep": Interval(0.1, 0.09, 0.11),
    "loops": Interval(0.9, 0.88, 0.92),
    "kl": Interval(7, 6, 8),
}
ROWS = [SystemRow("tuned", "tuned", TUNED), SystemRow("base", "pretrained", BASE), SystemRow("music", "real", REAL)]


@pytest.mark.parametrize(
    ("better", "after", "expected"),
    [
        ("lower", Interval(0.3, 0.2, 0.39), Verdict.BETTER),
        ("higher", Interval(0.3, 0.2, 0.39), Verdict.WORSE),
        ("lower", Interval(0.3, 0.2, 0.40), Verdict.UNCLEAR),  # the intervals touch
        ("lower", Interval(0.7, 0.61, 0.8), Verdict.WORSE),
        ("higher", Interval(0.7, 0.6, 0.8), Verdict.UNCLEAR),
        ("stated", Interval(0.3, 0.2, 0.39), None),
        ("as real", Interval(0.3, 0.2, 0.39), None),  # there is no real music to be like
        ("lower", Interval(float("nan"), 0.2, 0.39), None),
        ("lower", Interval(0.3, float("nan"), 0.39), None),
    ],
)
def test_a_change_is_claimed_only_where_intervals_lie_apart(better, after, expected):
    assert verdict(Interval(0.5, 0.4, 0.6), after, MetricColumn("x", "x", better)) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1.68, Verdict.BETTER), (1.72, Verdict.CHANGED), (1.88, Verdict.CHANGED), (1.92, Verdict.WORSE)],
)
def test_nearer_to_real_music_only_beyond_the_joint_margin(value, expected):
    # Real music 1.00 +- 0.03; before 0.20 +- 0.048 and after +- 0.064, so their midpoint is +- 0.04 (half of 0.08);
    # together 0.05: clear below a midpoint of 0.95 and above 1.05, which is after = 1.70 and 1.90.
    before, after = Interval(0.2, 0.152, 0.248), Interval(value, value - 0.064, value + 0.064)
    assert verdict(before, after, MetricColumn("x", "x", "as real"), Interval(1.0, 0.97, 1.03)) is expected


def test_margins_are_taken_from_the_side_that_matters():
    # The aim is above the midpoint 0.5; only the aim's lower and the numbers' upper margins count against it.
    before, after = Interval(0.0, -9.0, 0.0), Interval(1.0, 0.5, 1.0)
    assert verdict(before, after, MetricColumn("x", "x", "as real"), Interval(0.6, 0.55, 9.0)) is Verdict.BETTER
    assert verdict(before, after, MetricColumn("x", "x", "as real"), Interval(0.6, 0.45, 9.0)) is Verdict.CHANGED


def test_the_interval_of_the_difference_decides_where_it_is_known():
    wide, column = (Interval(0.5, 0.3, 0.7), Interval(0.4, 0.2, 0.6)), MetricColumn("x", "x", "lower")
    assert verdict(*wide, column) is Verdict.UNCLEAR
    assert verdict(*wide, column, change=Interval(-0.1, -0.15, -0.05)) is Verdict.BETTER
    apart = Interval(0.5, 0.45, 0.55), Interval(0.4, 0.35, 0.44)
    assert verdict(*apart, column) is Verdict.BETTER
    assert verdict(*apart, column, change=Interval(-0.1, -0.21, 0.01)) is Verdict.UNCLEAR


def test_a_number_to_be_near_to_can_be_overshot():
    column = MetricColumn("auc", "AUC", "0.5")
    assert verdict(Interval(0.8, 0.79, 0.81), Interval(0.3, 0.29, 0.31), column) is Verdict.BETTER  # 0.3 off, then 0.2
    assert verdict(Interval(0.8, 0.79, 0.81), Interval(0.1, 0.09, 0.11), column) is Verdict.WORSE  # 0.4 off


def in_words(rows, columns):
    """(name, group, verdict, words, whether it is off the aim) of each number compared with the pretrained model."""
    return [
        (row.name, row.group, str(one.verdict), one.describe(), one.off_aim)
        for row, comparisons in compare_with_pretrained(rows, columns)
        for one in comparisons
    ]


def test_in_words():
    assert in_words(ROWS, COLUMNS) == [
        ("tuned", "", "better", "two-sample AUC (0.90 → 0.60; ideal 0.50)", True),
        ("tuned", "", "no clear change", "repeats", True),
        ("tuned", "", "worse", "greedy loops (0.80 → 0.90)", False),
    ]


def test_in_words_keeps_groups_apart_and_says_what_moved():
    column = MetricColumn("x", "swing", "as real", 1)

    def row(name, kind, group, value):
        return SystemRow(name, kind, {"x": Interval(value, value - 0.04, value + 0.04)}, group)

    rows = [row("real", "real", group, 2.0) for group in ("continuation", "transfer")]
    rows += [row("base", "pretrained", group, 1.0) for group in ("continuation", "transfer")]
    rows += [row("nats", "tuned", "continuation", 2.0), row("nats", "tuned", "transfer", 3.0)]
    assert in_words(rows, [column]) == [
        ("nats", "continuation", "better", "swing (1.0 → 2.0; real 2.0)", False),
        ("nats", "transfer", "changed", "swing (1.0 → 3.0; real 2.0)", True),
    ]


def test_in_words_shows_as_many_digits_as_a_change_needs():
    rows = [
        SystemRow("a", "pretrained", {"x": Interval(0.0012, 0.0011, 0.0013)}),
        SystemRow("b", "tuned", {"x": Interval(0.0031, 0.003, 0.0032)}),
    ]
    found = in_words(rows, [MetricColumn("x", "invalid", "lower", 2)])
    assert found == [("b", "", "worse", "invalid (0.001 → 0.003)", False)]


def test_in_words_has_nothing_to_say_without_a_pretrained_row():
    assert in_words([row for row in ROWS if row.role != "pretrained"], COLUMNS) == []


def test_intervals_of_the_evaluation_are_cells():
    before, after = Interval(0.5, 0.4, 0.6), Interval(0.3, 0.2, 0.35)
    assert verdict(before, after, MetricColumn("x", "x", "lower")) is Verdict.BETTER


@pytest.mark.parametrize("better", ["bigger", "", "nan", "inf"])
def test_a_column_must_say_what_is_better(better):
    with pytest.raises(MgenError, match="expected as real, lower, higher, stated or a number"):
        MetricColumn("x", "x", better)


def test_numbers_of_numpy_are_numbers():
    before, after = (Interval(*np.array(cell)) for cell in ((0.2, 0.15, 0.25), (0.9, 0.85, 0.95)))
    assert (
        verdict(before, after, MetricColumn("x", "x", "as real"), Interval(*np.array((1.0, 0.97, 1.03))))
        is Verdict.BETTER
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (-0.25, "\N{MINUS SIGN}0.2"),
        (-0.04, "0.0"),
        (0.0, "0.0"),
        (float("nan"), "\N{EN DASH}"),
        (float("-inf"), "\N{EN DASH}"),
    ],
)
def test_numbers_in_words(value, words):
    assert format_number(value, 1) == words


def test_a_bound_has_its_sign():
    assert format_value(Interval(8, 8, 9.5, bound="at most"), 1) == "≤8.0"
    assert format_value(Interval(100, 90, 100, bound="above"), 0) == ">100"
    assert format_value(Interval(14.5, 12, 18), 1) == "14.5"


# ---------------------------------------------------------------- against what costs less


def test_rows_stand_in_the_order_of_their_kinds():
    kinds = ["baseline", "something", "tuned", "low_cost_baseline", "pretrained", "reference", "real"]
    members = groups([SystemRow(kind, kind, {}) for kind in kinds])[""]
    assert [row.name for row in members] == [*kinds[:3:-1], "tuned", "something", "low_cost_baseline", "baseline"]


def three(low, high, **others):
    """Three well-separated metrics where lower is better; `others` replaces some."""
    return {key: others.get(key, Interval(low, low, high)) for key in "abc"}


LOWER = [MetricColumn(key, key.upper(), "lower", 1) for key in "abc"]


@pytest.mark.parametrize(
    ("other", "result"),
    [
        (three(8, 9), "ahead"),
        (three(8, 9, a=Interval(5, 4, 6)), "ahead"),
        (three(8, 9, a=Interval(1, 0, 2)), "level"),  # 2 better, 1 worse
        (three(4, 6, a=Interval(9, 8, 9)), "level"),  # one clear number can be chance
        (three(1, 2, a=Interval(5, 4, 6)), "behind"),
        (three(4, 6), "level"),
    ],
)
def test_a_comparison_is_decided_by_two_clear_numbers(other, result):
    # nats has 5 (4 to 6) in each
    rows = [
        SystemRow("base", "pretrained", three(20, 21)),
        SystemRow("nats", "tuned", three(4, 6)),
        SystemRow("best of 8", "low_cost_baseline", other),
    ]
    (met,) = compare_systems(rows, LOWER).values()
    assert [(comparison.other, comparison.result) for comparison in met] == [("base", "ahead"), ("best of 8", result)]


def test_six_better_and_seven_worse_is_level():
    """Of 13 numbers that are all clear, 6 to 7 decides nothing."""
    columns = [MetricColumn(f"x{i}", f"x{i}", "lower") for i in range(13)]
    middle = {column.key: Interval(5, 4, 6) for column in columns}
    other = {column.key: Interval(9, 8, 9) if i < 6 else Interval(1, 0, 2) for i, column in enumerate(columns)}
    rows = [SystemRow("nats", "tuned", middle), SystemRow("best of 8", "low_cost_baseline", other)]
    (comparison,) = compare_systems(rows, columns)["nats"]
    assert (comparison.counts[Verdict.BETTER], comparison.counts[Verdict.WORSE]) == (6, 7)
    assert comparison.result == "level"


def test_only_graded_numbers_decide_where_there_are_some():
    columns = [replace(column, graded=int(column.key == "a")) for column in LOWER]
    rows = [SystemRow("nats", "tuned", three(4, 6)), SystemRow("best of 8", "low_cost_baseline", three(8, 9))]
    (comparison,) = compare_systems(rows, columns)["nats"]
    assert comparison.counts[Verdict.BETTER] == 1 and comparison.by_key.keys() == {"a"}
    assert comparison.result == "level"
    assert [column.key for column in graded_columns(columns)] == ["a"] and graded_columns(LOWER) == LOWER


def test_comparisons_count_over_all_prompt_types_and_only_for_tuned_rows():
    def cells(value):
        return {"a": Interval(value, value - 0.1, value + 0.1)}

    rows = [SystemRow("nats", "tuned", cells(1), group) for group in ("continuation", "transfer")]
    rows += [
        SystemRow("chain", "baseline", cells(2), "continuation"),
        SystemRow("chain", "baseline", cells(0), "transfer"),
    ]
    rows += [SystemRow("real", "real", cells(1), "transfer"), SystemRow("other", "tuned", {}, "transfer")]
    assert {name: [comparison.other for comparison in met] for name, met in compare_systems(rows, LOWER).items()} == {
        "nats": ["chain"]
    }
    ((comparison,),) = compare_systems(rows, LOWER).values()
    assert (comparison.counts[Verdict.BETTER], comparison.counts[Verdict.WORSE]) == (1, 1)
    assert sum(comparison.counts.values()) == 2
    assert comparison.result == "level"


def test_the_interval_of_the_difference_from_a_baseline_decides_where_it_is_known():
    wide = {"a": Interval(0.5, 0.2, 0.8), "b": Interval(0.5, 0.2, 0.8)}
    rows = [SystemRow("best of 8", "low_cost_baseline", wide)]
    (unclear,) = compare_systems([SystemRow("nats", "tuned", wide), *rows], LOWER)["nats"]
    assert unclear.result == "level" and unclear.counts[Verdict.UNCLEAR] == 2
    against = {"best of 8": dict.fromkeys("ab", Interval(0.1, 0.05, 0.15))}
    (known,) = compare_systems([SystemRow("nats", "tuned", wide, against=against), *rows], LOWER)["nats"]
    assert known.result == "behind"


def test_a_change_from_the_pretrained_row_says_nothing_of_a_baseline():
    wide = {"a": Interval(0.5, 0.2, 0.8), "b": Interval(0.5, 0.2, 0.8)}
    tuned = SystemRow("nats", "tuned", wide, changes=dict.fromkeys("ab", Interval(0.1, 0.05, 0.15)))
    met = compare_systems(
        [tuned, SystemRow("base", "pretrained", wide), SystemRow("best of 8", "low_cost_baseline", wide)], LOWER
    )["nats"]
    assert [comparison.result for comparison in met] == ["behind", "level"]


def test_a_number_is_written_with_its_interval():
    assert format_interval(Interval(0.63, 0.512, 0.744), 2) == "0.63 [0.51, 0.74]"
    assert format_interval(Interval(8, 8, 9.5, bound="at most"), 1) == "≤8.0 [8.0, 9.5]"
    assert format_interval(Interval(0.5, float("nan"), float("nan")), 2) == "0.50"
    assert format_interval(Interval(-0.2, -0.31, 0.1), 1) == "\N{MINUS SIGN}0.2 [\N{MINUS SIGN}0.3, 0.1]"
