from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import symusic
from hypothesis import given
from hypothesis import strategies as st

from mgen.corpus import duplicates
from mgen.corpus.clean import clean, normalise
from mgen.corpus.demo import COLLECTIONS, compose
from mgen.corpus.duplicates import (
    MAX_SHINGLES,
    Pairs,
    Shingles,
    collection_overlap,
    compare,
    connected_groups,
    content_hash,
    largest_overlap,
    name_pairs,
    near_duplicates,
    shingles,
    signature,
)
from mgen.notes import Notes

pytestmark = pytest.mark.slow

TUNE = [60, 64, 62, 67, 65, 72, 71]  # intervals 4 -2 5 -2 7 -1
QUARTER = 24


def piece(rows, tpq=24, program=0, drums=False):
    """One piece of notes (onset, duration, pitch), in ticks."""
    score = symusic.Score(tpq)
    track = symusic.Track("", program, drums)
    for onset, duration, pitch in rows:
        track.notes.append(symusic.Note(int(onset), int(duration), int(pitch), 64))
    score.tracks.append(track)
    return Notes.from_scores([score])


def line(pitches, step=QUARTER):
    return piece([(i * step, step, pitch) for i, pitch in enumerate(pitches)])


def shingle_table(pieces):
    return Shingles.from_stream(partial(enumerate, pieces), [len(piece) for piece in pieces])


def table(*sets):
    return shingle_table([np.array(sorted(one), np.uint32) for one in sets])


MUSIC = st.lists(
    st.tuples(st.integers(0, 200), st.integers(1, 30), st.integers(30, 90)), min_size=10, max_size=60, unique=True
)


# What a piece is known by


def test_the_same_notes_with_other_dynamics_and_metre_are_the_same_content():
    notes = line(TUNE)
    waltz = symusic.Score(24)
    waltz.time_signatures.append(symusic.TimeSignature(0, 3, 4))
    waltz.tracks.append(notes.to_score(0).tracks[0])
    assert content_hash(Notes.from_scores([waltz])) == content_hash(notes)
    assert content_hash(replace(notes, velocity=notes.velocity + 9)) == content_hash(notes)
    assert len(content_hash(notes)) == 16


@pytest.mark.parametrize("column", ["onset", "duration", "pitch", "program"])
def test_one_other_note_is_other_content(column):
    notes = line(TUNE)
    changed = getattr(notes, column).copy()
    changed[-1] += 1
    assert content_hash(replace(notes, **{column: changed})) != content_hash(notes)


def test_shingles_are_six_intervals_of_the_highest_and_of_the_lowest_notes():
    assert len(shingles(line(TUNE))) == 2  # one of the tops, one of the bottoms
    assert len(shingles(line([*TUNE, 76]))) == 4
    assert len(shingles(line(TUNE[:-1]))) == 0
    bass = [36, 43, 40, 38, 41, 47, 48]
    both = piece([(i * 24, 24, pitch) for i, two in enumerate(zip(TUNE, bass, strict=True)) for pitch in two])
    assert set(shingles(both)) & set(shingles(line(TUNE)))
    assert set(shingles(both)) & set(shingles(line(bass)))
    assert not set(shingles(line(bass))) & set(shingles(line(TUNE)))


@pytest.mark.parametrize(
    "pitches",
    [range(40, 90), [60, 62, 64, 65, 67, 69, 71] * 4, [60] * 50, [60, 62] * 20, [60, 64, 67] * 20],
    ids=["chromatic", "scale", "one note", "trill", "broken triad"],
)
def test_what_everyone_plays_is_no_shingle(pitches):
    assert len(shingles(line(pitches))) == 0


@given(MUSIC, st.integers(-20, 20))
def test_the_key_changes_no_shingle(rows, semitones):
    moved = [(onset, duration, pitch + semitones) for onset, duration, pitch in rows]
    np.testing.assert_array_equal(shingles(piece(moved)), shingles(piece(rows)))


@given(MUSIC, st.integers(2, 5))
def test_a_whole_multiple_of_the_tempo_changes_no_shingle(rows, factor):
    slow = [(onset * factor, duration * factor, pitch) for onset, duration, pitch in rows]
    np.testing.assert_array_equal(shingles(piece(slow)), shingles(piece(rows)))


