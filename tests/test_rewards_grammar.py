from __future__ import annotations

import numpy as np
import pytest
from rewards_pieces import BANDS, melodies

from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.notes import Notes
from rewards import REWARDS
from rewards.grammar import GrammarGate

REMI = Remi.build(("jazz", "other"))
VELOCITY, DURATION = (next(name for name in REMI.names if name.startswith(kind)) for kind in ("Velocity", "Duration"))


def _decode(*texts: list[str]) -> Notes:
    return Notes.from_ids([[REMI.names.index(name) for name in text] for text in texts], REMI)


def test_each_broken_token_costs_and_silence_is_worst():
    bar = ["Bar_None", "TimeSig_4/4"]
    whole = [*bar, "Position_0", "Pitch_60", VELOCITY, DURATION]
    judged = GrammarGate(fewest=1)(
        _decode(
            whole,
            [*whole, DURATION],  # one duration too many
            [*whole, DURATION, DURATION, "Bar_None", "Bar_None"],  # two, and a bar without metre
            [*whole, *[VELOCITY] * 60],
            bar,  # nothing broken, no penalty
            [],
        )
    )
    np.testing.assert_array_equal(judged.score, [0, -10, -11, -20, -20, -20])
    np.testing.assert_array_equal(judged.defined, [True, True, True, True, False, False])
    # one note in each of the first four pieces, and none in the others, to carry it all
    np.testing.assert_array_equal(judged.credit, [0, -10, -11, -20])


def test_too_few_notes_are_no_music():
    judged = GrammarGate(fewest=3)(melodies([60, 62], [60, 62, 64]))
    np.testing.assert_array_equal(judged.score, [-20, 0])
    np.testing.assert_array_equal(judged.defined, [False, True])


def test_the_registry_asks_half_of_the_low_edge():
    judge = REWARDS["grammar"](BANDS)  # n_notes from 6
    np.testing.assert_array_equal(judge(melodies([60, 62], [60, 62, 64])).defined, [False, True])


def test_a_broken_token_costs_more_than_any_three_band_rules():
    band_rules = [factory(BANDS) for name, factory in REWARDS.items() if name != "grammar"]
    assert GrammarGate.first < sum(sorted(rule.worst for rule in band_rules)[:3])


def test_an_empty_piece_cannot_be_allowed():
    with pytest.raises(MgenError, match="at least 1 note"):
        GrammarGate(0)
