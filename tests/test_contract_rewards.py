"""What every judge promises, checked over `REWARDS` and the critics."""

from __future__ import annotations

import numpy as np
import pytest
from critics_music import MEDIANS
from hypothesis import given, settings
from hypothesis import strategies as st
from rewards_pieces import BANDS, song

from critics.realism.feature_discriminator import FeatureDiscriminator
from critics.realism.token_discriminator import TokenDiscriminator
from critics.sequence import SequenceCritic
from critics.style import StyleCritic
from critics.style.critic import TokenModel
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.stats.calibration import Calibration
from mgen.testing import check_judge, random_token_ids
from rewards import REWARDS
from rewards.bands import MEASURES, fit_bands

REMI = Remi.build(("jazz", "other"))
JUDGES = {name: factory(BANDS) for name, factory in REWARDS.items()}


@st.composite
def batches(draw: st.DrawFn) -> Notes:
    """Pieces of random tokens: some intact, some corrupted, some empty; the start of each is prompt."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = draw(st.lists(st.sampled_from([0, 1, 8, 30, 90, 300]), min_size=1, max_size=6))
    ids = [random_token_ids(REMI, rng, size) for size in sizes]
    return Notes.from_ids(ids, REMI, [min(draw(st.integers(0, 12)), size) for size in sizes])


every_judge = pytest.mark.parametrize("name", REWARDS)
few = settings(max_examples=40, deadline=None)


@pytest.mark.slow
@every_judge
@few
@given(notes=batches(), seed=st.integers(0, 100))
def test_a_reward_keeps_the_contract_of_judges(name, notes, seed):
    check_judge(lambda: JUDGES[name], name=name, notes=notes, transposition_invariant=True, seed=seed)
    assert (JUDGES[name](notes).score <= 0).all()


@every_judge
def test_a_song_can_be_judged_and_composed_music_too(name):
    check_judge(lambda: JUDGES[name], name=name, transposition_invariant=True)
    assert JUDGES[name](song()).defined.all()


def test_critics_keep_the_contract_of_judges(remi):
    """Networks sum in the order of their batch, hence the tolerance."""
    network = SequenceCritic.new(remi, max_tokens=127)
    style = StyleCritic(TokenModel(network, Calibration(), MEDIANS), "jazz")
    realism = TokenDiscriminator.new(remi, max_tokens=127)
    realism.calibration = Calibration(1.0, 0.1)  # untrained, it scores every piece 0
    for critic in (style, realism, FeatureDiscriminator()):
        check_judge(lambda critic=critic: critic, name=type(critic).__name__, tolerance=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(REWARDS.keys() & MEASURES.keys()))
@few
@given(notes=batches())
def test_a_judge_is_content_exactly_inside_the_band_of_its_name(name, notes):
    value = MEASURES[name].of(notes)
    inside = (value >= BANDS[name].low) & (value <= BANDS[name].high)
    np.testing.assert_array_equal(JUDGES[name](notes).score == 0, inside)


def test_bands_of_a_corpus_build_every_judge():
    rng = np.random.default_rng(0)
    notes = Notes.from_ids([random_token_ids(REMI, rng, 300) for _ in range(40)], REMI)
    bands = fit_bands(notes)
    for name in REWARDS.keys() & MEASURES.keys():
        judged = REWARDS[name](bands)(notes)
        assert (judged.score[judged.defined] == 0).mean() >= MEASURES[name].inside - 0.05


@every_judge
def test_a_missing_band_is_named(name):
    with pytest.raises(MgenError, match=r"bands: no '\w+' \(there: other\)"):
        REWARDS[name]({"other": BANDS["n_notes"]})
