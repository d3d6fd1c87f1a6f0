"""Style features: by paper and pencil on a bar or two, and what must not change them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
from evaluation_pieces import demo, each, line, nothing, piece, random_piece, solos

from critics.style.ensemble import MEMBERS, feature_table, view_columns
from critics.style.features import GROUPS, MAJOR_KEY, MINOR_KEY, SCALES, VIEWS, feature_columns, style_features
from mgen.corpus.demo import COLLECTIONS
from mgen.music.onset_clusters import OnsetClusters
from mgen.notes import Notes, sort_order

C, D, E, F, G, A, B = 60, 62, 64, 65, 67, 69, 71


def group(name: str, notes: Notes) -> list[np.ndarray]:
    """A group's parts for one piece."""
    return [part[0] for part in GROUPS[name](OnsetClusters(notes))]


def chords(*sets: tuple[int, ...], step: int = 24) -> Notes:
    return piece(*((step * i, step, pitch) for i, pitches in enumerate(sets) for pitch in pitches))


def shares(part: np.ndarray) -> dict[int, float]:
    """The bins that hold something."""
    return {int(k): pytest.approx(part[k]) for k in np.flatnonzero(part)}


# ------------------------------------------------------------ by hand


def test_melody_by_hand():
    interval, pairs, two, three, four = group("melody", line([C, D, E, E - 12]))
    assert shares(interval) == {14: 2 / 3, 0: 1 / 3}  # two tones up; an octave down
    assert len(interval) == 25 and len(pairs) == 121 and pairs.sum() == pytest.approx(1)
    up, down = 7, 0  # classes: up a tone is above the edge 2 and below 3, down an octave below -8
    assert shares(pairs) == {11 * up + up: 1 / 2, 11 * down + up: 1 / 2}
    assert shares(two) == {4: 1 / 2, 2: 1 / 2} and shares(three) == {4: 1.0}  # C to E, D to E; C to E
    assert np.isnan(four).all()


def test_kinds_of_chords_are_alike_in_every_key_and_inversion():
    major = [(C, E, G), (F, A, C + 12), (E, G, C + 12)]
    three, four, _, above = group("chords", chords(*major))
    # Of 12 pitch classes there are 19 kinds of three and 43 of four: necklaces of 12 beads.
    assert len(three) == 19 and len(four) == 43
    assert list(shares(three).values()) == [1.0]
    assert shares(above) == {4: 2 / 6, 7: 2 / 6, 3: 1 / 6, 8: 1 / 6}
    assert shares(group("chords", chords((C, E + 12, G + 24)))[3]) == {4: 1 / 2, 7: 1 / 2}
    both = group("chords", chords(*major, (C, E - 1, G)))[0]
    assert sorted(both[both > 0]) == pytest.approx([1 / 4, 3 / 4])
    seventh = group("chords", chords((C, E, G, G + 3), (G - 12, B - 12, D, F)))
    assert list(shares(seventh[1]).values()) == [1.0] and np.isnan(seventh[0]).all()
    assert shares(group("chords", chords((C, E, C + 12, E + 12), (C, A)))[2]) == {4: 1 / 2, 9: 1 / 2}


def test_pulse_by_hand():
    swung = piece(*((24 * beat + step, 6, 60 + beat) for beat in range(8) for step in (0, 16)))
    second, spans, third, *_, near, far = group("pulse", swung)
    assert shares(second) == {5: 1.0} and shares(spans) == {5: 1.0}  # long, short, long: the same two gaps before
    # three gaps before the other gap: up and down by a factor of 2
    assert shares(third) == {1: 1 / 2, 9: 1 / 2}
    even = group("pulse", line([60, 62, 64] * 8))
    # an even line fits half its gap and its gap; at twice the gap, neighbours cancel
    assert even[-2][:2].tolist() == [1, 1] and abs(even[-2][3]) < 0.1 and even[-1][:2].tolist() == [1, 1]
    uneven = piece(*((17 * k + 5 * (k * k % 7), 6, 60 + k % 5) for k in range(24)))
    assert group("pulse", uneven)[-1][1] < 0.9
    assert near.shape == far.shape == (6,)


