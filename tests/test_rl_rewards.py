"""Rewards of tokens: on an enumerable toy, training ends at the optimum of the objective whatever the judge is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from critics_music import STRAIGHT, SWUNG, toy
from rewards_pieces import BANDS

from critics.realism.feature_discriminator import FeatureDiscriminator, FeatureDiscriminatorOptions
from critics.realism.token_discriminator import TokenDiscriminator
from critics.style import StyleCritic
from mgen.encoding.remi import Remi
from mgen.judgement import Judgement
from mgen.notes import Notes
from mgen.rl.credit import returns_to_go
from mgen.rl.rewards import beginnings, end_rewards, gain_rewards, predicted_scores, quantile_rewards
from mgen.stats.calibration import Calibration
from mgen.workflows.bench_judges import untrained_style_model
from rewards import REWARDS

REMI = Remi.build(("jazz", "other"))
NAMES = {name: token for token, name in enumerate(REMI.names)}
CONTENTS = ((60, 64, 67, 72, 67, 64), (62, 63, 62, 61, 60, 59), (55, 55, 55, 55, 55, 55))  # pitches of a bar
BARS = 3
KL_WEIGHT = 0.7


def bar(content: int) -> list[int]:
    """The tokens of a bar; the first of them chooses it."""
    names = [
        name
        for number, pitch in enumerate(CONTENTS[content])
        for name in (
            f"Position_{content + (12 + 2 * content) * number}",
            f"Pitch_{pitch}",
            "Velocity_63",
            "Duration_0.6.24",
        )
    ]
    return [NAMES[name] for name in names]


class Toy:
    """All pieces of three bars with one of three contents each, and a policy with free logits in each state."""

    def __init__(self) -> None:
        self.choices = np.stack(np.meshgrid(*[range(3)] * BARS, indexing="ij"), -1).reshape(-1, BARS)
        begin = [NAMES["Bar_None"], NAMES["TimeSig_4/4"]]
        prompt = [REMI.bos_id, *begin]
        rows = [[*prompt, *bar(a), *begin, *bar(b), *begin, *bar(c), REMI.eos_id] for a, b, c in self.choices.tolist()]
        self.notes = Notes.from_ids(rows, REMI, start=len(prompt))
        self.ids = torch.tensor(rows)[:, len(prompt) :]
        size = len(bar(0)) + len(begin)
        self.at = [size * number for number in range(BARS)]  # tokens that choose a content
        self.state = [self.choices[:, :number] @ 3 ** np.arange(number) for number in range(BARS)]
        rng = np.random.default_rng(1)
        self.reference = [rng.normal(0, 0.7, (3**number, 3)) for number in range(BARS)]

    def log_probabilities(self, logits: list[np.ndarray]) -> np.ndarray:
        """(27, BARS) of each choice."""
        log = [row - np.log(np.exp(row).sum(1, keepdims=True)) for row in logits]
        return np.stack([log[k][self.state[k], self.choices[:, k]] for k in range(BARS)], axis=1)

    def trained(self, rewards: torch.Tensor, steps: int = 60) -> np.ndarray:
        """(27,) probabilities where the exact gradient of a policy with these rewards of tokens is 0."""
        logits = [row.copy() for row in self.reference]
        ref = self.log_probabilities(self.reference)
        for _ in range(steps):
            own = self.log_probabilities(logits)
            ratio = torch.zeros(self.ids.shape, dtype=torch.float64)
            ratio[:, self.at] = torch.from_numpy(own - ref)
            mask = torch.ones(self.ids.shape, dtype=torch.bool)
            returns = returns_to_go(rewards.double() - KL_WEIGHT * ratio, mask).numpy()[:, self.at]
            p = np.exp(own.sum(1))
            for k in range(BARS):
                mass, gain = np.zeros((3**k, 3)), np.zeros((3**k, 3))
                np.add.at(mass, (self.state[k], self.choices[:, k]), p)
                np.add.at(gain, (self.state[k], self.choices[:, k]), p * returns[:, k])
                chosen, state = (
                    mass / mass.sum(1, keepdims=True),
                    gain.sum(1, keepdims=True) / mass.sum(1, keepdims=True),
                )
                # The gradient of each state's logits, chosen * (return - mean return), as a natural gradient.
                logits[k] += 0.5 / KL_WEIGHT * (gain / (mass.sum(1, keepdims=True) * chosen) - state)
        return np.exp(self.log_probabilities(logits).sum(1))

    def distance(self, score: np.ndarray, rewards: torch.Tensor) -> float:
        """KL from p_ref exp(score / k), the optimum of the objective, to the trained policy."""
        log = self.log_probabilities(self.reference).sum(1) + score.astype(np.float64) / KL_WEIGHT
        best = np.exp(log - log.max())
        best /= best.sum()
        return float((best * np.log(best / self.trained(rewards))).sum())

    @property
    def lengths(self) -> torch.Tensor:
        return torch.full((len(self.ids),), self.ids.shape[1])

    @property
    def begun(self):
        return beginnings(self.notes, (self.ids == REMI.bar_id).numpy())


TOY = Toy()


def style() -> StyleCritic:
    known = Notes.concat([TOY.notes, TOY.begun.notes])  # so that the guard lets pieces of the toy pass
    return StyleCritic(untrained_style_model(known), "jazz", min_notes=4)


def realism() -> FeatureDiscriminator:
    rng = np.random.default_rng(0)
    judge = FeatureDiscriminator(FeatureDiscriminatorOptions(min_notes=4))
    judge.update(toy(SWUNG, 32, rng, 2), toy(STRAIGHT, 32, rng, 2), np.arange(32).astype(str))
    return judge


def realism_tokens() -> TokenDiscriminator:
    judge = TokenDiscriminator.new(REMI, max_tokens=127, min_notes=4)
    judge.calibration = Calibration(20.0, 0.1)
    return judge


JUDGES = {name: lambda factory=factory: factory(BANDS) for name, factory in REWARDS.items()}
JUDGES |= {"style": style, "realism": realism, "realism_tokens": realism_tokens}


def rewards_of(judge, predicted: bool = False) -> tuple[np.ndarray, torch.Tensor]:
    """Score and rewards of tokens, as the loop makes them."""
    judgement = judge(TOY.notes)
    if not hasattr(judge, "prefix_scores"):
        return judgement.score, end_rewards(judgement.score, TOY.lengths)
    scores = judge.prefix_scores(TOY.begun.notes)
    if predicted:
        scores = predicted_scores(scores, TOY.begun, judgement.score, np.arange(27))
    return judgement.score, gain_rewards(judgement, scores, TOY.begun, TOY.lengths)


@pytest.mark.parametrize("name", JUDGES)
def test_training_ends_at_the_optimum(name):
    score, rewards = rewards_of(JUDGES[name]())
    torch.testing.assert_close(rewards.sum(1), torch.from_numpy(score), atol=1e-4, rtol=0)
    assert TOY.distance(score, rewards) < 1e-4


def test_the_critics_differ_on_the_toy_and_judge_its_beginnings():
    for judge in (style(), realism()):
        score, rewards = rewards_of(judge)
        assert score.std() > 0.1 and (rewards != 0).sum(1).min() > 1


def test_a_reward_that_reaches_back_misses_the_optimum():
    """The same score, its gains in equal parts on the notes of each bar: most is paid after the choice, some before."""
    judge = realism()
    score, _ = rewards_of(judge)
    spread = torch.zeros(TOY.ids.shape)
    spread[:, TOY.at[0]] = torch.from_numpy(score)  # everything on the first choice, though later ones decide it too
    assert TOY.distance(score, spread) > 0.01


def test_a_prediction_does_not_depend_on_its_own_half():
    rng = np.random.default_rng(0)
    scores, final, group = rng.normal(size=len(TOY.begun.piece)), rng.normal(size=27), np.arange(27) // 3
    first = predicted_scores(scores, TOY.begun, final, group)
    changed = final.copy()
    changed[group % 2 == 0] += rng.normal(size=(group % 2 == 0).sum())
    again = predicted_scores(scores, TOY.begun, changed, group)
    own = group[TOY.begun.piece] % 2 == 0
    np.testing.assert_array_equal(first[own], again[own])
    assert not np.allclose(first[~own], again[~own])


def test_a_line_is_found_where_there_is_one():
    begun, group = TOY.begun, np.arange(27)
    final = np.random.default_rng(0).normal(size=27)
    np.testing.assert_allclose(predicted_scores(3 * final[begun.piece] + 1, begun, final, group), final[begun.piece])
    one_group = predicted_scores(final[begun.piece], begun, final, np.zeros(27, int))
    np.testing.assert_array_equal(one_group, 0)  # nothing independent to fit on


def test_a_completion_without_bar_lines_is_rewarded_at_its_end():
    judgement = Judgement(np.array([-2.0, 1.0], np.float32), None, np.ones(2, bool))
    notes = TOY.notes.pieces([0, 1])
    begun = beginnings(notes, np.zeros((2, 9), bool))
    assert begun.notes.n_pieces == 0
    rewards = gain_rewards(judgement, np.zeros(0), begun, torch.tensor([9, 4]))
    torch.testing.assert_close(rewards, end_rewards(judgement.score, torch.tensor([9, 4])))
    assert rewards[0, 8] == -2 and rewards[1, 3] == 1 and (rewards != 0).sum() == 2


@pytest.mark.parametrize(("lines", "kept"), [(0, 0), (3, 3), (4, 4), (5, 4), (17, 4), (60, 4)])
def test_of_many_bar_lines_a_few_are_kept_evenly(lines, kept):
    closes = np.zeros((1, 200), bool)
    closes[0, 3 * np.arange(lines)] = True
    begun = beginnings(Notes.from_ids([[REMI.bar_id]], REMI), closes)
    assert len(begun.token) == kept
    if lines > 10:
        gaps = np.diff([0, *begun.token // 3, lines])
        assert gaps.max() - gaps.min() <= 2


@pytest.mark.parametrize("n", [2, 4])
def test_the_quantile_reward_ends_at_the_best_of_n(n):
    """On 400 equally likely pieces: p_ref exp((n - 1) log F) is the distribution of the best of n, and so is its KL."""
    score = np.random.default_rng(0).permutation(400).astype(float)
    best = np.exp(quantile_rewards(score, score, n))
    best /= best.sum()
    rank = (score + 1) / 400
    exact = rank**n - (rank - 1 / 400) ** n  # the probability that the highest of n draws is this piece
    np.testing.assert_allclose(best, exact, rtol=0.2, atol=2e-5)
    kl = (best * np.log(best * 400)).sum()
    assert kl == pytest.approx(np.log(n) - (n - 1) / n, abs=0.02)


def test_the_quantile_reward_is_finite_and_depends_on_ranks_alone():
    reference = np.array([3.0, 1.0, 2.0])
    found = quantile_rewards([0.0, 1.5, 9.0], reference, 8)
    np.testing.assert_allclose(found, 7 * np.log([1 / 4, 2 / 4, 1]))
    np.testing.assert_array_equal(found, quantile_rewards(np.exp([0.0, 1.5, 9.0]), np.exp(reference), 8))
