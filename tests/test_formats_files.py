from __future__ import annotations

import io
import struct

import guitarpro
import pytest
from gpif_files import file_system, gpif, packed, zipped
from guitarpro import models
from symusic import core

from mgen.errors import RejectedFile
from mgen.formats import files
from mgen.formats.files import file_format, read_music


def song():
    """One quarter note, E4, in a 4/4 bar."""
    song = models.Song()
    beat = models.Beat(song.tracks[0].measures[0].voices[0], status=models.BeatStatus.normal)
    beat.notes.append(models.Note(beat, value=0, string=1, type=models.NoteType.normal))
    beat.voice.beats.append(beat)
    return song


def tab(version):
    stream = io.BytesIO()
    guitarpro.write(song(), stream, version=version)
    return stream.getvalue()


def midi():
    score = core.ScoreTick(960)
    track = core.TrackTick("lead", 0, False)
    track.notes.append(core.NoteTick(0, 960, 64, 95))
    score.tracks.append(track)
    return score.dumps_midi()


def rmid(data):
    chunks = b"RMIDdata" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


MUSIC = {
    "gp3": tab((3, 0, 0)),
    "gp4": tab((4, 0, 6)),
    "gp5": tab((5, 1, 0)),
    "gp6": packed(file_system(gpif(song(), 6))),
    "gp7": zipped(gpif(song(), 7)),
    "gp8": zipped(gpif(song(), "8.1.3")),
    "midi": midi(),
}


@pytest.mark.parametrize("name", ["song.gp5", "song.gp3", "song.MID", "song", "song.txt"])
@pytest.mark.parametrize("expected", MUSIC)
def test_the_content_says_what_a_file_is(tmp_path, name, expected):
    (tmp_path / name).write_bytes(MUSIC[expected])
    music = read_music(tmp_path / name)
    assert music.format == expected
    (note,) = music.score.tracks[0].notes
    assert (note.time, note.duration, note.pitch, note.velocity) == (0, music.score.ticks_per_quarter, 64, 95)


def test_a_riff_file_is_midi(tmp_path):
    (tmp_path / "a.rmi").write_bytes(rmid(MUSIC["midi"]))
    assert read_music(str(tmp_path / "a.rmi")).format == "midi"


def header(text):
    return bytes([len(text)]) + text.ljust(30, b"\x00") + bytes(100)


@pytest.mark.parametrize(
    ("data", "reason", "says"),
    [
        (b"", "unknown format", "empty file"),
        (b"MThe rest is text\n", "unknown format", r"begins with b'MThe res'; MIDI, Guitar Pro and MusicXML are read"),
        (b"<!DOCTYPE html>", "unknown format", "<!DOCTY"),
        (b"RIFF\x04\x00\x00\x00WAVEfmt ", "unknown format", "RIFF"),
        (zipped("", "word/document.xml"), "archive", "zip; unpack it"),
        (b"\x18FICHIER", "unknown format", "FICHIER"),
        (zipped("<GPIF/>"), "no notes", "no bars"),
        (zipped("")[:-30], "broken", "a damaged zip archive"),
        (b"BCFZ" + bytes(9), "broken", "no score.gpif in it"),
        (b"BCFS" + bytes(9), "broken", "no score.gpif in it"),
        (header(b"FICHIER GUITARE PRO v1"), "unsupported version", "Guitar Pro 1 (.gtp)"),
        (header(b"FICHIER GUITAR PRO v2.20"), "unsupported version", "Guitar Pro 2.20 (.gtp)"),
        (header(b"FICHIER GUITAR PRO v4.99"), "unsupported version", "'FICHIER GUITAR PRO v4.99'"),
        (header(b"FICHIER GUITAR PRO "), "unsupported version", "Guitar Pro  (.gtp)"),
        (MUSIC["gp5"][:40], "broken", "ends inside its header"),
    ],
)
def test_what_is_no_music_is_named(tmp_path, data, reason, says):
    path = tmp_path / "file.mid"
    path.write_bytes(data)
    with pytest.raises(RejectedFile) as caught:
        read_music(path)
    assert caught.value.reason == reason
    assert says in caught.value.detail
    assert "\n" not in str(caught.value)


def test_gp4_also_writes_l_for_its_version():
    assert file_format(header(b"FICHIER GUITAR PRO L4.06")) == "gp4"


def test_what_is_no_readable_file_is_named(tmp_path, monkeypatch):
    (tmp_path / "good.mid").write_bytes(MUSIC["midi"])
    monkeypatch.setattr(files, "MAX_BYTES", len(MUSIC["midi"]) - 1)
    for name, reason in (("none.mid", "missing"), (".", "unreadable"), ("good.mid", "too large")):
        with pytest.raises(RejectedFile) as caught:
            read_music(tmp_path / name)
        assert caught.value.reason == reason


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "good.mid").write_bytes(MUSIC["midi"])
    monkeypatch.setattr(files.Path, "read_bytes", refuse)
    with pytest.raises(RejectedFile, match="unreadable: Permission denied"):
        read_music(tmp_path / "good.mid")
