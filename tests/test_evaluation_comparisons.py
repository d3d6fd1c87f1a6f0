from __future__ import annotations

import numpy as np
import pytest

from mgen.errors import MgenError
from mgen.evaluation.comparisons import Cell, Column, Row, Verdict, duels, groups, in_words, number, verdict
from mgen.stats.intervals import Interval

COLUMNS = [
    Column("auc", "told apart", "0.5", 2),
    Column("rep", "repeats", "as real", 2),
    Column("loops", "greedy loops", "lower", 2),
    Column("kl", "KL", "stated", 1, "distance from the pretrained model", "nats"),
]
REAL = {"auc": Cell(0.5, 0.45, 0.55), "rep": Cell(0.14, 0.13, 0.15), "loops": Cell(0.02, 0.01, 0.03)}
BASE = {"auc": Cell(0.9, 0.85, 0.95), "rep": Cell(0.1, 0.09, 0.11), "loops": Cell(0.8, 0.78, 0.82), "kl": Cell(0, 0, 0)}
TUNED = {
    "auc": Cell(0.6, 0.55, 0.65),
    "rep": Cell(0.1, 0.09, 0.11),
    "loops": Cell(0.9, 0.88, 0.92),
    "kl": Cell(7, 6, 8),
}
ROWS = [Row("tuned", "tuned", TUNED), Row("base", "pretrained", BASE), Row("music", "real", REAL)]


@pytest.mark.parametrize(
    ("better", "after", "expected"),
    [
        ("lower", Cell(0.3, 0.2, 0.39), Verdict.BETTER),
        ("higher", Cell(0.3, 0.2, 0.39), Verdict.WORSE),
        ("lower", Cell(0.3, 0.2, 0.40), Verdict.UNCLEAR),  # the intervals touch
        ("lower", Cell(0.7, 0.61, 0.8), Verdict.WORSE),
        ("higher", Cell(0.7, 0.6, 0.8), Verdict.UNCLEAR),
        ("stated", Cell(0.3, 0.2, 0.39), None),
        ("as real", Cell(0.3, 0.2, 0.39), None),  # there is no real music to be like
        ("lower", Cell(float("nan"), 0.2, 0.39), None),
        ("lower", Cell(0.3, float("nan"), 0.39), None),
    ],
)
def test_a_change_is_claimed_only_where_intervals_lie_apart(better, after, expected):
    assert verdict(Cell(0.5, 0.4, 0.6), after, Column("x", "x", better)) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1.68, Verdict.BETTER), (1.72, Verdict.MOVED), (1.88, Verdict.MOVED), (1.92, Verdict.WORSE)],
)
def test_nearer_to_real_music_only_beyond_the_joint_margin(value, expected):
    # Real music 1.00 +- 0.03; before 0.20 +- 0.048 and after +- 0.064, so their midpoint is +- 0.04 (half of 0.08);
    # together 0.05: clear below a midpoint of 0.95 and above 1.05, which is after = 1.70 and 1.90.
    before, after = Cell(0.2, 0.152, 0.248), Cell(value, value - 0.064, value + 0.064)
    assert verdict(before, after, Column("x", "x", "as real"), Cell(1.0, 0.97, 1.03)) is expected


def test_margins_are_taken_from_the_side_that_matters():
    # The aim is above the midpoint 0.5; only the aim's lower and the numbers' upper margins count against it.
    before, after = Cell(0.0, -9.0, 0.0), Cell(1.0, 0.5, 1.0)
    assert verdict(before, after, Column("x", "x", "as real"), Cell(0.6, 0.55, 9.0)) is Verdict.BETTER
    assert verdict(before, after, Column("x", "x", "as real"), Cell(0.6, 0.45, 9.0)) is Verdict.MOVED


def test_the_interval_of_the_difference_decides_where_it_is_known():
    wide, column = (Cell(0.5, 0.3, 0.7), Cell(0.4, 0.2, 0.6)), Column("x", "x", "lower")
    assert verdict(*wide, column) is Verdict.UNCLEAR
    assert verdict(*wide, column, change=Cell(-0.1, -0.15, -0.05)) is Verdict.BETTER
    apart = Cell(0.5, 0.45, 0.55), Cell(0.4, 0.35, 0.44)
    assert verdict(*apart, column) is Verdict.BETTER
    assert verdict(*apart, column, change=Cell(-0.1, -0.21, 0.01)) is Verdict.UNCLEAR


def test_a_number_to_be_near_to_can_be_overshot():
    column = Column("auc", "AUC", "0.5")
    assert verdict(Cell(0.8, 0.79, 0.81), Cell(0.3, 0.29, 0.31), column) is Verdict.BETTER  # 0.3 off, then 0.2
    assert verdict(Cell(0.8, 0.79, 0.81), Cell(0.1, 0.09, 0.11), column) is Verdict.WORSE  # 0.4 off


def test_in_words():
    assert in_words(ROWS, COLUMNS) == [
        "tuned: better in told apart (0.90 → 0.60; ideal 0.50); worse in greedy loops (0.80 → 0.90); "
        "no clear change in repeats. Still clearly off the aim: told apart and repeats."
    ]


def test_in_words_keeps_groups_apart_and_says_what_moved():
    column = Column("x", "swing", "as real", 1)

    def row(name, kind, group, value):
        return Row(name, kind, {"x": Cell(value, value - 0.04, value + 0.04)}, group)

    rows = [row("real", "real", group, 2.0) for group in ("continuation", "transfer")]
    rows += [row("base", "pretrained", group, 1.0) for group in ("continuation", "transfer")]
    rows += [row("nats", "tuned", "continuation", 2.0), row("nats", "tuned", "transfer", 3.0)]
    assert in_words(rows, [column]) == [
        "nats, continuation: better in swing (1.0 → 2.0; real 2.0).",
        "nats, transfer: changed, but not clearly for better or worse, in swing (1.0 → 3.0; real 2.0). "
        "Still clearly off the aim: swing.",
    ]


