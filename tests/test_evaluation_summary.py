"""What of a training run is drawn."""

from __future__ import annotations

import json

from mgen.evaluation.summary import MOST_SHARES, curves


def test_of_many_judges_the_loudest_are_drawn(tmp_path):
    """Eight judges called a to h, each louder than the one before: a and b are not drawn, whatever their names."""
    loud = {f"share/{name}": (place + 1) / 36 for place, name in enumerate("abcdefgh")}
    lines = [{"step": step, "policy/kl": 0.0, **loud} for step in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (shares,) = [curve for curve in curves({"run": tmp_path}) if "share of the advantage" in curve.title]
    assert list(shares.series) == list("hgfedc") and len(shares.series) == MOST_SHARES
    assert shares.title == "run: share of the advantage, the 6 loudest"
    assert shares.series["h"] == ([1.0, 2.0], [8 / 36, 8 / 36])
