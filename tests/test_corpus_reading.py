from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import symusic
from midi_bytes import control, midi_file, note, signature, tempo, track
from midi_bytes import program as program_change

from mgen.corpus.prepare import prepare_corpus
from mgen.corpus.reading import Rules, read_source, vocabulary
from mgen.corpus.scan import Source, scan
from mgen.corpus.shards import Corpus
from mgen.encoding.remi import Remi
from mgen.encoding.tab_events import encode
from mgen.notes import Notes

GUITAR, BASS, DRUMS = 25, 33, -1


def line(n, first=0, pitch=60, step=240, seed=0):
    """(onset, duration, pitch) in ticks of 480 a quarter: a tune of eighths without a rest."""
    pitches = pitch + np.random.default_rng(seed).integers(0, 12, n)
    return [(first + step * i, step, int(pitches[i])) for i in range(n)]


def write(path, **tracks):
    """A MIDI file of tracks `name=(program, notes)`."""
    score = symusic.Score(480)
    score.time_signatures.append(symusic.TimeSignature(0, 4, 4))
    score.tempos.append(symusic.Tempo(0, 90))
    for name, (program, notes) in tracks.items():
        track = symusic.Track(name, max(program, 0), program < 0)
        for onset, duration, pitch in notes:
            track.notes.append(symusic.Note(onset, duration, pitch, 80))
        score.tracks.append(track)
    path.parent.mkdir(parents=True, exist_ok=True)
    score.dump_midi(str(path))
    return Source(path, str(path), "other", "c", path.stem)


@pytest.fixture
def song(tmp_path):
    """A guitar that rests for four bars after 70 notes, a bass of 90 notes, drums and a whistle of 10 notes."""
    guitar = [*line(70), *line(80, 70 * 240 + 16 * 480, seed=1)]
    return write(
        tmp_path / "song.mid",
        guitar=(GUITAR, guitar),
        bass=(BASS, line(90, pitch=30, seed=2)),
        drums=(DRUMS, line(100, pitch=36)),
        whistle=(78, line(10, pitch=80, seed=3)),
    )


TABS = Rules("tabs", min_notes=60, max_notes=1000)


def shape(reading):
    return [(piece.instrument, piece.track, piece.chunk, piece.n_notes) for piece in reading.pieces]


def test_tabs_are_chunks_of_melodic_tracks(song):
    reading = read_source(song, TABS)
    assert shape(reading) == [
        ("Acoustic Guitar (steel)", 0, 0, 70),
        ("Acoustic Guitar (steel)", 0, 1, 80),
        ("Electric Bass (finger)", 1, 0, 90),
    ]
    assert reading.parts == {"found": 4, "rests": 1, "short chunk": 1}
    for piece in reading.pieces:
        (notes,) = [Notes.from_ids([piece.ids], vocabulary(False))]
        assert len(notes) == piece.n_notes and set(notes.program.tolist()) == {0}
        assert notes.bar[0] == 0 and piece.voices == 1


def test_whole_files_have_no_track_and_the_instrument_with_most_notes(song):
    (piano,) = read_source(song, Rules()).pieces
    assert (piano.instrument, piano.track, piano.chunk, piano.n_notes) == ("Acoustic Guitar (steel)", -1, -1, 250)
    (band,) = read_source(song, Rules("band")).pieces
    assert (band.n_notes, band.n_programs) == (350, 4)


def test_facts_are_the_file_s(song):
    facts = read_source(song, Rules()).pieces[0].facts
    assert (facts.format, facts.ticks_per_quarter, facts.tempo, facts.time_signature) == ("midi", 480, 90.0, "4/4")
    assert (facts.n_tracks, facts.pedal, facts.velocities) == (4, False, 1)