@given(MUSIC)
def test_notes_between_the_highest_and_the_lowest_change_no_shingle(rows):
    rows = [(10 * onset, 10, pitch) for onset, _, pitch in rows]
    ends = {}
    for onset, _, pitch in rows:
        low, high = ends.get(onset, (pitch, pitch))
        ends[onset] = min(low, pitch), max(high, pitch)
    thin = [(onset, 10, pitch) for onset, two in ends.items() for pitch in set(two)]
    full = rows + [(onset, 10, (low + high) // 2) for onset, (low, high) in ends.items()]
    np.testing.assert_array_equal(shingles(piece(full)), shingles(piece(thin)))


@given(st.lists(st.integers(40, 80), min_size=10, max_size=60), st.data())
def test_what_is_cut_off_takes_only_its_own_shingles_away(pitches, data):
    first = data.draw(st.integers(0, len(pitches) - 1))
    last = data.draw(st.integers(first + 1, len(pitches)))
    assert set(shingles(line(pitches[first:last]))) <= set(shingles(line(pitches)))


def test_a_chord_that_is_not_struck_together_is_still_one():
    chords = [(i * 24, pitch) for i, top in enumerate(TUNE) for pitch in (top - 9, top - 5, top)]
    spread = [(onset + 3 * (k % 3), 24, pitch) for k, (onset, pitch) in enumerate(chords)]
    together = shingles(piece([(onset, 24, pitch) for onset, pitch in chords]))
    assert len(together) == 2
    assert set(together) <= set(shingles(piece(spread)))


def test_drums_and_silence_have_no_shingles():
    assert len(shingles(piece([(i * 24, 24, pitch) for i, pitch in enumerate(TUNE)], drums=True))) == 0
    assert len(shingles(Notes.from_scores([symusic.Score(24)]))) == 0


def test_a_long_piece_keeps_its_smallest_shingles(monkeypatch):
    pitches = np.random.default_rng(0).integers(40, 80, 400)
    whole = shingles(line(pitches))
    assert len(whole) > 700
    monkeypatch.setattr(duplicates, "MAX_SHINGLES", 100)
    np.testing.assert_array_equal(shingles(line(pitches)), np.sort(whole)[:100])


@pytest.mark.parametrize("function", [content_hash, shingles])
def test_several_pieces_at_once_are_named(function):
    with pytest.raises(ValueError, match="expected one piece, got 2; take one with"):
        function(Notes.concat([line(TUNE), line(TUNE)]))


def test_signatures_agree_as_often_as_the_sets_do():
    drawn = np.random.default_rng(0).choice(2**32, 900, replace=False).astype(np.uint32)
    one, other = drawn[:600], drawn[300:]  # 300 of 900 are in both
    agree = (signature(one) == signature(other)).mean()
    assert agree == pytest.approx(1 / 3, abs=0.09)  # three deviations of 256 draws
    np.testing.assert_array_equal(signature(one[::-1]), signature(one))


# What pieces have in common


def test_containment_by_hand():
    found = compare(table({1, 2, 3, 4}, {3, 4, 5}, set(), {9}), np.array([[0, 1], [0, 2], [2, 3], [1, 3]]))
    assert found.shared.tolist() == [2, 0, 0, 0]
    assert found.containment.tolist() == [2 / 3, 0, 0, 0]


SETS = st.lists(st.sets(st.integers(0, 60), max_size=40), min_size=1, max_size=8)


@given(SETS)
def test_containment_is_set_arithmetic(sets):
    pairs = np.array([(i, j) for i in range(len(sets)) for j in range(len(sets))])
    found = compare(table(*sets), pairs)
    for (i, j), containment, shared in zip(pairs, found.containment, found.shared, strict=True):
        assert shared == len(sets[i] & sets[j])
        assert containment == shared / max(1, min(len(sets[i]), len(sets[j])))


@given(MUSIC)
def test_a_piece_is_contained_in_itself(rows):
    own = shingles(piece(rows))
    found = compare(shingle_table([own]), np.array([[0, 0]]))
    assert found.containment[0] == (1 if len(own) else 0)


def test_a_sample_is_contained_in_itself(monkeypatch):
    monkeypatch.setattr(duplicates, "MAX_SHINGLES", 10)
    whole, sample = set(range(9)), set(range(10))
    found = compare(table(whole, sample), np.array([[1, 1], [0, 1]]))
    assert found.containment.tolist() == [1, 1]


def test_of_long_pieces_samples_are_enough():
    rng = np.random.default_rng(0)
    pool = rng.choice(2**32, 20_000, replace=False).astype(np.uint32)
    long, part = np.sort(pool[:10_000])[:1024], np.sort(pool[7_000:12_000])[:1024]
    found = compare(shingle_table([long, part]), np.array([[0, 1]]))
    # 3000 of the smaller's 5000; about 512 of its hashes are as small as the longer one's
    assert found.containment[0] == pytest.approx(0.6, abs=3 * (0.6 * 0.4 / 512) ** 0.5)


def test_a_commonplace_is_in_more_than_so_many_pieces():
    most = 2**32 - 1
    kept = table({1, 2, most}, {1, most}, {1, 2}, set(), {7, most}).drop_common(2)
    assert [kept.pieces([i]).hashes.tolist() for i in range(5)] == [[2], [], [2], [], [7]]
    assert kept.starts.tolist() == [0, 1, 1, 2, 2, 3]


def test_without_a_number_64_pieces_are_not_too_many():
    assert len(table(*[{1}] * 64).drop_common().hashes) == 64
    assert len(table(*[{1}] * 65).drop_common().hashes) == 0


def random_sets(seed, n=60):
    """Sets of 0 to 60 numbers, two thirds of them with a part of an earlier one."""
    rng = np.random.default_rng(seed)
    sets = [set(rng.choice(2**32, rng.integers(0, 60)).tolist())]
    while len(sets) < n:
        new = rng.choice(2**32, rng.integers(0, 60)).tolist()
        old = sorted(sets[rng.integers(len(sets))]) if rng.random() < 2 / 3 else []
        sets.append({*new, *[number for number in old if rng.random() < 0.7]})
    return sets


def contained(one, other):
    return len(one & other) / max(1, min(len(one), len(other)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("pieces_at_a_time", [7, 1 << 13])
def test_near_duplicates_are_those_of_a_comparison_of_all(seed, pieces_at_a_time, monkeypatch):
    monkeypatch.setattr(duplicates, "_PIECES_AT_A_TIME", pieces_at_a_time)
    monkeypatch.setattr(duplicates, "_BLOCK_SIZE", 500)
    sets = random_sets(seed)
    every = table(*sets)
    signatures = np.array([signature(every.pieces([i]).hashes) for i in range(len(sets))])
    found = near_duplicates(
        signatures, every, min_containment=0.3, many_shared=5, min_rare_containment=0.3, min_shared=5, min_matches=1
    )
    expected = [
        (i, j)
        for i in range(len(sets))
        for j in range(i + 1, len(sets))
        if contained(sets[i], sets[j]) >= 0.3 and len(sets[i] & sets[j]) >= 5
    ]
    assert len(expected) > 20
    assert [tuple(pair) for pair in found.pieces.tolist()] == expected
    np.testing.assert_allclose(found.containment, [contained(sets[i], sets[j]) for i, j in expected])


def test_signatures_agree_in_so_many_hashes_before_shingles_are_read():
    both = table(set(range(20)), set(range(20)))
    signatures = np.array([[5, 6, 7, 8], [5, 6, 9, 9]], np.uint32)
    assert near_duplicates(signatures, both, min_matches=2).pieces.tolist() == [[0, 1]]
    assert len(near_duplicates(signatures, both, min_matches=3)) == 0


def test_a_small_share_counts_only_if_it_is_rare():
    # 20 of 100 shingles in common: those of the first two are theirs alone, the others' are in all five.
    own = [set(range(1000 * i, 1000 * i + 80)) for i in range(1, 8)]
    rare, formula = set(range(20)), set(range(100, 120))
    sets = [own[0] | rare, own[1] | rare, *(own[i] | formula for i in range(2, 7))]
    every = table(*sets)
    signatures = np.array([signature(every.pieces([i]).hashes) for i in range(7)])
    found = near_duplicates(
        signatures, every, min_containment=0.3, min_rare_containment=0.1, min_shared=16, min_matches=1
    )
    assert found.pieces.tolist() == [[0, 1]]
    assert found.containment.tolist() == [0.2]
    close = partial(
        near_duplicates, signatures, every, min_containment=0.15, min_rare_containment=0.1, min_shared=16, min_matches=1
    )
    assert len(close(many_shared=20)) == 1 + 10  # and all pairs of five
    assert len(close(many_shared=21)) == 1
    # parts of three works: what they share is rare among works
    assert len(close(many_shared=21, work=np.array([0, 1, 2, 2, 3, 4, 4]))) == 1 + 10


def test_a_crowd_of_copies_is_one_group():
    rng = np.random.default_rng(0)
    work = rng.choice(2**32, 300, replace=False).astype(np.uint32)
    sets = [np.sort(rng.permutation(work)[:200]) for _ in range(60)]
    found = near_duplicates(np.array([signature(one) for one in sets]), shingle_table(sets))
    assert connected_groups(60, found.pieces).max() == 0


def test_nothing_to_compare():
    none = near_duplicates(np.zeros((0, 8), np.uint32), table())
    assert len(none) == 0
    empty = np.array([signature(np.zeros(0, np.uint32))] * 3)  # equal, but equal in nothing
    assert len(near_duplicates(empty, table(set(), set(), set()), min_shared=0, min_matches=1)) == 0
    assert largest_overlap(table({1}), table(set(), set())).largest is None


def test_signatures_of_other_pieces_are_refused():
    with pytest.raises(ValueError, match="2 signatures, but shingles of 1 pieces"):
        near_duplicates(np.zeros((2, 8), np.uint32), table({1}))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("block", [64, 1 << 22])
def test_the_nearest_training_piece_is_that_of_a_comparison_of_all(seed, block, monkeypatch):
    monkeypatch.setattr(duplicates, "_BLOCK_SIZE", block)
    sets = random_sets(seed)
    train, test = sets[:40], sets[40:]
    found = largest_overlap(table(*train), table(*test), min_shared=3)
    for k, one in enumerate(test):
        scores = [(contained(t, one), len(t & one), -i) for i, t in enumerate(train) if len(t & one) >= 3]
        containment, shared, number = max(scores, default=(0.0, 0, 1))
        assert (found.containment[k], found.shared[k], found.train_piece[k]) == (containment, shared, -number)
    worst = int(found.containment.argmax())
    assert found.largest is not None
    assert found.largest[2] == found.containment[worst] > 0.3


def test_of_training_pieces_as_near_the_one_with_more_in_common_counts():
    train = table({1, 2}, {1, 2, 3}, {1, 2, 3, 4, 7})
    found = largest_overlap(train, table({1, 2, 3, 5, 6}, {1, 2}), min_shared=3)
    assert found.train_piece.tolist() == [1, -1]  # three of three; no three shared
    assert found.largest == (1, 0, 1.0)
    assert largest_overlap(train, table({1, 2, 3, 5, 6}), min_shared=2).train_piece.tolist() == [1]


# What belongs together


def test_relations_join_through_others():
    names = name_pairs(["waltz", "blues", "", "waltz", ""])
    group = connected_groups(6, names, np.array([[1, 5], [5, 4]]))
    assert group.tolist() == [0, 1, 2, 0, 1, 1]
    assert connected_groups(3).tolist() == [0, 1, 2]


def test_content_hashes_are_names():
    notes = [line(TUNE), line(TUNE[::-1]), line(TUNE)]
    assert name_pairs([content_hash(one) for one in notes]).tolist() == [[0, 2]]


def test_collections_overlap_by_their_pieces():
    pairs = Pairs(np.array([[0, 1], [0, 3], [1, 3]]), np.ones(3), np.ones(3, int))
    names, share = collection_overlap(pairs, ["jazz", "jazz", "jazz", "folk", "pop"])
    assert names == ["folk", "jazz", "pop"]
    # folk's only piece is twice in jazz; of three in jazz two are in jazz, and two in folk
    np.testing.assert_allclose(share, [[0, 1, 0], [2 / 3, 2 / 3, 0], [0, 0, 0]])


# Copies planted in real pieces


def altered(notes, kind, rng):
    """A copy of one piece as another hand would have left it."""
    onset, duration, pitch = (column.astype(float) for column in (notes.onset, notes.duration, notes.pitch))
    keep = np.ones(len(onset), bool)
    if "key" in kind:
        pitch = pitch + rng.choice([-6, -5, -3, -1, 2, 4, 6])
    if "tempo" in kind:
        factor = rng.choice([0.5, 1.1, 2])
        onset, duration = onset * factor, duration * factor
    if "loose" in kind:
        onset, duration = onset + rng.integers(-1, 2, len(onset)), duration + rng.integers(-2, 3, len(onset))
    if "voices" in kind:
        chord = np.unique(notes.onset, return_inverse=True)[1]
        top, bottom = np.zeros(len(onset)), np.full(len(onset), 128.0)
        np.maximum.at(top, chord, pitch)
        np.minimum.at(bottom, chord, pitch)
        keep &= (pitch == top[chord]) | (pitch == bottom[chord]) | (rng.random(len(onset)) < 0.4)
    if "gaps" in kind:
        keep &= rng.random(len(onset)) > 0.1
    if "cut" in kind:
        size = int(len(onset) * rng.uniform(0.4, 0.6))
        first = rng.integers(len(onset) - size)
        keep &= (np.arange(len(onset)) >= first) & (np.arange(len(onset)) < first + size)
    rows = np.stack([onset - onset[keep].min(), np.maximum(duration, 1), pitch])[:, keep]
    return clean(piece(np.rint(rows).T), "piano")


ALTERATIONS = ["key", "tempo", "loose", "voices", "gaps", "cut"]
ALTERATIONS += [f"{one} {other}" for i, one in enumerate(ALTERATIONS) for other in ALTERATIONS[i + 1 :]]


def test_planted_copies_are_found_and_little_else():
    rng = np.random.default_rng(0)
    notes = [normalise(compose(name, i), "piano") for name in COLLECTIONS for i in range(8)]
    source = rng.integers(len(notes), size=5 * len(ALTERATIONS))
    copies = [altered(notes[i], kind, rng) for i, kind in zip(source, ALTERATIONS * 5, strict=True)]
    known = [shingles(one) for one in notes + copies]
    found = near_duplicates(np.array([signature(one) for one in known]), shingle_table(known).drop_common())

    work = np.append(np.arange(len(notes)), source)
    pairs = {(int(i), int(j)) for i, j in found.pieces}
    hits = [(int(i), len(notes) + k) in pairs for k, i in enumerate(source)]
    assert np.mean(hits) >= 0.95
    # Pieces that the grammar composed on one tune may share more than their chords.
    assert np.mean(work[found.pieces[:, 0]] == work[found.pieces[:, 1]]) >= 0.95
    group = connected_groups(len(work), found.pieces)
    assert np.bincount(group).max() <= 30


def test_of_too_many_shingles_an_even_sample_is_kept():
    rng = np.random.default_rng(0)
    pool = rng.choice(2**32, 3000, replace=False).astype(np.uint32)
    pieces = [np.sort(rng.choice(pool, n, replace=False)) for n in (900, 600, MAX_SHINGLES, 0)]
    counts = [len(piece) for piece in pieces]
    whole = Shingles.from_stream(lambda: enumerate(pieces), counts)
    np.testing.assert_array_equal(whole.hashes, np.concatenate(pieces))
    pairs = np.array([[0, 1], [0, 2], [1, 2]])
    np.testing.assert_array_equal(whole.counts, counts)
    sample = Shingles.from_stream(lambda: reversed(list(enumerate(pieces))), counts, most=sum(counts) // 2)
    limit = sample.hashes.max()
    for number, piece in enumerate(pieces):
        np.testing.assert_array_equal(sample.pieces([number]).hashes, piece[piece <= limit])
    assert sum(counts) // 2 == pytest.approx(len(sample.hashes), rel=0.1)
    np.testing.assert_allclose(compare(sample, pairs).containment, compare(whole, pairs).containment, atol=0.06)
