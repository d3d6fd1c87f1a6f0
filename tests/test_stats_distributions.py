from __future__ import annotations

import numpy as np
import pretty_midi
import pytest
import scipy.stats
from evaluation_pieces import line, nothing, piece, random_piece, solos, works

from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.stats.distributions import (
    FEATURES,
    GROUPS,
    LENGTHS,
    Densities,
    distances,
    divergence,
    mgeval,
    overlap,
    work_groups,
)


def feature(name: str, notes: Notes) -> np.ndarray:
    (row,) = FEATURES[name](notes.pitched())
    return row


# ------------------------------------------------------------- features


def test_features_by_hand():
    # c e g c', a quarter each, then a chord of c and e for a half
    notes = piece((0, 24, 60), (24, 24, 64), (48, 24, 67), (72, 24, 72), (96, 48, 60), (96, 48, 64))
    assert feature("pitches", notes) == 4
    assert feature("notes", notes) == 6
    assert feature("range", notes) == 12
    assert feature("interval", notes) == pytest.approx((4 + 3 + 5 + 12 + 4) / 5)
    assert feature("ioi", notes) == pytest.approx(4 / 5)
    classes = feature("pitch_classes", notes)  # of 8 quarters that sound, c has 4, e 3, g 1
    np.testing.assert_allclose(classes[[0, 4, 7]], [4 / 8, 3 / 8, 1 / 8])
    moves = feature("pitch_class_moves", notes).reshape(12, 12)  # c-e e-g g-c c-c c-e
    assert (moves[0, 4], moves[4, 7], moves[7, 0], moves[0, 0]) == pytest.approx((2 / 5, 1 / 5, 1 / 5, 1 / 5))
    lengths = feature("lengths", notes)
    np.testing.assert_allclose(lengths[[1, 2]], [2 / 6, 4 / 6])
    moves = feature("length_moves", notes).reshape(12, 12)  # three times quarter to quarter, then to half, half to half
    assert (moves[2, 2], moves[2, 1], moves[1, 1]) == pytest.approx((3 / 5, 1 / 5, 1 / 5))


def test_lengths_are_the_nearest_of_the_twelve():
    for steps, expected in ((96, 96), (90, 96), (23, 24), (17, 18), (8, 8), (1, 6), (500, 96)):
        assert LENGTHS[feature("lengths", piece((0, steps, 60))).argmax()] == expected


def test_pitch_classes_are_those_of_pretty_midi():
    rng = np.random.default_rng(2)
    notes = random_piece(rng)
    midi = pretty_midi.PrettyMIDI()
    instrument = pretty_midi.Instrument(0)
    for onset, duration, pitch in zip(notes.onset.tolist(), notes.duration.tolist(), notes.pitch.tolist(), strict=True):
        instrument.notes.append(pretty_midi.Note(64, pitch, onset / 24, (onset + duration) / 24))
    midi.instruments.append(instrument)
    theirs = midi.get_pitch_class_histogram(use_duration=True, normalize=True)
    np.testing.assert_allclose(feature("pitch_classes", notes), theirs)
    ioi = np.diff(np.sort([note.start for note in instrument.notes])).mean()
    assert feature("ioi", notes) == pytest.approx(ioi)


@pytest.mark.parametrize("name", FEATURES)
def test_a_piece_without_notes_has_no_feature(name):
    assert np.isnan(FEATURES[name](nothing(2))).all()
    assert len(FEATURES[name](Notes.concat([]))) == 0


# ------------------------------------------------------------- densities


def test_distances_are_euclidean():
    rng = np.random.default_rng(0)
    for size in (1, 5):
        first, second = rng.normal(size=(4, size)), rng.normal(size=(3, size))
        expected = [[np.linalg.norm(a - b) for b in second] for a in first]
        np.testing.assert_allclose(distances(first, second), expected)


def test_densities_are_those_of_scipy_on_one_grid():
    rng = np.random.default_rng(1)
    real, other = rng.normal(0, 1, (60, 2)), rng.normal(0.8, 0.6, (50, 2))
    pair = Densities(real, other, np.zeros(60, int), np.zeros(50, int), 1)
    (mass,) = pair.of(np.ones((1, 1)))
    inside = distances(other, other)[np.triu_indices(50, 1)]
    between = distances(other, real).ravel()
    theirs = []
    for sample in (inside, between):
        density = scipy.stats.gaussian_kde(sample, bw_method=pair.width / sample.std(ddof=1))(pair.grid)
        theirs.append(density / density.sum())
    assert overlap(mass[None]) == pytest.approx(np.minimum(*theirs).sum(), abs=2e-3)
    assert divergence(mass[None]) == pytest.approx(scipy.stats.entropy(*theirs), rel=0.02)