@pytest.mark.parametrize(
    ("conductor", "stated", "bars"),
    [
        (signature(3, 4), "3/4", {(3, 4)}),
        (signature(9, 8), "9/8", {(9, 8)}),
        (signature(4, 4) + signature(6, 8), "6/8", {(6, 8)}),
        (signature(0, 4), "", {(4, 4)}),
    ],
)
def test_the_column_says_what_the_bars_are(tmp_path, conductor, stated, bars):
    path = tmp_path / "tune.mid"
    notes = [note(*one) for one in line(90)]
    path.write_bytes(midi_file(track(conductor), track(signature(4, 4) if stated else [], *notes)))
    (piece,) = read_source(Source(path, str(path), "other", "c", "tune"), Rules()).pieces
    read = Notes.from_ids([piece.ids], vocabulary(False)).bars
    assert piece.facts.time_signature == stated
    assert {(beats, unit) for _, beats, unit in read.changes()} == bars


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        (Rules(programs=(GUITAR,)), 150),
        (Rules(programs=(BASS, 78)), 100),
        (Rules("band", programs=(GUITAR, DRUMS)), 250),
        (Rules(pitches=(21, 50)), 90),
    ],
)
def test_instruments_and_pitches_select_notes(song, rules, left):
    (piece,) = read_source(song, rules).pieces
    assert piece.n_notes == left


def test_programs_in_a_set_up_track_select_notes(tmp_path):
    """The tracks of notes have no program; the drums, on channel 11 by a bank of XG, never end."""
    tune = track(*(note(240 * i, 240, 60 + i % 5) for i in range(64)))
    low = track(*(note(240 * i, 240, 40, 1) for i in range(32)))
    drums = track(*(note(480 * i, 10**6, 36 + i, 10) for i in range(40)))
    set_up = track(program_change(56), program_change(32, 1), control(0, 127, 10), program_change(0, 10))
    path = tmp_path / "set_up.mid"
    path.write_bytes(midi_file(set_up, tune, low, drums))
    source = Source(path, str(path), "other", "c", path.stem)
    counts = []
    for rules in (Rules(), Rules(programs=(56,)), Rules("band"), Rules("band", programs=(32, -1))):
        reading = read_source(source, rules)
        counts.append((reading.pieces[0].instrument, reading.pieces[0].n_notes, reading.repairs))
    assert counts == [("Trumpet", 96, {}), ("Trumpet", 64, {}), ("Trumpet", 136, {}), ("Acoustic Bass", 72, {})]


def test_repairs_are_counted(tmp_path):
    path = tmp_path / "a.mid"
    tune = (note(240 * i, 240, 50 + i % 12) for i in range(64))
    path.write_bytes(midi_file(track(*tune, tempo(0, 64 * 240), note(480, 10**7, 90)))[:-1])
    reading = read_source(Source(path, str(path), "other", "c", "a"), Rules())
    assert reading.repairs == {"chunk length": 1, "long note": 1, "tempo": 1}


@pytest.mark.parametrize(
    ("rules", "reason", "detail"),
    [
        (Rules(programs=(0,)), "no such instrument", "no note of the instruments that were asked for"),
        (Rules(min_notes=251), "too few notes", "250, at least 251 make a piece"),
        (Rules(max_notes=249), "too many notes", "250, at most 249 were asked for"),
        (Rules(min_voices=4), "voices", "3 sound together, 4 to any number were asked for"),
        (Rules(max_voices=1), "voices", "3 sound together, 0 to 1 were asked for"),
        (Rules("tabs", min_notes=200), "no chunk", "of 4 found: 4 short chunk"),
    ],
)
def test_why_there_is_no_piece(song, rules, reason, detail):
    reading = read_source(song, rules)
    assert (reading.pieces, reading.reason, reading.detail) == ((), reason, detail)


def test_a_fault_in_one_chunk_keeps_the_others(tmp_path):
    source = write(tmp_path / "a.mid", high=(GUITAR, line(70, pitch=109)), low=(BASS, line(70, pitch=40)))
    reading = read_source(source, TABS)
    assert shape(reading) == [("Electric Bass (finger)", 1, 0, 70)]
    assert reading.parts == {"found": 2, "too few notes": 1} and reading.notes["pitches"] == 70


@pytest.mark.parametrize(("multi", "velocity"), [(False, True), (True, True), (True, False)])
def test_styles_move_every_id_by_their_number(song, multi, velocity):
    (piece,) = read_source(song, Rules("band" if multi else "piano", velocity=velocity)).pieces
    notes = Notes.from_ids([piece.ids], vocabulary(multi, velocity))
    for styles in (("jazz",), ("folk", "jazz", "other")):
        (ids,) = Remi.build(styles, multi, velocity).encode(notes)
        np.testing.assert_array_equal(ids, piece.ids + len(styles))


def test_rules_have_a_fingerprint_of_all_they_say():
    assert Rules().fingerprint == Rules().fingerprint
    others = [Rules("band"), Rules(skip=("cut",)), Rules(min_notes=17), Rules(programs=(3,)), Rules(pitches=(22, 108))]
    others += [Rules(velocity=False)]
    assert len({rules.fingerprint for rules in [Rules(), *others]}) == 7