def test_counterpoint_by_hand():
    above, chord, lower, upper = group("counterpoint", chords((C - 12, E, G), (F,), (D,), (C - 12, A)))
    # over the bass note C: G, F, D, A; against the chord C E G: F lies a semitone from E, D from none
    assert shares(above) == {7: 1 / 4, 5: 1 / 4, 2: 1 / 4, 9: 1 / 4}
    assert chord.tolist() == pytest.approx([0, 1 / 3, 0, 2 / 3])
    # below the median, E, the first note begins with the other hand, and D half way from F to A
    assert shares(lower) == {0: 1 / 2, 4: 1 / 2}
    late = piece(*((24 * k, 24, 70) for k in range(8)), *((24 * k + 9, 24, 40) for k in range(8)))
    *_, lower, upper = group("counterpoint", late)
    assert shares(lower) == {3: 1.0} and shares(upper) == {5: 1.0}  # 9 of 24 steps are 3 of 8, and 15 are 5


def test_a_wrong_note_is_alone_among_neighbours_a_semitone_away():
    kinds, leaps = group("surroundings", line([C, C, G, C, C + 1, G, C, C]))
    # the wrong note has none of its kind and five a semitone away; each C four of its kind and the wrong one
    assert shares(kinds) == {3: 1 / 8, 13: 5 / 8, 4: 2 / 8}
    assert leaps.tolist() == [0, 1 / 8, 0, 0, 0]


def test_what_a_window_has_in_common_with_a_chord():
    present, fit, between = group("harmony", line([C, E, G, C, E]))[:3]
    names = list(SCALES)
    assert present.tolist() == [3]
    assert fit[names.index("major")] == fit[names.index("diatonic")] == 1
    assert fit[names.index("minor")] == pytest.approx(4 / 5)  # C and G of C minor hold 3 of 5; C and E of A minor 4
    assert fit[names.index("whole_tone")] == pytest.approx(4 / 5) and fit[names.index("augmented")] == 4 / 5
    assert between.tolist() == pytest.approx([0, 0, 1 / 3, 1 / 3, 1 / 3, 0])  # E-G, C-E, G-C


def test_how_far_the_scale_has_to_move_in_fifths():
    scale = np.array([0, 2, 4, 5, 7, 9, 11])

    def moved(*windows: tuple[int, ...]) -> dict[int, float]:
        pitches = [pitch for window in windows for pitch in (list(window) * 16)[:16]]
        return shares(group("harmony", line(pitches))[-1])

    assert moved(tuple(C + scale), tuple(D + scale)) == {2: 1.0}  # a whole scale is that of one key only
    assert moved(tuple(C + scale), tuple(F + scale), tuple(B + scale)) == {1: 1 / 2, 6: 1 / 2}
    assert moved((C, E, G), (D, D + 4, A)) == {0: 1.0}  # both are in G
    assert moved((C, E, G), (E, E + 4, B)) == {2: 1.0}  # of C, F and G to E, A and B: G to A


def test_the_key_is_found_as_by_correlation():
    pitches = [E, E, E, E + 4, B, A, E, B, E + 3]
    classes = np.bincount(np.array(pitches) % 12, minlength=12) / len(pitches)
    turned, major, minor, sizes = group("key", line(pitches))
    assert np.corrcoef(np.roll(MAJOR_KEY, 4), classes)[0, 1] == pytest.approx(major[0])
    assert max(np.corrcoef(np.roll(MINOR_KEY, k), classes)[0, 1] for k in range(12)) == pytest.approx(minor[0])
    np.testing.assert_allclose(turned, np.roll(classes, -4))  # from E up
    assert turned[0] == pytest.approx(4 / 9) and sizes[-1] == turned[0] and sizes.sum() == pytest.approx(1)


def test_fifths_in_the_bass():
    roots = [48, 41, 46, 39, 44, 37]  # down a fifth, up a fourth
    step, four, eight = group("bass", chords(*((root, 60 + root % 12, 76) for root in roots)))
    assert shares(step) == {5: 1.0}
    assert np.isnan(four).all() and np.isnan(eight).all()  # six moments are one window
    held = chords(*[(pitch, C) for root in (40, 47, 38) for pitch in (root, root + 12, root + 19, root + 12)])
    assert shares(group("bass", held)[1]) == {7: 1 / 2, 3: 1 / 2}  # E B D


