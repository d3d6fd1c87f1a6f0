"""What came out, in words: only what the intervals carry."""

from __future__ import annotations

from mgen.cli.findings import findings


def cell(value, low=None, high=None):
    return {"value": value, "low": value if low is None else low, "high": value if high is None else high}


def metrics(tuned, other=None):
    row = {"judge_jazz": cell(0.2, 0.15, 0.26), "valid": cell(0.9, 0.85, 0.95)}
    rows = {"real": {"transfer": row}, "pretrained": {"transfer": row}, "tuned": {"transfer": tuned}}
    systems = {"real": "real", "pretrained": "pretrained", "tuned": "tuned"}
    if other:
        rows["best_of_8"], systems["best_of_8"] = {"transfer": other}, "low_cost_baseline"
    return {"protocol": {"target": "jazz"}, "systems": systems, "rows": rows}


def test_a_clear_change_a_level_number_and_the_price():
    tuned = {"judge_jazz": cell(0.63, 0.55, 0.7), "valid": cell(0.88, 0.8, 0.94), "kl_piece": cell(6.61)}
    assert findings(metrics(tuned)) == [
        "tuned, after music of other styles: judged jazz 0.20 [0.15, 0.26] before, 0.63 [0.55, 0.70] after (higher); "
        "whole 0.90 [0.85, 0.95] before, 0.88 [0.80, 0.94] after (no measured difference); at 6.6 nats of KL per piece."
    ]


def test_a_cheaper_system_that_is_not_behind_is_named():
    tuned = {"judge_jazz": cell(0.63, 0.55, 0.7)}
    level, behind = ({"judge_jazz": cell(0.6, 0.5, 0.69)}, {"judge_jazz": cell(0.3, 0.2, 0.4)})
    assert findings(metrics(tuned, level))[1] == (
        "  Costs less and is not behind in judged jazz: best_of_8 0.60 [0.50, 0.69]."
    )
    assert findings(metrics(tuned, behind))[1] == "  No low-cost baseline reaches its judged jazz."


def test_numbers_that_are_missing_make_no_claim():
    undefined = {"value": None, "low": None, "high": None}
    (line,) = findings(metrics({"judge_jazz": undefined}))
    assert line == "tuned, after music of other styles: nothing to compare."
