from __future__ import annotations

import csv
import itertools
from collections import Counter

import numpy as np
import pretty_midi
import pytest
import symusic

from mgen.corpus.demo import COLLECTIONS, compose, write_demo_corpus

WORKS = 12
ON_PAPER = [name for name, where in COLLECTIONS.items() if not where.performed]
PERFORMED = [name for name, where in COLLECTIONS.items() if where.performed]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_demo_corpus(tmp_path_factory.mktemp("demo"), WORKS).parent


@pytest.fixture(scope="module")
def files(folder):
    return {name: sorted((folder / where.style / name).glob("*.mid")) for name, where in COLLECTIONS.items()}


@pytest.fixture(scope="module")
def pieces(files):
    return {name: [symusic.Score(path) for path in paths] for name, paths in files.items()}


def notes_of(piece):
    return [(n.start, n.duration, n.pitch, n.velocity) for t in piece.tracks for n in t.notes]


def bar_of(piece):
    meter = piece.time_signatures[0]
    return piece.tpq * 4 * meter.numerator // meter.denominator


def test_a_piece_depends_on_collection_index_and_seed_alone(folder, files, tmp_path):
    write_demo_corpus(tmp_path, works_per_collection=2)
    for path in itertools.chain.from_iterable(paths[:2] for paths in files.values()):
        assert path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes()
    assert notes_of(compose("chorales", 0, seed=1)) != notes_of(compose("chorales", 0, seed=0))


