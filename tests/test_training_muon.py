"""The optimizer of Muon and AdamW together: which weights get which, equality with torch's own, and resuming."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mgen.models.transformer import new_policy
from mgen.training.muon import MuonAdamW


def train(model, optimizer, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        ids = torch.randint(0, model.config.vocab_size, (2, 8), generator=generator)
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture
def policy(remi):
    torch.manual_seed(0)
    return new_policy("tiny", remi, context=16)


def test_matrices_inside_the_layers_get_muon_and_all_else_adamw(policy):
    muon, tables, vectors = MuonAdamW(policy, 1e-2, 0.1, (0.9, 0.95)).param_groups
    layers = [weight for weight in policy.model.layers.parameters() if weight.ndim == 2]
    assert list(map(id, muon["params"])) == list(map(id, layers))
    assert list(map(id, tables["params"])) == [id(policy.get_input_embeddings().weight)]  # tied to the output layer
    assert all(weight.ndim == 1 for weight in vectors["params"])
    assert vectors["weight_decay"] == 0 and muon["weight_decay"] == tables["weight_decay"] == 0.1
    assert sum(len(group["params"]) for group in (muon, tables, vectors)) == len(list(policy.parameters()))


def test_steps_equal_those_of_the_two_optimizers_of_torch(policy):
    twin = copy.deepcopy(policy)
    inner = [weight for weight in twin.model.layers.parameters() if weight.ndim == 2]
    table = [twin.get_input_embeddings().weight]
    vectors = [weight for weight in twin.parameters() if weight.ndim == 1]
    pair = (
        torch.optim.Muon(inner, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(
            [{"params": table, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
            lr=1e-2,
            betas=(0.9, 0.95),
            fused=True,
        ),
    )

    class Both:
        def step(self):
            for one in pair:
                one.step()

        def zero_grad(self):
            for one in pair:
                one.zero_grad()

    train(policy, MuonAdamW(policy, 1e-2, 0.1, (0.9, 0.95)), 3)
    train(twin, Both(), 3)
    for ours, theirs in zip(policy.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_resumes_from_its_state_and_follows_a_schedule(policy):
    twin = copy.deepcopy(policy)
    first = MuonAdamW(policy, 1e-2, 0.1, (0.9, 0.95))
    train(policy, first, 2)
    twin.load_state_dict(policy.state_dict())
    second = MuonAdamW(twin, 1e-2, 0.1, (0.9, 0.95))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for model, optimizer in ((policy, first), (twin, second)):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3
        train(model, optimizer, 2, seed=1)
    for ours, theirs in zip(policy.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_learning_rate_of_zero_changes_nothing(policy):
    before = copy.deepcopy(policy.state_dict())
    optimizer = MuonAdamW(policy, 1e-2, 0.1, (0.9, 0.95))
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    train(policy, optimizer, 1)
    assert all(torch.equal(before[name], weight) for name, weight in policy.state_dict().items())


def test_a_model_without_an_output_layer_is_accepted():
    model = nn.Sequential(nn.Embedding(4, 6), nn.Linear(6, 3))
    muon, tables, vectors = MuonAdamW(model, 1e-2, 0.0, (0.9, 0.95)).param_groups
    assert [len(group["params"]) for group in (muon, tables, vectors)] == [1, 1, 1]
