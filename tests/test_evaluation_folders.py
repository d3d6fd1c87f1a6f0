"""Folders as excerpts: how they are cut, and what a folder that holds next to nothing says."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_pieces import line, piece, solo

from mgen.errors import MgenError
from mgen.evaluation.folders import MusicFolder, compare_folders, draw_excerpts, read_folder
from mgen.evaluation.measure import MetricOptions
from mgen.notes import Notes

pytestmark = pytest.mark.slow

QUICK = MetricOptions(sequence=False)


def folder_of(*pieces: Notes) -> MusicFolder:
    notes = Notes.concat(pieces)
    return MusicFolder(notes, np.array([f"work {i}" for i in range(notes.n_pieces)]), notes.n_pieces, {})


def write(folder, scores):
    folder.mkdir()
    for name, notes in scores.items():
        notes.to_score(0).dump_midi(folder / f"{name}.mid")
    return folder


def test_excerpts_have_one_length_begin_with_a_bar_and_do_not_overlap():
    # 20 quarters: bars of 4 notes. Excerpts of 6 notes begin at notes 0, 8 (the next bar after 6); 12 + 8 is within.
    found = draw_excerpts(folder_of(line(range(40, 60))), 10, 6, np.random.default_rng(0))
    assert sorted(found.notes.pieces([i]).pitch.tolist()[0] for i in range(found.notes.n_pieces)) == [40, 48]
    for i in range(found.notes.n_pieces):
        one = found.notes.pieces([i])
        assert len(one) == 6 and one.onset[0] == 0 and one.bar.tolist() == [0, 0, 0, 0, 1, 1]
        assert one.bars.onset.tolist() == [0, 96]


def test_every_file_gives_one_excerpt_before_any_gives_a_second():
    long, short = line(range(30, 90)), line(range(40, 50))
    found = draw_excerpts(folder_of(long, short, long), 3, 8, np.random.default_rng(0))
    assert sorted(found.work.tolist()) == ["work 0", "work 1", "work 2"]
    again = draw_excerpts(folder_of(long, short, long), 3, 8, np.random.default_rng(0))
    np.testing.assert_array_equal(found.notes.pitch, again.notes.pitch)


def test_whole_pieces_are_taken_as_they_are():
    found = draw_excerpts(folder_of(line(range(40, 60)), line([60])), 10, 0, np.random.default_rng(0))
    assert sorted(found.notes.counts.tolist()) == [1, 20]


def test_pieces_that_are_too_short_are_named():
    with pytest.raises(MgenError, match="longest piece has 20"):
        draw_excerpts(folder_of(line(range(40, 60))), 10, 21, np.random.default_rng(0))


@pytest.fixture(scope="module")
def solos(tmp_path_factory):
    """Two folders of swung solos of other works, one of them with files that are no music."""
    root = tmp_path_factory.mktemp("folders")
    write(root / "real", {f"solo {i}": solo(i, 16) for i in range(12)})
    own = write(root / "own", {f"tune {i}": solo(100 + i, 16) for i in range(12)})
    (own / "broken.mid").write_bytes(b"MThd\0\0")
    (own / "empty.mid").write_bytes(b"")
    write(root / "loops", {f"loop {i}": line([60, 64, 67, 72] * 30, 12) for i in range(12)})
    return root


def test_what_cannot_be_read_is_counted(solos):
    found = read_folder(solos / "own", workers=1)
    assert found.scanned == 14 and sum(found.rejected.values()) == 2 and found.notes.n_pieces == 12
    assert found.notes.n_tokens.max() == 0  # a file has no grammar to break
    (solos / "none").mkdir(exist_ok=True)
    with pytest.raises(MgenError, match="no music to read"):
        read_folder(solos / "none")


def test_drums_that_are_left_out_are_counted_and_files_of_generate_are_not(tmp_path):
    """A tune of 20 notes with 3 of drums, its sound and piano-roll, the index, and an image that someone put there."""
    tune, drums = (line(range(40, 60)), piece((0, 24, 36), (24, 24, 38), (48, 24, 36), drums=True))
    score = tune.to_score(0)
    score.tracks.append(drums.to_score(0).tracks[0])
    score.dump_midi(tmp_path / "0000.mid")
    for name in ("0000.ogg", "0000.svg", "index.json", "cover.svg"):
        (tmp_path / name).write_bytes(b"no music")
    found = read_folder(tmp_path, "piano", workers=1)
    assert found.drums == 3 and len(found.notes) == 20
    assert found.passed_over.line == "1 file is not music: 1 .svg"
    band = read_folder(tmp_path, "band", workers=1)
    assert band.drums == 0 and len(band.notes) == 23
    comparison = compare_folders(tmp_path, tmp_path, MetricOptions(two_sample=False), n=2, length=0, workers=1)
    assert comparison.remarks[f"drums of {tmp_path.name}"] == "3 notes left out; --recipe band keeps them"


def test_the_number_of_notes_that_is_suggested_works():
    music = folder_of(line(range(30, 97)), line(range(30, 80)))  # 67 and 50 notes
    with pytest.raises(MgenError, match="longest piece has 67") as caught:
        draw_excerpts(music, 10, 128, np.random.default_rng(0))
    suggested = int(str(caught.value).split()[-1])
    assert draw_excerpts(music, 10, suggested, np.random.default_rng(0)).notes.n_pieces >= 2


def test_an_empty_folder_is_an_error_before_the_other_is_read(solos, monkeypatch):
    monkeypatch.setattr("mgen.evaluation.folders.read_folder", lambda *_: pytest.fail("the other folder is read"))
    (solos / "none").mkdir(exist_ok=True)
    with pytest.raises(MgenError, match="none: no music to read"):
        compare_folders(solos / "none", solos / "real", QUICK)


@pytest.mark.slow
def test_loops_are_told_from_solos_and_solos_from_themselves_are_not(solos):
    alike, loops = (
        compare_folders(solos / name, solos / "real", QUICK, length=64, workers=1) for name in ("own", "loops")
    )
    n = alike.excerpts[0].notes.n_pieces
    assert n == alike.excerpts[1].notes.n_pieces == alike.to_json()["n"]
    own, real = alike.to_json(), loops.to_json()["real"]
    assert loops.to_json()["c2st_auc"]["value"] > 0.95 > own["c2st_auc"]["value"]
    assert loops.to_json()["rep4"]["value"] == pytest.approx((61 - 4) / 61)  # 4 different of 61 4-grams
    assert loops.to_json()["loop_rate"]["value"] == 1.0 and real["loop_rate"]["value"] < 1
    assert own["valid"]["value"] == pytest.approx(12 / 14) and "2 of 14 left out" in str(own["remarks"])
    for name in ("oa", "kld", "frechet", "vendi_ratio", "H1", "CPI", "SI", "swing", "rep4_distance"):
        assert {"value", "low", "high"} <= own[name].keys(), name


def test_a_folder_compared_with_itself_is_not_recognised(solos):
    found = compare_folders(solos / "real", solos / "real", QUICK, length=64, workers=1).to_json()
    assert found["c2st_auc"]["low"] <= 0.5 <= found["c2st_auc"]["high"]
    assert found["rep4_distance"]["value"] == 0 and found["oa"]["value"] > 0.9
    assert found["midi"]["name"] == "real (evaluated)"


def test_a_set_of_one_says_what_it_cannot_say(solos, tmp_path):
    one = write(tmp_path / "one", {"solo": solo(77, 16)})
    found = compare_folders(one, solos / "real", QUICK, length=0, workers=1).to_json()
    assert found["n"] == 1 and found["c2st_auc"]["value"] is None and "c2st_auc" in found["remarks"]
    assert found["H1"]["value"] is not None


def test_one_note_is_music_but_has_no_repetition(solos, tmp_path):
    one = write(tmp_path / "one", {"note a": piece((0, 24, 60)), "note b": piece((24, 24, 62))})
    found = compare_folders(one, solos / "real", QUICK, length=0, workers=1).to_json()
    assert found["rep4"]["value"] is None and found["rep4"]["undefined"] == 2
    assert found["pitch_range"]["value"] == 0
    with pytest.raises(MgenError, match="longest piece has 1"):
        compare_folders(one, solos / "real", QUICK, length=64, workers=1)
