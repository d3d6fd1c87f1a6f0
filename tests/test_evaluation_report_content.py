"""What of a training run is drawn."""

from __future__ import annotations

import json

from mgen.evaluation.report_content import MOST_SHARES, training_curves


def test_of_many_judges_those_with_the_largest_shares_are_drawn(tmp_path):
    """Of eight judges a to h with growing shares, a and b are not drawn."""
    loud = {f"share/{name}": (place + 1) / 36 for place, name in enumerate("abcdefgh")}
    lines = [{"step": step, "policy/kl": 0.0, **loud} for step in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (shares,) = [curve for curve in training_curves({"run": tmp_path}) if "share of the advantage" in curve.title]
    assert list(shares.series) == list("hgfedc") and len(shares.series) == MOST_SHARES
    assert shares.title == "run: share of the advantage, the 6 largest"
    assert shares.series["h"] == ([1.0, 2.0], [8 / 36, 8 / 36])
