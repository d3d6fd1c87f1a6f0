"""Rules of a bass to given drums, worked by hand, and the contract of judges."""

from __future__ import annotations

import numpy as np
import pytest

from mgen.encoding.drum_bass import HOLD, REST
from mgen.encoding.drums_then_bass import encode_pairs
from mgen.encoding.remi import Remi
from mgen.notes import Notes
from mgen.testing import check_judge
from rewards import ACCOMPANIMENT
from rewards.accompaniment import ACCOMPANIMENT_RULES
from rewards.bands import fit_bands
from rewards.rule import Band

REMI = Remi.build(("other",), multi=True, velocity=False)
C, D, C_SHARP = 8, 10, 9  # classes of C2, D2 and C#2


def completions(kicks, lines, steps=32):
    """Notes of bass lines (16th -> class) to drums with kicks at these 16ths."""
    drums = np.zeros((len(lines), steps, 14), bool)
    drums[:, 4, 1] = True  # a snare, so that there are drums without kicks too
    bass = np.full((len(lines), steps), REST, np.uint8)
    for row, line in enumerate(lines):
        drums[row, list(kicks[row]), 0] = True
        for step, pitch in line.items():
            bass[row, step] = pitch
            bass[row, step + 1] = HOLD
    ids, given = encode_pairs(drums, bass, np.zeros(len(lines), np.int64), REMI)
    head = [REMI.bos_id, REMI.style_ids["other"]]
    prompts = [[*head, *row[:count]] for row, count in zip(ids, given, strict=True)]
    return Notes.from_completions(prompts, [row[count:] for row, count in zip(ids, given, strict=True)], REMI)


def judge(name, notes, low, high):
    return ACCOMPANIMENT_RULES[name](Band(low, high))(notes)


def test_kick_agreement_by_hand():
    # 4 kicks; lines on all of them, on 2 with 2 notes elsewhere, on none. Dice: 1, 4/8, 0.
    kicks = [(0, 8, 16, 24)] * 3
    lines = [dict.fromkeys((0, 8, 16, 24), C), dict.fromkeys((0, 8, 12, 28), C), dict.fromkeys((2, 6), C)]
    judged = judge("kick_agreement", completions(kicks, lines), 0.5, 0.75)
    # Band widths of .25: 1 is one width above, .5 inside, 0 two below.
    np.testing.assert_allclose(judged.score, [-1, 0, -2])
    assert judged.defined.all()
    np.testing.assert_allclose(judged.credit, [-0.25] * 4 + [0] * 4 + [-1, -1])


def test_too_little_agreement_is_the_fault_of_notes_without_a_kick():
    judged = judge("kick_agreement", completions([(0, 8)], [{0: C, 4: C, 6: C, 12: C}]), 0.5, 0.75)
    np.testing.assert_allclose(judged.credit / judged.score[0], [0, 1 / 3, 1 / 3, 1 / 3])


def test_in_key_by_hand():
    # Of four notes one is outside C major: .75, one width below a band from .85 to .95.
    judged = judge("in_key", completions([(0,)], [{0: C, 4: D, 8: C_SHARP, 12: C}]), 0.85, 0.95)
    np.testing.assert_allclose(judged.score, [-1], rtol=1e-5)
    np.testing.assert_allclose(judged.credit, [0, 0, -1, 0], rtol=1e-5)


def test_without_drums_that_are_given_alone_nothing_is_judged():
    alone = completions([(0, 8), ()], [{0: C, 8: C}] * 2)
    for name in ACCOMPANIMENT_RULES:
        assert judge(name, alone, 0.2, 0.9).defined.tolist() == [True, name == "in_key"]  # the second has no kick
        ids = [[REMI.bos_id]]
        assert not judge(name, Notes.from_ids(ids, REMI), 0.2, 0.9).defined.any()
    pitched = Notes.from_ids([[*row, *row] for row in [REMI.encode(alone.pieces([0]))[0]]], REMI, start=10)
    assert pitched.given is not None
    for name in ACCOMPANIMENT_RULES:
        judged = judge(name, pitched, 0.2, 0.9)
        assert not judged.defined.any() and (judged.score == -3).all()


@pytest.mark.parametrize("name", ACCOMPANIMENT)
def test_the_contract_of_judges(name):
    rng = np.random.default_rng(0)
    kicks = [tuple(rng.choice(32, 6, replace=False)) for _ in range(30)]
    lines = [{int(step): int(rng.integers(12)) for step in rng.choice(15, 6, replace=False) * 2} for _ in range(30)]
    notes = completions(kicks, lines)
    bands = fit_bands(notes)
    built = ACCOMPANIMENT[name](bands)
    check_judge(lambda: built, name=name, notes=notes)
    assert (built(notes).score == 0).mean() >= 0.5


def test_a_band_needs_given_drums():
    notes = completions([(0, 8)] * 30, [{0: C, 4: D}] * 30)
    assert {*ACCOMPANIMENT} <= {*fit_bands(notes)} | {*fit_bands(notes).left_out}
    plain = Notes.from_ids(REMI.encode(notes), REMI)
    assert not {*ACCOMPANIMENT} & ({*fit_bands(plain)} | {*fit_bands(plain).left_out})