def test_what_returns():
    found = np.array(group("repetition", line([C, D, E, C, D, E]))).reshape(5, 5)
    # pairs CD DE EC CD DE: 2 of 5 came before; steps +2 +2 -4 +2 +2: 1 pair of 4; all notes are one kind of chord
    np.testing.assert_allclose(found[0], [2 / 5, 2 / 5, 1 / 4, 4 / 5, 2 / 5])
    np.testing.assert_allclose(found[1], [1 / 4, 1 / 4, 0, 3 / 4, 1 / 4])
    assert np.isnan(found[4]).all()  # no 12 in a row
    chorale = np.array(group("repetition", chords((C, E), (D, F), (C, E), (D, F)))).reshape(5, 5)
    np.testing.assert_allclose(chorale[0], [3 / 7, 1 / 3, 0, 1 / 3, 1 / 3])


def test_swung_and_even_lines():
    swung = piece(*((24 * beat + late, 8, C) for beat in range(4) for late in (0, 16)))
    ratios, pairs, (swings, even), neighbours = group("rhythm", swung)
    assert (swings, even) == (1, 0)
    assert shares(ratios) == {4: 3 / 6, 12: 3 / 6}  # halved and doubled: an octave, in quarters of one, from 8
    assert len(pairs) == 49 and sorted(pairs[pairs > 0]) == pytest.approx([2 / 5, 3 / 5])
    assert shares(neighbours) == {5: 4 / 7, 3: 3 / 7}  # gaps of 16 are usual, those of 8 an octave, in halves, below
    _, _, (swings, even), neighbours = group("rhythm", line([C] * 8))
    assert (swings, even) == (0, 1) and shares(neighbours) == {5: 1.0}
    # 3 to 1 is a dotted rhythm and long-short still; a long note after even ones is neither
    dotted = piece(*((24 * beat + late, 8, C) for beat in range(4) for late in (0, 18)))
    assert group("rhythm", dotted)[2].tolist() == [1, 0]
    assert group("rhythm", piece(*((onset, 8, C) for onset in (0, 24, 48, 96))))[2].tolist() == [0, 0]


def test_rhythms_that_return():
    # gaps 24 24 48 24 24 48 24 24: ratios 1 2 1/2 1 2 1/2 1; triples of them: the last two of 5 came before
    onsets = np.cumsum([0, 24, 24, 48, 24, 24, 48, 24, 24])
    found = np.concatenate(group("rhythm_repetition", piece(*((onset, 8, C) for onset in onsets.tolist()))))
    np.testing.assert_allclose(found, [2 / 5, 1 / 4, 0, np.nan])


def test_texture_by_hand():
    size, pairs, span, inside, neighbours, hands = group("texture", chords((C, E, G), (C,), (C,), (C - 12, C + 24)))
    assert shares(size) == {0: 2 / 4, 1: 1 / 4, 2: 1 / 4}
    assert shares(pairs) == {0 * 3 + 2: 1 / 3, 0: 1 / 3, 1 * 3 + 0: 1 / 3}
    assert shares(span) == {0: 2 / 4, 2: 1 / 4, 6: 1 / 4}  # alone, a fifth (5-7), more than two octaves and a third
    assert shares(inside) == {4: 1 / 3, 3: 1 / 3, 15: 1 / 3}
    # middle C is the middle: -12 and 24 in thirds are -3 and 6, E is 1, and G, 1.75 of them, is 2
    assert shares(neighbours) == {8: 3 / 7, 9: 1 / 7, 10: 1 / 7, 5: 1 / 7, 14: 1 / 7}
    assert hands.tolist() == [1 / 4, 2 / 4, 1 / 4]


def test_leading_by_hand():
    leap, unled, *rest = group("voice_leading", line([C, D, E, F, G]))
    assert shares(leap) == {2: 3 / 4, 1: 1 / 4} and unled.tolist() == [1 / 5]
    assert np.isnan(rest).all()  # five notes are one window
    alike, apart = group("voice_leading", line([C, E, G, C, E, G, C, E] + [C + 12, E + 12, G + 12, C + 12] * 2))[2]
    # C E G as 3 3 2, and as 4 2 2
    assert alike == pytest.approx((3 * 4 + 3 * 2 + 2 * 2) / np.sqrt(22 * 24))
    assert apart == pytest.approx(12 + (4 * C + 2 * E + 2 * G) / 8 - (3 * C + 3 * E + 2 * G) / 8)


