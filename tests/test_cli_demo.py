"""`mgen demo --quick`: a small policy and its first pieces."""

from __future__ import annotations

import json

import pytest
import soundfile

from mgen.cli import demo

pytestmark = pytest.mark.slow


def test_a_quick_demo_ends_with_music(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "QUICK_STEPS", 2)
    monkeypatch.setattr(demo, "QUICK_PIECES", 1)
    monkeypatch.setattr(demo, "QUICK_BARS", 1)
    out = tmp_path / "out"
    assert demo.main(["--quick", "true", "--works", "10", "--out", str(out)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"{out / 'quick' / 'pieces'}: 1 pieces") and "mgen generate --model" in last
    (piece,) = json.loads((out / "quick" / "pieces" / "index.json").read_text())["pieces"]
    assert soundfile.info(out / "quick" / "pieces" / piece["audio"]).duration > 0
    assert {path.name for path in out.iterdir()} == {"quick"}  # the whole demo finds nothing of it
    assert demo.main(["--quick", "true", "--works", "10", "--out", str(out)]) == 0  # only writes again
    assert (out / "quick" / "pieces-2" / "0000.mid").is_file()