def test_in_words_shows_as_many_digits_as_a_change_needs():
    rows = [
        Row("a", "pretrained", {"x": Cell(0.0012, 0.0011, 0.0013)}),
        Row("b", "tuned", {"x": Cell(0.0031, 0.003, 0.0032)}),
    ]
    assert in_words(rows, [Column("x", "broken", "lower", 2)]) == ["b: worse in broken (0.001 → 0.003)."]


def test_in_words_has_nothing_to_say_without_a_pretrained_row():
    assert in_words([row for row in ROWS if row.role != "pretrained"], COLUMNS) == []


def test_intervals_of_the_evaluation_are_cells():
    before, after = Interval(0.5, 0.4, 0.6), Interval(0.3, 0.2, 0.35)
    assert verdict(before, after, Column("x", "x", "lower")) is Verdict.BETTER


@pytest.mark.parametrize("better", ["bigger", "", "nan", "inf"])
def test_a_column_must_say_what_is_better(better):
    with pytest.raises(MgenError, match="expected as real, lower, higher, stated or a number"):
        Column("x", "x", better)


def test_numbers_of_numpy_are_numbers():
    before, after = (Cell(*np.array(cell)) for cell in ((0.2, 0.15, 0.25), (0.9, 0.85, 0.95)))
    assert verdict(before, after, Column("x", "x", "as real"), Cell(*np.array((1.0, 0.97, 1.03)))) is Verdict.BETTER


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
    assert number(value, 1) == words


# ---------------------------------------------------------------- against what costs less


def test_rows_stand_in_the_order_of_their_kinds():
    kinds = ["baseline", "something", "tuned", "low_cost_baseline", "pretrained", "reference", "real"]
    members = groups([Row(kind, kind, {}) for kind in kinds])[""]
    assert [row.name for row in members] == [*kinds[:3:-1], "tuned", "something", "low_cost_baseline", "baseline"]


def three(low, high, **others):
    """Cells of three metrics, of which fewer is better, far from one another; `others` replaces some."""
    return {key: others.get(key, Cell(low, low, high)) for key in "abc"}


LOWER = [Column(key, key.upper(), "lower", 1) for key in "abc"]


@pytest.mark.parametrize(
    ("other", "result", "words"),
    [
        (three(8, 9, a=Cell(1, 0, 2)), "ahead", "nats is ahead of best of 8: better in 2 and worse in 1 of 3 numbers."),
        (three(1, 2, a=Cell(9, 8, 9)), "behind", "nats loses to best of 8: worse in 2 and better in 1 of 3 numbers."),
        (
            three(8, 9, a=Cell(1, 0, 2), b=Cell(5, 4, 6)),
            "level",
            "nats and best of 8 are level: each is better in 1 of 3 numbers.",
        ),
        (
            three(4, 6),
            "no clear difference",
            "nats is not clearly better or worse than best of 8 in any of 3 numbers.",
        ),
    ],
)
def test_a_tuned_row_that_loses_to_a_baseline_is_reported_so(other, result, words):
    # nats has 5 (4 to 6) in each
    rows = [
        Row("base", "pretrained", three(20, 21)),
        Row("nats", "tuned", three(4, 6)),
        Row("best of 8", "low_cost_baseline", other),
    ]
    (met,) = duels(rows, LOWER).values()
    assert [(duel.other, duel.result) for duel in met] == [("base", "ahead"), ("best of 8", result)]
    assert in_words(rows, LOWER)[-1] == words


def test_duels_count_over_all_kinds_of_prompt_and_only_for_tuned_rows():
    def cells(value):
        return {"a": Cell(value, value - 0.1, value + 0.1)}

    rows = [Row("nats", "tuned", cells(1), group) for group in ("continuation", "transfer")]
    rows += [Row("chain", "baseline", cells(2), "continuation"), Row("chain", "baseline", cells(0), "transfer")]
    rows += [Row("real", "real", cells(1), "transfer"), Row("other", "tuned", {}, "transfer")]
    assert {name: [duel.other for duel in met] for name, met in duels(rows, LOWER).items()} == {"nats": ["chain"]}
    ((duel,),) = duels(rows, LOWER).values()
    assert (duel.counts[Verdict.BETTER], duel.counts[Verdict.WORSE], duel.total) == (1, 1, 2)
    assert duel.result == "level"


def test_the_interval_of_the_difference_from_a_control_decides_where_it_is_known():
    wide = {"a": Cell(0.5, 0.2, 0.8)}
    rows = [Row("best of 8", "low_cost_baseline", wide)]
    (unclear,) = duels([Row("nats", "tuned", wide), *rows], LOWER)["nats"]
    assert unclear.result == "no clear difference"
    against = {"best of 8": {"a": Cell(0.1, 0.05, 0.15)}}
    (known,) = duels([Row("nats", "tuned", wide, against=against), *rows], LOWER)["nats"]
    assert known.result == "behind"


def test_a_change_from_the_pretrained_row_says_nothing_of_a_control():
    wide = {"a": Cell(0.5, 0.2, 0.8)}
    tuned = Row("nats", "tuned", wide, changes={"a": Cell(0.1, 0.05, 0.15)})
    met = duels([tuned, Row("base", "pretrained", wide), Row("best of 8", "low_cost_baseline", wide)], LOWER)["nats"]
    assert [duel.result for duel in met] == ["behind", "no clear difference"]
