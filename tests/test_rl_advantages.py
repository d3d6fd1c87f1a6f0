"""Advantages of tokens: what a closed bar earned is in no later return, and the expected update is the gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_rl_rewards import BARS, KL_WEIGHT, TOY, realism
from test_rl_rewards import REMI as TOY_REMI

from mgen.encoding.remi import Kind
from mgen.judgement import Judgement
from mgen.notes import Notes
from mgen.rl.advantages import Quantile, Scored, quantile_scores, token_advantages
from mgen.rl.batch import Batch, collate
from mgen.rl.update import clipped_loss


class Bars:
    """The number of notes above middle C, which can be counted in beginnings too."""

    worst = -1.0

    def prefix_scores(self, notes):
        return np.bincount(notes.piece, weights=notes.pitch > 60, minlength=notes.n_pieces)

    def __call__(self, notes):
        score = self.prefix_scores(notes).astype(np.float32)
        return Judgement(score, None, np.ones(notes.n_pieces, bool))


def two_bars(remi, high):
    """The batch of completions of a note, a bar line and another note, each high or not, and what `Bars` says of it."""
    names = {name: i for i, name in enumerate(remi.names)}
    bar = "Position_0 Pitch_{} Velocity_63 Duration_1.0.24"
    rows = [
        [names[token] for token in f"{bar.format(first)} Bar_None TimeSig_4/4 {bar.format(second)}".split()]
        for first, second in (50 + 20 * high).tolist()
    ]
    prompts = [[names[name] for name in ("BOS_None", "Bar_None", "TimeSig_4/4")]] * len(rows)
    batch = collate(prompts, rows, torch.ones(len(rows)), 8, remi.pad_id)
    return batch, Scored.by({"bars": Bars()}, Notes.from_completions(prompts, rows, remi))


def test_a_closed_bar_is_no_longer_in_the_return(remi):
    """All completions are alike up to a bar line, but for the notes above middle C before it."""
    high = np.random.default_rng(0).integers(0, 2, (256, 2))
    batch, scored = two_bars(remi, high)
    assert scored.judgements["bars"].score.tolist() == high.sum(1).tolist()
    closes, kl = remi.count_in(Kind.BAR) > 0, torch.zeros(batch.mask.shape)
    found = {
        causal: token_advantages({"bars": Bars()}, {"bars": 1.0}, scored, batch, kl, closes, causal=causal)
        for causal in (True, False)
    }
    assert (found[True]["kl"] == 0).all()
    by_bars, at_end = found[True]["bars"], found[False]["bars"]
    torch.testing.assert_close(by_bars[:, 0], at_end[:, 0])  # the sum of the rewards is the score in both
    second = torch.from_numpy(high[:, 1].astype(np.float32))
    torch.testing.assert_close(by_bars[:, 5], second - second.mean(), atol=0.2, rtol=0)  # after the bar line
    assert at_end[:, 5].var() > 1.7 * by_bars[:, 5].var()


def test_the_quantile_reward_compares_with_samples_of_the_same_prompt_type(remi):
    """Samples with scores 2 and 0: a score of 1 is below all of the one type, and above all of the other."""
    _, samples = two_bars(remi, np.array([[1, 1]] * 9 + [[0, 0]] * 9))
    _, scored = two_bars(remi, np.array([[0, 1], [1, 0]]))
    quantile = Quantile(
        4, {"continuation": samples.notes.pieces(range(9)), "transfer": samples.notes.pieces(range(9, 18))}
    )
    judges, weights = {"bars": Bars()}, {"bars": 2.0}
    found = quantile_scores(judges, weights, scored, ["continuation", "transfer"], quantile)
    np.testing.assert_allclose(found, 3 * np.log([1 / 10, 1]))


@pytest.mark.parametrize("causal", [True, False])
def test_the_expected_update_is_the_gradient_of_the_objective(causal):
    """Every piece of the toy once, weighted with its probability; of n in a group, the baseline scales by n / (n - 1).

    The objective is E[r] - k KL, differentiated as a sum over all pieces.
    """
    rng = np.random.default_rng(2)
    logits = [torch.tensor(row + rng.normal(0, 0.5, row.shape), requires_grad=True) for row in TOY.reference]
    own = torch.stack([logits[k].log_softmax(1)[TOY.state[k], TOY.choices[:, k]] for k in range(BARS)], 1)
    ratio = own - torch.from_numpy(TOY.log_probabilities(TOY.reference))
    p = own.sum(1).exp()
    judge, n = realism(), len(p)
    scored = Scored.by({"realism": judge}, TOY.notes)
    score = torch.from_numpy(scored.judgements["realism"].score).double()
    wanted = torch.autograd.grad((p * (1.5 * score - KL_WEIGHT * ratio.sum(1))).sum(), logits, retain_graph=True)

    logprobs = torch.zeros(TOY.ids.shape, dtype=torch.float64).index_add(1, torch.tensor(TOY.at), own)
    kl = torch.zeros(TOY.ids.shape, dtype=torch.float64).index_add(1, torch.tensor(TOY.at), -KL_WEIGHT * ratio.detach())
    mask, none = torch.ones(TOY.ids.shape, dtype=torch.bool), torch.zeros(n, dtype=torch.int64)
    batch = Batch([[]] * n, TOY.ids.tolist(), TOY.ids, TOY.ids, mask, none, torch.ones(n), none)
    closes = TOY_REMI.count_in(Kind.BAR) > 0
    parts = token_advantages({"realism": judge}, {"realism": 1.5}, scored, batch, kl, closes, causal=causal)
    weighted = sum(parts.values()) * p.detach()[:, None] * n
    loss = clipped_loss(logprobs, logprobs.detach(), weighted, mask, 0.2)
    found = torch.cat([-part.flatten() * (n - 1) / n for part in torch.autograd.grad(loss, logits)])
    exact = torch.cat([part.flatten() for part in wanted])
    assert float(torch.cosine_similarity(found, exact, dim=0)) == pytest.approx(1, abs=1e-9)
    torch.testing.assert_close(found, exact, atol=1e-5, rtol=0)
    assert exact.abs().max() > 0.01
