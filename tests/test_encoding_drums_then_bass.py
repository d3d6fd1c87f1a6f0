"""Drum parts and their basses as one sequence of tokens, and back."""

from __future__ import annotations

import numpy as np
import pytest

from mgen.encoding.drum_bass import CLASSES, HOLD, PITCHES, REST, canonical
from mgen.encoding.drums_then_bass import decode_bass, encode_drums, encode_pairs
from mgen.encoding.remi import Kind, Remi
from mgen.music.keys import semitones_to_c
from mgen.notes import Notes

REMI = Remi.build(("other",), multi=True, velocity=False)
HEAD = [REMI.bos_id, REMI.style_ids["other"]]


def pairs(count, steps, seed=0):
    """Random drum parts, bass lines and transpositions."""
    rng = np.random.default_rng(seed)
    drums = rng.random((count, steps, 14)) < 0.1
    drums[:, 0, 0] = True
    bass = rng.choice([*range(PITCHES), REST, HOLD], size=(count, steps)).astype(np.uint8)
    bass[:, -1] = rng.integers(PITCHES, size=count)  # so that no line is silent
    return drums, canonical(bass), rng.integers(-6, 6, size=count)


@pytest.mark.parametrize("steps", [32, 64])
def test_what_is_written_is_read_again(steps):
    drums, bass, semitones = pairs(50, steps)
    ids, given = encode_pairs(drums, bass, semitones, REMI)
    prompts = [[*HEAD, *row[:count]] for row, count in zip(ids, given, strict=True)]
    back = decode_bass(prompts, [row[count:] for row, count in zip(ids, given, strict=True)], semitones, steps, REMI)
    assert back.max() < CLASSES
    np.testing.assert_array_equal(back, bass)


def test_prompts_are_the_drums_and_nothing_else():
    drums, bass, semitones = pairs(20, 64)
    ids, given = encode_pairs(drums, bass, semitones, REMI)
    alone = encode_drums(drums, REMI)
    for row, count, prompt in zip(ids, given, alone, strict=True):
        np.testing.assert_array_equal(row[:count], prompt)
        programs = REMI.value[row[REMI.kind[row] == Kind.PROGRAM]]
        n_drums = int((REMI.kind[row[:count]] == Kind.PROGRAM).sum())
        assert (programs[:n_drums] == -1).all() and (programs[n_drums:] == 33).all()
        assert (row[:count] == REMI.bar_id).sum() == 4 and row[count] == REMI.bar_id


def test_the_bass_starts_with_the_bar_in_which_the_drums_start():
    """An empty first bar of bass too, which tells where a kick and a bass note are together."""
    drums = np.zeros((1, 32, 14), bool)
    drums[0, [0, 16], 0] = True  # a kick on each downbeat
    bass = np.full((1, 32), REST, np.uint8)
    bass[0, 16] = 12
    (row,), (count,) = encode_pairs(drums, bass, np.zeros(1, np.int64), REMI)
    notes = Notes.from_completions([[*HEAD, *row[:count]]], [row[count:]], REMI)
    assert notes.onset.tolist() == [96] and notes.given.onset.tolist() == [0, 96]


@pytest.mark.parametrize(("key", "semitones"), [(0, 0), (2, -2), (7, 5), (6, -6), (21, 0), (16, 5), (15, -6), (24, 0)])
def test_keys_move_to_c_major_and_a_minor(key, semitones):
    """D major goes down 2, G major up 5; A minor stays, E minor goes up 5, E flat minor down 6."""
    assert semitones_to_c(np.array([key])).tolist() == [semitones]


def test_merges_change_the_tokens_and_not_the_music():
    drums, bass, semitones = pairs(40, 32)
    ids, given = encode_pairs(drums, bass, semitones, REMI)
    merged = REMI.learn_merges([row.astype(np.uint16) for row in ids], 50)
    assert merged.merges
    prompts = encode_drums(drums, merged)
    assert sum(map(len, prompts)) < given.sum()
    rest = [merged.merge(row[count:]) for row, count in zip(ids, given, strict=True)]
    heads = [[merged.bos_id, merged.style_ids["other"], *row] for row in prompts]
    np.testing.assert_array_equal(decode_bass(heads, rest, semitones, 32, merged), bass)