@pytest.mark.slow
def test_tab_events_lie_by_instrument_song_track_and_chunk(song, tmp_path):
    sources = [song, *(write(tmp_path / f"tune {i}.mid", a=(GUITAR, line(64, seed=10 + i))) for i in range(4))]
    again = write(tmp_path / "other" / "song.mid", a=(GUITAR, line(66, seed=20)))  # another song of one name
    rules = Rules("tabs", min_notes=60, max_notes=1000, tab_events=True)
    prepare_corpus([*sources, again], tmp_path / "c", rules)
    pieces = Corpus.open(tmp_path / "c").pieces
    folder = tmp_path / "c" / "tab_events"
    tables = pd.concat([pq.read_table(path).to_pandas() for path in folder.glob("*.parquet")])
    assert sorted(tables["piece"]) == list(range(len(pieces))) == list(range(8))
    files = sorted(folder.rglob("*.npy"))
    assert len(files) == 8
    by_file = {tuple(map(tuple, np.load(file).tolist())): file for file in files}
    for row in tables.itertuples():
        named = pieces.iloc[row.piece]
        assert (row.instrument, row.song, row.track, row.chunk) == tuple(
            named[["instrument", "song", "track", "chunk"]]
        )
        file = by_file[tuple(tuple(event) for event in row.events)]
        assert file.parts[-2:] == (str(row.track), f"{row.chunk}.npy")
        assert file.parts[-4].startswith("Acoustic_Guitar" if "Guitar" in row.instrument else "Electric_Bass")
        assert np.load(file).dtype == np.uint8
    songs = {file.parts[-3] for file in files}
    assert len(songs) == 6 and sum(name.startswith("song-") for name in songs) == 2
    guitar = line(70)
    expected, _ = encode(*(np.array(column) for column in zip(*guitar, strict=True)), 480)
    assert tuple(map(tuple, expected.tolist())) in by_file


def test_chunks_add_up(song, tmp_path):
    twin = write(tmp_path / "zz.mid", a=(GUITAR, line(70)), b=(GUITAR, line(70)))  # both are the song's first chunk
    more = [write(tmp_path / f"tune {i}.mid", a=(GUITAR, line(64, seed=10 + i))) for i in range(4)]
    manifest = prepare_corpus([song, twin, *more], tmp_path / "c", TABS)
    chunks = manifest["chunks"]
    assert (chunks["found"], chunks["kept"]) == (10, 7)
    assert chunks["dropped"] == {"short chunk": 1, "duplicate": 2}
    assert manifest["rejected"] == {"duplicate": 1} and manifest["kept"] == 5


def test_a_cut_corpus_of_tabs_keeps_a_song_in_one_split(song, tmp_path):
    more = [write(tmp_path / f"tune {i}.mid", a=(GUITAR, line(300, seed=10 + i))) for i in range(8)]
    prepare_corpus([song, *more], tmp_path / "c", Rules("tabs", min_notes=60, max_notes=100))
    pieces = Corpus.open(tmp_path / "c").pieces
    assert len(pieces) == 3 + 8 * 3 and pieces["n_notes"].max() == 100
    assert (pieces.groupby("song")["split"].nunique() == 1).all()


def test_folders_are_searched_for_tabs_too(tmp_path):
    for name in ("a.gp5", "b.GP3", "c.mid", "d.txt", "e.gpx"):
        (tmp_path / name).write_bytes(b"")
    assert [source.file.name for source in scan([tmp_path]).sources] == ["a.gp5", "b.GP3", "c.mid", "e.gpx"]


def test_the_pedal_lengthens_notes_only_if_asked(song):
    score = symusic.Score(song.file)
    pedal = symusic.ControlChange
    score.tracks[1].controls.extend([pedal(0, 64, 127), pedal(480, 64, 0)])  # under the bass's first two eighths
    score.dump_midi(str(song.file))
    for held, count, first in ((False, 0, 12), (True, 1, 24)):  # the second one ends as the pedal goes up
        reading = read_source(song, Rules("tabs", min_notes=60, pedal=held))
        notes = Notes.from_ids([reading.pieces[2].ids], vocabulary(False))
        assert (reading.notes.get("pedal", 0), notes.duration[0]) == (count, first)
