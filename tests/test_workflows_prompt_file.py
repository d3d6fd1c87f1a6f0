"""Reading the file that is to be continued: which part, and what of it is lost."""

from __future__ import annotations

import mido
import pytest
from symusic import Score, core

from mgen.corpus.clean import normalise
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.workflows.prompt_file import read_prompt


def track(name, program, pitches, drums=False, shift=0, velocity=80):
    made = core.TrackTick(name, program, drums)
    for i, pitch in enumerate(pitches):
        made.notes.append(core.NoteTick(480 * i + shift, 240, pitch, velocity + i % 2))
    return made


def write(path, *tracks, tempos=(90,)):
    score = core.ScoreTick(480)
    for i, tempo in enumerate(tempos):
        score.tempos.append(core.TempoTick(1920 * i, qpm=tempo))
    for one in tracks:
        score.tracks.append(one)
    score.dump_midi(path)
    return str(path)


@pytest.fixture
def song(tmp_path):
    """Sixteen quarters: a melody, a bass with a note below the piano, drums; two tempos, eight notes off the grid."""
    melody = track("Lead", 65, range(60, 76))
    for note in list(melody.notes)[:8]:
        note.time += 7
    bass = track("Bass", 33, [12, *[40] * 15])
    return write(tmp_path / "mein Stück 音.mid", melody, bass, track("Kit", 0, [36] * 16, drums=True), tempos=(90, 140))


def test_what_is_lost_is_counted(song, remi):
    prompt = read_prompt(song, remi, "end", 0)
    lost = {"percussion": 16, "pitches": 1, "instruments": 2, "tempos": 2, "off_grid": 8}
    assert prompt.changes == lost and prompt.names == {0: "Lead + Bass"}
    assert prompt.tempo == pytest.approx(90, abs=0.01)
    assert prompt.line.startswith("16 drum notes dropped, 1 notes outside 21-108 dropped, 2 instruments played as one")


def test_a_vocabulary_with_programs_keeps_them(song):
    prompt = read_prompt(song, Remi.build(("jazz",), multi=True, velocity=False), "end", 0)
    assert prompt.changes == {"pitches": 1, "tempos": 2, "off_grid": 8, "velocities": 2}
    assert prompt.names == {65: "Lead", 33: "Bass", -1: "Kit"}


def test_nothing_is_lost_of_what_the_tokens_hold(tmp_path, remi):
    prompt = read_prompt(write(tmp_path / "a.mid", track("", 0, range(60, 80))), remi, "end", 0)
    assert prompt.changes == {} and prompt.line == "" and prompt.names == {}


def test_it_is_read_from_its_end_or_from_its_start(tmp_path, remi):
    path = write(tmp_path / "a.mid", track("", 0, range(60, 84)))
    whole = read_prompt(path, remi, "end", 0).ids.tolist()
    assert whole == remi.encode(normalise(Score(path), "piano"))[0].tolist()
    end = read_prompt(path, remi, "end", 40).ids.tolist()
    assert end == whole[-len(end) :] and 20 <= len(end) <= 40 and end[0] == remi.bar_id
    assert read_prompt(path, remi, "start", 40).ids.tolist() == whole[:40]
    assert read_prompt(path, remi, "start", 0).ids.tolist() == whole[:64]


def test_what_cannot_be_continued_is_one_line(tmp_path, remi):
    cut = tmp_path / "cut.mid"
    cut.write_bytes(b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk\0\0\xff\xff\0\x90")
    (tmp_path / "empty.mid").touch()
    mido.MidiFile(tracks=[mido.MidiTrack()]).save(tmp_path / "silent.mid")
    write(tmp_path / "drums.mid", track("Kit", 0, [36] * 4, drums=True))
    write(tmp_path / "low.mid", track("", 0, [5, 6, 7]))
    for name, message in {
        "empty.mid": "unknown format: empty file",
        "silent.mid": "no notes",
        "drums.mid": "only drums: 4 notes",
        "low.mid": r"expected notes that the model has, found 3 notes, none of them of pitches 21-108",
        "cut.mid": "broken|no notes",
        "nowhere.mid": "missing: no such file",
    }.items():
        with pytest.raises(MgenError, match=message) as caught:
            read_prompt(str(tmp_path / name), remi, "end", 0)
        assert str(caught.value).startswith("--prompt ") and "\n" not in str(caught.value)
        assert str(caught.value).endswith("; give another music file")