def test_seams_are_what_is_rougher_over_bar_lines():
    def up(*firsts: int) -> Notes:
        return line([first + k for first in firsts for k in range(4)])

    inside, low, high, apart, *_ = group("bar_lines", up(60, 70, 85, 95))
    # inside bars semitones; over the lines 7, 12 and 7: those to odd bars and to even ones apart
    assert inside.tolist() == [1, 1, 0]
    assert low.tolist() == [6, -1, 0] and high.tolist() == [11, -1, 0] and apart.tolist() == [5, 0, 0]
    smooth = group("bar_lines", up(60, 64, 68))
    assert smooth[1].tolist() == smooth[2].tolist() == [0, 0, 0]
    # halves of bars: no pitch class in common, 2 semitones apart inside, and 2, or 8, over the lines
    within, low, high, apart = group("bar_lines", up(60, 64, 74, 78))[4:]
    assert within.tolist() == [0, 2] and low.tolist() == [0, 0] and high.tolist() == [0, 6] and apart.tolist() == [0, 6]
    # empty bars between: nothing goes over a line
    apart = piece(*((96 * bar + 24 * k, 24, C + bar + k) for bar in (0, 3, 5, 8) for k in range(4)))
    inside, low, high, _, within, *over = group("bar_lines", apart)
    assert inside.tolist() == [1, 1, 0] and within.tolist() == [0, 2]
    assert np.isnan([low, high]).all() and np.isnan(over).all()


def test_variety_by_hand():
    found = np.concatenate(group("variety", piece((0, 8, C), (24, 8, C), (48, 8, C), (96, 8, D), (120, 8, C + 12))))
    different, longest, held = found.reshape(3, 3).T
    np.testing.assert_allclose(different, [3 / 5, 2 / 5, 2 / 4])  # C D C' of 5 notes; C D; gaps 24 and 48 of 4
    np.testing.assert_allclose(longest, np.log2([3, 3, 2]))
    np.testing.assert_allclose(held, [2 / 5, 2 / 5, 1 / 4])


def test_a_trait_is_the_root_of_its_share():
    notes = chords((C, E, G), (C,))
    table, texture = style_features(notes), np.concatenate(group("texture", notes))
    np.testing.assert_allclose(table[0, feature_columns()["texture"]], np.sqrt(np.nan_to_num(texture)))
    high = line([C, C - 1, C - 2, C - 3, C - 10, C - 11, C - 12, C - 13, C - 20])
    raw = np.nan_to_num(np.concatenate(group("bar_lines", high)))
    assert (raw < 0).any()  # what is below 0 keeps its sign
    np.testing.assert_allclose(
        style_features(high)[0, feature_columns()["bar_lines"]], np.sign(raw) * np.sqrt(np.abs(raw))
    )


# ------------------------------------------------------------ what must not change them


def music() -> Notes:
    """Pieces on a grid of half beats and more: chords, solos, several programs, a piece in the middle of nowhere."""
    rng = np.random.default_rng(0)
    random = Notes.concat([random_piece(rng, 60, program) for program in (0, 32)])
    found = Notes.concat([demo(*COLLECTIONS, works=1), solos(3, bars=8), nothing(), random, line([C]), line([C, D])])
    onset = found.onset // 12 * 12 + np.where(found.piece % 2, 480, 0)
    return in_order(replace(found, onset=onset.astype(np.int32)))


def in_order(notes: Notes) -> Notes:
    order = sort_order(notes.piece, notes.onset, notes.program, notes.pitch, notes.duration, notes.velocity)
    per_note = {f.name for f in fields(notes)} - {"n_pieces", "bars", "n_tokens", "n_broken", "given"}
    return replace(notes, **{name: getattr(notes, name)[order] for name in per_note})


def by_others(notes: Notes) -> Notes:
    program = np.random.default_rng(1).integers(0, 128, len(notes))
    return replace(notes, program=np.where(notes.program < 0, -1, program).astype(np.int32))


def with_drums(notes: Notes) -> Notes:
    """Each note doubled by a drum."""
    twice = np.arange(2 * len(notes)) // 2
    per_note = {f.name for f in fields(notes)} - {"n_pieces", "bars", "n_tokens", "n_broken", "given"}
    doubled = replace(notes, **{name: getattr(notes, name)[twice] for name in per_note})
    drum = np.arange(2 * len(notes)) % 2 == 0
    return in_order(replace(doubled, program=np.where(drum, -1, doubled.program).astype(np.int32)))