def test_metadata_lists_every_file_once(folder, files):
    with (folder / "metadata.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["path", "style", "collection", "work", "artist"]
    listed = [folder / line["path"] for line in lines]
    assert sorted(listed) == sorted(itertools.chain.from_iterable(files.values()))
    assert len({line["work"] for line in lines}) == len(lines) == WORKS * len(COLLECTIONS)
    for line in lines:
        style, collection, stem = line["path"].removesuffix(".mid").split("/")
        assert (style, collection, stem) == (line["style"], line["collection"], line["work"])
    assert {line["style"] for line in lines} == {"jazz", "other"}
    assert min(Counter(line["artist"] for line in lines).values()) > 1


@pytest.mark.parametrize("name", COLLECTIONS)
def test_pretty_midi_hears_what_symusic_reads(name, files):
    for path in files[name][:3]:
        ours = symusic.Score(path, ttype="second")
        theirs = pretty_midi.PrettyMIDI(str(path))
        names = [part.name for part in theirs.instruments]
        assert all(names) and [track.name for track in ours.tracks] == names
        assert [t.is_drum for t in ours.tracks] == [part.is_drum for part in theirs.instruments]
        for track, part in zip(ours.tracks, theirs.instruments, strict=True):
            expected = sorted((n.pitch, n.start, n.end, n.velocity) for n in part.notes)
            found = sorted((n.pitch, n.start, n.end, n.velocity) for n in track.notes)
            np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("name", COLLECTIONS)
def test_notes_are_playable(name, pieces):
    for piece in pieces[name]:
        assert 150 <= piece.note_num() <= 650
        for track in piece.tracks:
            assert min(note.duration for note in track.notes) > 0
            for pitch in range(128):
                struck = sorted((n.start, n.end) for n in track.notes if n.pitch == pitch)
                assert all(end <= start for (_, end), (start, _) in itertools.pairwise(struck))


@pytest.mark.parametrize("name", ON_PAPER)
def test_swing_is_two_to_one_in_jazz_and_eighths_are_straight_elsewhere(name, pieces):
    for piece in pieces[name]:
        phases = np.array([note[0] % piece.tpq / piece.tpq for note in notes_of(piece)])
        upbeat = np.median(phases[(phases > 0.4) & (phases < 0.7)])
        ratio = upbeat / (1 - upbeat)
        assert ratio == pytest.approx(2 if COLLECTIONS[name].style == "jazz" else 1)
        wrong = 1 / 2 if COLLECTIONS[name].style == "jazz" else 2 / 3
        assert not np.isclose(phases, wrong).any()


def share_on_grid(piece):
    onsets = np.array([note[0] for note in notes_of(piece)])
    return np.mean(onsets % (piece.tpq // 24) == 0)


def test_only_performed_pieces_are_off_the_grid(pieces):
    assert {COLLECTIONS[name].style for name in PERFORMED} == {"jazz", "other"}
    assert all(share_on_grid(piece) == 1 for name in ON_PAPER for piece in pieces[name])
    # 384 ticks a quarter are 16 a step, so that one onset in 16 is on the grid by chance
    assert all(share_on_grid(piece) < 0.15 for name in PERFORMED for piece in pieces[name])
    assert {piece.tempos[0].qpm for name in PERFORMED for piece in pieces[name]} == {120}


def test_a_format_names_its_collection_but_no_part_of_it_names_the_style(pieces):
    formats = {}
    for name, collected in pieces.items():
        velocities = [note[3] for piece in collected for note in notes_of(piece)]
        tpq, tracks = {p.tpq for p in collected}, {len(p.tracks) for p in collected}
        assert len(tpq) == len(tracks) == 1
        low, high = COLLECTIONS[name].velocity
        assert low <= min(velocities) <= max(velocities) <= high
        assert max(velocities) - min(velocities) >= 0.8 * (high - low)
        formats[name] = tpq.pop(), tracks.pop(), COLLECTIONS[name].velocity
    assert len(set(formats.values())) == len(formats) - 1
    assert formats["club_takes"] == formats["pop_takes"]
    for part in range(3):
        by_style = {
            style: {formats[name][part] for name in formats if COLLECTIONS[name].style == style}
            for style in ("jazz", "other")
        }
        assert by_style["jazz"] == by_style["other"]
        assert len(by_style["jazz"]) >= 3


def test_multitrack_pieces_have_drums_and_other_programs(pieces):
    for name in ("combo_charts", "pop_band"):
        for piece in pieces[name]:
            assert [track.is_drum for track in piece.tracks] == [False, False, False, True]
            assert len({track.program for track in piece.tracks[:3]}) == 3
    assert not any(t.is_drum for name in ("lead_sheets", "chorales") for p in pieces[name] for t in p.tracks)


def test_one_collection_is_pedalled(pieces):
    pedalled = {n for n, collected in pieces.items() for p in collected if p.tracks[0].pedals}
    assert pedalled == {"pop_takes"}
    assert all(len(piece.tracks[0].pedals) >= 24 for piece in pieces["pop_takes"])


@pytest.mark.parametrize("name", ON_PAPER)
def test_a_piece_has_24_to_36_bars_and_ends_on_one_long_chord(name, pieces):
    for piece in pieces[name]:
        bars, left = divmod(piece.end(), bar_of(piece))
        last = [note for note in notes_of(piece) if note[0] >= (bars - 1) * bar_of(piece)]
        assert (24 <= bars <= 36, left) == (True, 0)
        assert {note[0] for note in last} == {(bars - 1) * bar_of(piece)}


def test_meters_are_mostly_four_with_some_three_and_six(pieces):
    meters = Counter(
        (piece.time_signatures[0].numerator, piece.time_signatures[0].denominator)
        for collected in pieces.values()
        for piece in collected
    )
    assert set(meters) == {(4, 4), (3, 4), (6, 8)}
    assert meters[4, 4] > sum(meters.values()) / 2


@pytest.mark.parametrize("name", ON_PAPER)
def test_the_twelve_keys_come_up_in_turn_and_are_what_is_written(name, pieces):
    signatures = [piece.key_signatures[0].key for piece in pieces[name]]
    assert sorted(signatures) == list(range(-5, 7))
    if COLLECTIONS[name].style == "other":
        for piece, sharps in zip(pieces[name], signatures, strict=True):
            pitch = np.array([n.pitch for t in piece.tracks if not t.is_drum for n in t.notes])
            # a signature with k sharps more has its scale k fifths higher
            in_scale = [np.isin((pitch - 7 * key) % 12, (0, 2, 4, 5, 7, 9, 11)).mean() for key in range(-5, 7)]
            assert in_scale[sharps + 5] == max(in_scale) > 0.9


def share_of_seconds(piece):
    """Of the pairs of pitch classes that sound together on a quarter, those 1 or 2 apart."""
    notes = [(n.start, n.end, n.pitch) for t in piece.tracks if not t.is_drum for n in t.notes]
    start, end, pitch = np.array(notes).T
    apart = [
        (high - low) % 12
        for tick in range(piece.tpq // 8, piece.end(), piece.tpq)
        for low, high in itertools.combinations(np.unique(pitch[(start <= tick) & (tick < end)] % 12), 2)
    ]
    return np.mean(np.isin(apart, (1, 2, 10, 11)))


def test_sevenths_and_ninths_tell_jazz_from_the_rest(pieces):
    shares = {
        style: [
            share_of_seconds(piece)
            for name, collected in pieces.items()
            if COLLECTIONS[name].style == style
            for piece in collected
        ]
        for style in ("jazz", "other")
    }
    # a triad has no second in any inversion, a chord with a seventh or a ninth has
    threshold = (np.mean(shares["jazz"]) + np.mean(shares["other"])) / 2
    assert np.mean(np.array(shares["jazz"]) > threshold) > 0.9
    assert np.mean(np.array(shares["other"]) < threshold) > 0.9


def test_no_two_pieces_are_alike_even_transposed(pieces):
    contents = [
        tuple((start * 24 // piece.tpq, pitch - notes[0][2]) for start, _, pitch, _ in notes)
        for collected in pieces.values()
        for piece in collected
        for notes in [notes_of(piece)]
    ]
    assert len(set(contents)) == len(contents)


def test_a_theme_returns_varied(pieces):
    """In AABA, the second A has the rhythms of the first one's motif and answer, the B others."""
    again, elsewhere, literal = [], [], []
    for piece in pieces["lead_sheets"]:
        bars = [[] for _ in range(32)]
        for note in piece.tracks[0].notes:
            bars[note.start // bar_of(piece)].append((note.start % bar_of(piece), note.pitch))
        rhythms = [[onset for onset, _ in bar] for bar in bars]
        again += [rhythms[bar] == rhythms[bar + 8] for bar in (0, 1, 4, 5)]
        elsewhere += [rhythms[bar] == rhythms[bar + 16] for bar in (0, 1, 4, 5)]
        literal += [bars[bar] == bars[bar + 8] for bar in (0, 1, 4, 5)]
    assert np.mean(again) > 0.5 > 0.2 > np.mean(elsewhere)
    assert np.mean(literal) < 0.3


def test_chorale_voices_keep_their_order_and_step(pieces):
    for piece in pieces["chorales"]:
        voices = [[(note.start, note.pitch) for note in track.notes] for track in piece.tracks]
        for voice, reach in zip(voices, (5, 5, 5, 7), strict=True):
            assert max(abs(b - a) for (_, a), (_, b) in itertools.pairwise(voice)) <= reach
        together = set.intersection(*({start for start, _ in voice} for voice in voices))
        for start in together:
            chord = [dict(voice)[start] for voice in voices]
            assert chord == sorted(chord, reverse=True)
