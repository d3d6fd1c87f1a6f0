"""The penalty on broken grammar: its value by hand, and what it does to a policy."""

from __future__ import annotations

import math

import pytest
import torch

from mgen.encoding.remi import Kind
from mgen.sampling.grammar import GrammarMask
from mgen.training.penalties import GrammarPenalty, forbidden_loss


def test_the_penalty_by_hand():
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.2, 0.2, 0.6]]]))
    forbidden = torch.tensor([[[False, True, True], [False, False, False], [True, False, False]]])
    judged = torch.tensor([[True, True, False]])
    assert forbidden_loss(logits + 3, forbidden, judged).item() == pytest.approx(math.log(2))
    assert forbidden_loss(logits, forbidden, ~judged).item() == pytest.approx(-math.log(0.8))


def test_only_what_the_grammar_forbids_gets_less_likely(remi, tiny_policy):
    policy = tiny_policy(vocab_size=remi.vocab_size)
    pitches = (torch.from_numpy(remi.kind) == Kind.PITCH).nonzero()[:, 0]
    ids = torch.tensor([[remi.bos_id, remi.style_ids["jazz"], remi.bar_id, remi.common_time], [remi.pad_id] * 4])
    mask = GrammarMask(remi)
    forbidden = ~mask.after(ids)[0]
    assert forbidden[2, pitches].all() and not forbidden[1, remi.bar_id]
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    lost = []
    for _ in range(30):
        penalty = GrammarPenalty(1.0, mask).prepare(policy, {"input_ids": ids})
        loss = penalty(policy(input_ids=ids).logits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lost.append(loss.item())
    probability = policy(input_ids=ids[:1]).logits.softmax(-1)[0]
    assert lost[0] > 4 and lost[-1] < 0.1 * lost[0]
    assert probability.masked_fill(~forbidden, 0).sum() < 0.1 * lost[0]
    # what is allowed after a bar shares the rest
    assert probability[2].max() < 0.5
