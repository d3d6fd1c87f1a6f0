"""The outcome in words: what it claims is what the intervals support."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgen.evaluation.columns import columns
from mgen.evaluation.comparisons import SystemComparison, SystemRow, Verdict
from mgen.evaluation.outcome import comparison_sentence, in_words, outcome, outcome_sentences
from mgen.stats.intervals import Interval

COLUMNS = columns("jazz")
ACT = "plays jazz after other music"
REAL = SystemRow("real jazz", "real", {"judge_jazz": Interval(0.95, 0.92, 0.98), "loop_rate": Interval(0.02, 0, 0.04)})


def row(name, role, value=None, margin=0.1, **others):
    style = {} if value is None else {"judge_jazz": Interval(value, value - margin, value + margin)}
    return SystemRow(name, role, style | others)


BASE = row("base", "pretrained", 0.2, 0.08)
KL = Interval(6.6, 6.1, 7.0)


def sentence(*rows, act=ACT):
    (found,) = outcome_sentences([REAL, *rows], COLUMNS, act)
    return found


def test_better_names_both_numbers_and_the_cost():
    tuned = SystemRow("tuned", "tuned", {"judge_jazz": Interval(0.63, 0.51, 0.74), "kl_piece": KL})
    assert sentence(BASE, tuned) == (
        "The fine-tuned model plays jazz after other music in 0.63 [0.51, 0.74] of the pieces, the pretrained one in "
        "0.20 [0.12, 0.28]; it costs 6.6 nats per piece."
    )


def test_worse_level_and_without_kl():
    assert sentence(BASE, row("tuned", "tuned", 0.05, 0.02)).endswith("in 0.20 [0.12, 0.28]: clearly worse.")
    assert sentence(BASE, row("tuned", "tuned", 0.25)).endswith("in 0.20 [0.12, 0.28]: no measured difference.")
    level = sentence(BASE, row("tuned", "tuned", 0.25, kl_piece=KL))
    assert level.endswith(": no measured difference; it costs 6.6 nats per piece.")


def test_the_paired_difference_decides():
    cells, changes = {"judge_jazz": Interval(0.25, 0.15, 0.35)}, {"judge_jazz": Interval(0.05, 0.01, 0.09)}
    found = sentence(BASE, SystemRow("tuned", "tuned", cells, changes=changes))
    assert found.endswith("0.20 [0.12, 0.28] (difference over the same prompts 0.05 [0.01, 0.09]).")


def test_what_else_is_clear_is_named_the_bad_news_too():
    base = row("base", "pretrained", 0.2, valid=Interval(0.98, 0.95, 1), loop_rate=Interval(0.2, 0.1, 0.3))
    tuned = row("tuned", "tuned", 0.6, valid=Interval(0.4, 0.3, 0.5), loop_rate=Interval(0.02, 0, 0.05))
    found = sentence(base, tuned)
    assert found.endswith("Clearly better: loops (0.200 → 0.020). Clearly worse: whole (0.98 → 0.40).")


def test_without_a_pretrained_or_a_tuned_model():
    real = "in 0.63 [0.53, 0.73] of the pieces, real jazz in 0.95 [0.92, 0.98]."
    alone = sentence(row("tuned", "tuned", 0.63))
    assert alone == f"tuned {ACT} {real} There is no pretrained model to compare with."
    only = sentence(row("base", "pretrained", 0.63))
    assert only == f"base {ACT} {real} There is no fine-tuned model to compare with."


def test_without_the_style_the_next_graded_number_is_named():
    until = {name: Interval(n, n - 1, n + 1) for name, n in (("base", 10), ("tuned", 14))}
    rows = [
        row(name, role, notes_until_told=until[name]) for name, role in (("base", "pretrained"), ("tuned", "tuned"))
    ]
    assert sentence(*rows) == (
        "Notes until recognised: 14.0 [13.0, 15.0] for the fine-tuned model, 10.0 [9.0, 11.0] for the pretrained one."
    )
    assert sentence(row("own", "midi", notes_until_told=Interval(8, 8, 9, bound="at most")), act="").startswith(
        "Notes until recognised: ≤8.0 [8.0, 9.0] for own."
    )


def test_nothing_measured_is_a_sentence_too():
    assert sentence(row("own", "midi")) == "No number of own was measured."
    assert "no number in common" in sentence(BASE, row("tuned", "tuned"))
    assert outcome_sentences([REAL], COLUMNS, ACT) == []


def test_each_of_several_tuned_models_has_its_sentence():
    found = outcome_sentences([REAL, BASE, row("a", "tuned", 0.6), row("b", "tuned", 0.2)], COLUMNS, ACT)
    assert [re.match(r"The fine-tuned model (\w) plays", line).group(1) for line in found] == ["a", "b"]


def test_the_outcome_has_sentences_by_prompt_type_and_a_comparison():
    rows = [
        SystemRow(name, role, cells, group)
        for group in ("continuation", "transfer")
        for name, role, cells in [
            ("real jazz", "real", REAL.metrics),
            ("base", "pretrained", BASE.metrics),
            ("tuned", "tuned", row("tuned", "tuned", 0.6).metrics),
            ("bo4", "low_cost_baseline", row("bo4", "low_cost_baseline", 0.55).metrics),
        ]
    ]
    found = outcome(rows, COLUMNS, {"transfer": ACT, "continuation": "continues jazz as jazz"})
    assert [line.partition(" in ")[0] for line in found[:2]] == [
        f"The fine-tuned model {ACT}",
        "The fine-tuned model continues jazz as jazz",
    ]
    assert found[2:] == [
        "tuned is ahead of base; level with bo4. bo4 costs less: while it is not behind, prefer it to fine-tuning."
    ]


cells = st.tuples(st.floats(0, 1), st.floats(0.01, 0.3), st.floats(0.01, 0.3)).map(
    lambda of: Interval(of[0], of[0] - of[1], of[0] + of[2])
)


@given(before=cells, after=cells, kl=st.none() | st.floats(0, 50))
def test_a_difference_is_claimed_exactly_where_the_intervals_lie_apart(before, after, kl):
    cost = {} if kl is None else {"kl_piece": Interval(kl, kl, kl)}
    rows = [
        SystemRow("base", "pretrained", {"judge_jazz": before}),
        SystemRow("t", "tuned", {"judge_jazz": after} | cost),
    ]
    found = sentence(*rows)
    apart = after.low > before.high or after.high < before.low
    assert ("no measured difference" in found) is not apart
    assert ("costs" in found) is (kl is not None)
    assert found.count("[") == 2 and found.endswith(".") and found.count(". ") == 0
    if "clearly worse" in found:
        assert abs(after.value - 0.95) > abs(before.value - 0.95)


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ({"base": (2, 0)}, "tuned is ahead of base."),
        ({"base": (2, 0), "bo4": (1, 0)}, "tuned is ahead of base; level with bo4. bo4 costs less"),
        ({"base": (1, 2), "bo4": (0, 2)}, "tuned is level with base; behind bo4. bo4 costs less"),
        ({"bo4": (3, 1), "wide": (2, 0)}, "tuned is ahead of bo4 and wide."),
    ],
)
def test_the_comparison_in_a_sentence(results, words):
    comparisons = [
        SystemComparison(
            "tuned",
            name,
            "pretrained" if name == "base" else "low_cost_baseline",
            {Verdict.BETTER: better, Verdict.WORSE: worse},
            {},
        )
        for name, (better, worse) in results.items()
    ]
    assert comparison_sentence(comparisons).startswith(words)
    assert ("prefer it" in comparison_sentence(comparisons)) is ("costs less" in words)


def test_counts_in_words():
    counts = dict.fromkeys(Verdict, 0)
    assert in_words(counts | {Verdict.UNCLEAR: 2}) == "level"
    assert in_words(counts | {Verdict.BETTER: 2}) == "2 better"
    assert in_words(counts | {Verdict.BETTER: 1, Verdict.WORSE: 1, Verdict.UNCLEAR: 1}) == "1 better, 1 worse of 3"