RNG = np.random.default_rng(1)
INVARIANT: dict[str, Callable[[Notes], Notes]] = {
    "a semitone up": lambda notes: replace(notes, pitch=notes.pitch + 1),
    "a fifth down": lambda notes: replace(notes, pitch=notes.pitch - 7),
    "a tritone up": lambda notes: replace(notes, pitch=notes.pitch + 6),
    "twice as slow": lambda notes: replace(notes, onset=notes.onset * 2),
    "three times as slow": lambda notes: replace(notes, onset=notes.onset * 3),
    "later": lambda notes: replace(notes, onset=notes.onset + 960),
    "louder": lambda notes: replace(notes, velocity=RNG.integers(1, 128, len(notes)).astype(np.int32)),
    "held": lambda notes: replace(notes, duration=RNG.integers(1, 200, len(notes)).astype(np.int32)),
    "by others": lambda notes: in_order(by_others(notes)),
    "with drums": with_drums,
}


@pytest.fixture(scope="module")
def pieces():
    notes = music()
    return notes, feature_table(notes)


@pytest.fixture(scope="module", params=INVARIANT)
def changed(request, pieces):
    return feature_table(INVARIANT[request.param](pieces[0]))


@pytest.mark.parametrize("name", GROUPS)
def test_a_format_change_changes_no_feature(name, changed, pieces):
    own = feature_columns()[name]
    np.testing.assert_allclose(changed[:, own], pieces[1][:, own], rtol=0, atol=1e-12)


def test_drums_do_not_make_a_piece_longer(pieces):
    notes, before = pieces
    np.testing.assert_array_equal(feature_table(with_drums(notes)), before)


def test_each_piece_is_computed_alone(pieces):
    notes, together = pieces
    alone = np.concatenate([style_features(one) for one in each(notes)])
    np.testing.assert_allclose(alone, together[:, : alone.shape[1]], rtol=0, atol=1e-12)
    turned = np.random.default_rng(2).permutation(notes.n_pieces)
    np.testing.assert_allclose(feature_table(notes.pieces(turned)), together[turned], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", GROUPS)
def test_every_group_varies_on_music(name, pieces):
    """No group is silent: it differs between any two of the demo's pieces."""
    own = pieces[1][: len(COLLECTIONS), feature_columns()[name]]
    assert len(np.unique(own.round(9), axis=0)) == len(own)


@pytest.mark.filterwarnings("error")
def test_what_is_no_music_is_survived_without_a_warning():
    odd = {
        "nothing": nothing(),
        "one note": line([C]),
        "two notes": line([C, D]),
        "one moment": chords((C, E, G, B)),
        "one pitch": line([C] * 40),
        "drums": piece((0, 12, 36), (12, 12, 38), drums=True),
        "the ends of the keyboard": line([0, 127] * 20),
        "one bar of many": line(range(30, 90), 1),
    }
    together = feature_table(Notes.concat(list(odd.values())))
    assert np.isfinite(together).all()
    for row, notes in zip(together, odd.values(), strict=True):
        np.testing.assert_allclose(feature_table(notes)[0], row, rtol=0, atol=1e-12)
    assert not together[0].any() and not together[list(odd).index("drums")].any()
    assert feature_table(Notes.concat([])).shape == (0, together.shape[1])
    assert feature_table(nothing(2)).shape == (2, together.shape[1])


def test_columns_are_those_of_the_table(pieces):
    notes, table = pieces
    end = 0
    for name, own in feature_columns().items():
        parts = np.concatenate(GROUPS[name](OnsetClusters(notes)), axis=1)
        expected = np.nan_to_num(np.sign(parts) * np.sqrt(np.abs(parts)))
        np.testing.assert_array_equal(table[:, own], expected)
        assert own.start == end
        end = own.stop
    assert list(feature_columns()) == list(GROUPS) and style_features(notes).shape == (notes.n_pieces, end)
    assert table.shape[1] == end + 1  # and the number of notes


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_its_groups_and_the_number_of_notes(view, pieces):
    table = pieces[1]
    own = view_columns(view)
    assert own[-1] == table.shape[1] - 1 and len(np.unique(own)) == len(own)
    inside = {name for name, part in feature_columns().items() if np.isin(np.arange(part.start, part.stop), own).all()}
    assert inside == set(VIEWS[view])


def test_style_members_have_no_bar_features():
    assert all("bar_lines" not in VIEWS[member.view] for member in MEMBERS if member.question == "style")
