from __future__ import annotations

import json

import numpy as np
import pytest
import symusic

from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.renames import METRICS_KEYS, check_metrics_keys
from mgen.sampling.samples import SamplePrompt, decode_with_prompt, read_samples, write_samples


@pytest.fixture(scope="module")
def ids(remi, demo_pieces):
    """A prompt of four notes or so and what follows, of real tokens."""
    rows = remi.encode(Notes.from_scores(demo_pieces[:2]))
    return [row[:80].tolist() for row in rows]


def test_prompt_and_completion_are_one_piece(remi, ids):
    prompt = [remi.bos_id, remi.style_ids["jazz"], *ids[0][:30]]
    piece = decode_with_prompt(prompt, ids[0][30:], remi)
    alone = Notes.from_ids([ids[0]], remi)
    np.testing.assert_array_equal(piece.notes.pitch, alone.pitch)
    given = Notes.from_ids([ids[0][:30]], remi)
    assert piece.prompt_end == given.onset.max() + 1
    assert decode_with_prompt([remi.bos_id], ids[0], remi).prompt_end is None


def test_samples_round_trip(remi, ids, tmp_path):
    head = [remi.bos_id, remi.style_ids["jazz"]]
    prompts = [
        SamplePrompt(f"continuation/{i:04d}", "continuation", f"work {i}", [*head, *row[:30]])
        for i, row in enumerate(ids)
    ]
    completions = {"real": [row[30:] for row in ids], "a b/c": [row[30:60] for row in ids]}
    written = write_samples(tmp_path / "samples", "jazz", prompts, completions, remi, tempo=90.0)
    read = read_samples(tmp_path)
    assert read == written and read.systems == ["real", "a b/c"] and read.tempo == 90.0
    assert [item.prompt for item in read.items] == ["continuation/0000", "continuation/0001"] * 2
    for item in read.items:
        score = symusic.Score(read.folder / item.file)
        expected = Notes.from_ids([[*item.prompt_ids, *item.completion_ids]], remi, start=2)
        assert sum(len(track.notes) for track in score.tracks) == len(expected)
        assert score.tempos[0].qpm == pytest.approx(90.0, abs=1e-3)


def test_unreadable_samples_are_one_line(remi, ids, tmp_path):
    with pytest.raises(MgenError, match="give the folder of an evaluation"):
        read_samples(tmp_path)
    with pytest.raises(MgenError, match="make one folder name"):
        write_samples(tmp_path, "jazz", [], {"a b": [], "a/b": []}, remi)
    with pytest.raises(MgenError, match="make one folder name"):
        write_samples(tmp_path, "jazz", [], {"tokenizer": []}, remi)
    with pytest.raises(MgenError, match="completions of 1 of 2 prompts"):
        write_samples(tmp_path, "jazz", [SamplePrompt("a", "b", "c", ids[0])] * 2, {"x": ids[:1]}, remi)
    (tmp_path / "index.json").write_text("[]")
    with pytest.raises(MgenError, match="expected a JSON object, found list"):
        read_samples(tmp_path)
    item = {"prompt": "p", "prompt_type": "k", "work": "", "system": "x", "prompt_end": None}
    item |= {"prompt_ids": [], "completion_ids": []}
    for file in ("../outside.mid", "missing.mid"):
        (tmp_path.parent / "outside.mid").write_bytes(b"")
        content = {"target": "jazz", "tempo": 120, "systems": ["x"], "items": [item | {"file": file}]}
        (tmp_path / "index.json").write_text(json.dumps(content))
        with pytest.raises(MgenError, match="not a file in"):
            read_samples(tmp_path)


@pytest.mark.parametrize(("old", "new"), METRICS_KEYS.items())
def test_old_keys_are_refused_with_the_new_name(old, new, tmp_path):
    content = {"items": [{old: ""}]} if old in {"kind", "player"} else {"items": [], old: []}
    (tmp_path / "index.json").write_text(json.dumps(content))
    with pytest.raises(MgenError, match=f"key '{old}' is now '{new}'; make it again: mgen evaluate --model") as caught:
        read_samples(tmp_path)
    assert "\n" not in str(caught.value)


def test_names_of_systems_are_not_keys():
    check_metrics_keys("metrics.json", {"systems": {"turn": "tuned"}, "rows": {"turn": {"transfer": {}}}})
    with pytest.raises(MgenError, match="key 'turn' is now 'transfer'"):
        check_metrics_keys("metrics.json", {"rows": {"base": {"turn": {}}}})