def test_overlap_and_divergence_by_hand():
    mass = np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]])
    assert overlap(mass[None]) == pytest.approx(0.5)
    assert divergence(mass[None]) == pytest.approx(np.log(2), abs=1e-6)
    apart = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert overlap(apart[None]) == 0
    assert 20 < divergence(apart[None]) < 25


def test_a_piece_drawn_twice_is_not_compared_with_itself():
    table = np.array([[0.0], [10.0]])
    pair = Densities(table, table, np.array([0, 1]), np.array([0, 1]), 2)
    (mass,) = pair.of(np.array([[2.0, 1.0]]))
    assert (pair.grid * mass[0]).sum() == pytest.approx(10, abs=0.2)
    # between: 0 from 0 four times, 10 from 10 once, and 10 apart twice two times
    assert (pair.grid * mass[1]).sum() == pytest.approx(40 / 9, abs=0.2)


def test_groups_count_as_each_piece_would():
    rng = np.random.default_rng(2)
    real, other = rng.normal(size=(6, 2)), rng.normal(size=(5, 2))
    group, own = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 2, 2])
    weights = np.array([[2.0, 0.0, 3.0]])
    together = Densities(real, other, group, own, 3).of(weights)
    each = np.concatenate([weights[0, group], weights[0, own]])[None]
    alone = Densities(real, other, np.arange(6), np.arange(6, 11), 11)
    np.testing.assert_allclose(together, alone.of(each))


def test_many_works_are_drawn_in_groups():
    real = np.array([f"w{i}" for i in range(300)])
    first, second, groups = work_groups(real, real[:40], 0)
    assert groups == GROUPS and first.max() == GROUPS - 1
    np.testing.assert_array_equal(first[:40], second)
    assert np.ptp(np.bincount(first)) <= 1


# ------------------------------------------------------------- sets


def test_equal_sets_overlap_and_others_do_not():
    real, fresh = solos(40), solos(40, seed=1)
    same, alike, other = (
        mgeval(real, notes, replicates=20) for notes in (real, fresh, Notes.concat([line([60] * 30)] * 40))
    )
    assert same["oa"].value > 0.97 and same["kld"].value < 0.01
    assert alike["oa"].value > 0.85
    assert other["oa"].value < 0.5 and other["kld"].value > 1
    assert {f"{kind}_{name}" for kind in ("oa", "kld") for name in FEATURES} | {"oa", "kld"} == set(same)
    for cells in (same, alike, other):
        for name, cell in cells.items():
            assert cell.low <= cell.value <= cell.high, name
            assert cell.low >= 0 and (name.startswith("kld") or cell.high <= 1), name


def test_intervals_are_wider_where_pieces_are_of_few_works():
    real, other = (Notes.concat([solos(4, seed=seed)] * 10).pieces(np.arange(40) % 4) for seed in (0, 1))
    alone = mgeval(real, other, works(40), np.char.add("o", works(40)), replicates=60)["oa"]
    names = (np.arange(40) % 4).astype(str)
    crowded = mgeval(real, other, names, np.char.add("o", names), replicates=60)["oa"]
    assert crowded.high - crowded.low > 1.2 * (alone.high - alone.low)


def test_what_is_undefined_is_counted():
    real = Notes.concat([solos(6), nothing(2), line([60])])
    cells = mgeval(solos(6), real, replicates=5)
    assert cells["oa_notes"].undefined == 2 and cells["oa_interval"].undefined == 3
    assert np.isfinite(cells["oa"].value) and cells["oa"].undefined == 3
    silent = mgeval(solos(6), nothing(4), replicates=5)
    assert np.isnan(silent["oa"].value) and np.isnan(silent["kld_range"].value) and silent["oa"].undefined == 4
    alone = mgeval(solos(6), solos(1), replicates=5)  # nothing to be apart from
    assert np.isnan(alone["oa"].value)
    with pytest.raises(MgenError, match="expected a work for each of 6 real pieces, found 2"):
        mgeval(solos(6), solos(6), ["a", "b"])
