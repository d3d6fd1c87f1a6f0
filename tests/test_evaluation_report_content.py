"""What of a training run is drawn."""

from __future__ import annotations

import json

from mgen.evaluation.report_content import MOST_SHARES, charts_of_repetition, training_curves
from mgen.evaluation.self_reinforcement import RepetitionCurves, SelfReinforcement
from mgen.stats.intervals import Interval, undefined_interval


def test_of_many_judges_those_with_the_largest_shares_are_drawn(tmp_path):
    """Of eight judges a to h with growing shares, a and b are not drawn."""
    loud = {f"share/{name}": (place + 1) / 36 for place, name in enumerate("abcdefgh")}
    lines = [{"step": step, "policy/kl": 0.0, **loud} for step in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (shares,) = [curve for curve in training_curves({"run": tmp_path}) if "share of the advantage" in curve.title]
    assert list(shares.series) == list("hgfedc") and len(shares.series) == MOST_SHARES
    assert shares.title == "run: share of the advantage, the 6 largest"
    assert shares.series["h"] == ([1.0, 2.0], [8 / 36, 8 / 36])


def test_repetition_is_drawn_where_it_is_defined():
    rising = tuple(Interval(value, value, value) for value in (0.1, 0.2))
    real = (undefined_interval(), Interval(0.3, 0.2, 0.4))
    curves = RepetitionCurves(real, {"model": SelfReinforcement(rising, rising, rising)}, 8)
    likelihood, probability = charts_of_repetition(curves)
    assert likelihood.series == {"model": ([0.0, 1.0], [0.1, 0.2])}
    assert probability.series == {"model": ([0.0, 1.0], [0.1, 0.2]), "real music": ([1.0], [0.3])}
    undefined = (undefined_interval(),) * 2
    assert charts_of_repetition(RepetitionCurves(real, {"model": SelfReinforcement(*[undefined] * 3)}, 0)) == []
    assert charts_of_repetition(RepetitionCurves(real, {}, 0)) == []
