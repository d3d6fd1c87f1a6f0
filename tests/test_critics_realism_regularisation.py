"""What holds a critic back: slopes by hand, singular values by another library."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForSequenceClassification

from critics.realism.regularisation import bound_spectral_norms, gradient_penalty, without_bounds


def test_the_penalty_by_hand():
    """Logits 2 e1 + 3 e2 and -1 e1, with embeddings of mean square 2.5: 1/2 * 2.5 * mean of 13 and 1."""
    embeddings = torch.tensor([[[1.0], [2.0]], [[2.0], [1.0]], [[5.0], [5.0]]], requires_grad=True)
    mask = torch.ones(3, 2, dtype=torch.bool)
    logits = torch.stack([2 * embeddings[0, 0, 0] + 3 * embeddings[0, 1, 0], -embeddings[1, 0, 0]])
    assert gradient_penalty(logits, embeddings, mask).item() == pytest.approx(0.5 * 2.5 * 7)


def test_it_does_not_depend_on_the_size_of_embeddings():
    """A network with embeddings ten times as large and slopes a tenth says the same, and pays the same."""
    weight, small = torch.randn(4), torch.randn(2, 3, 4)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    paid = []
    for size in (1.0, 10.0):
        embeddings = (small * size).requires_grad_()
        logits = ((embeddings @ (weight / size)) * mask).sum(1)
        paid.append(gradient_penalty(logits, embeddings, mask).item())
    assert paid[0] == pytest.approx(paid[1])


def test_its_gradient_flattens():
    layer = nn.Linear(4, 1, bias=False)
    embeddings = torch.randn(8, 3, 4, requires_grad=True)
    before = layer.weight.norm().item()
    gradient_penalty(layer(embeddings).sum((1, 2)), embeddings, torch.ones(8, 3, dtype=torch.bool)).backward()
    with torch.no_grad():
        layer.weight -= 0.01 * layer.weight.grad
    assert layer.weight.norm().item() < before


@pytest.fixture
def model():
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, num_labels=1
    )
    torch.manual_seed(0)
    out = LlamaForSequenceClassification(LlamaConfig(**{**config.to_dict(), "pad_token_id": 0}))
    with torch.no_grad():
        out.model.layers[0].mlp.up_proj.weight.mul_(10)  # a layer louder than 1, as a pretrained one is
        out.score.weight.mul_(30)
    return out


def norms(model):
    return {
        name: np.linalg.norm(layer.weight.detach().numpy(), 2)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear)
    }


def test_norms_stay_while_the_network_learns(model):
    before, ids = norms(model), torch.randint(1, 50, (8, 12))
    bound_spectral_norms(model, "all", seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(30):
        loss = model.train()(input_ids=ids).logits[:4].mean() - model(input_ids=ids).logits[4:].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = norms(without_bounds(model))
    assert before["model.layers.0.mlp.up_proj"] > 2 and before["score"] > 2
    for name, norm in before.items():
        assert after[name] == pytest.approx(1 if name == "score" else max(norm, 1), rel=0.02), name


def test_a_plain_copy_says_the_same_and_leaves_the_original(model):
    bound_spectral_norms(model, "all", seed=0)
    ids = torch.randint(1, 50, (4, 12))
    plain = without_bounds(model)
    torch.testing.assert_close(plain(input_ids=ids).logits, model(input_ids=ids).logits)
    assert not any("parametrizations" in name for name in plain.state_dict())
    assert any("parametrizations" in name for name in model.state_dict())
    torch.testing.assert_close(copy.deepcopy(model)(input_ids=ids).logits, model(input_ids=ids).logits)


def test_the_head_alone(model):
    whole = copy.deepcopy(model)
    bound_spectral_norms(model, "head", seed=0)
    plain = without_bounds(model)
    assert norms(plain)["score"] == pytest.approx(1, rel=1e-3)
    assert {name: norm for name, norm in norms(plain).items() if name != "score"} == {
        name: norm for name, norm in norms(whole).items() if name != "score"
    }


def test_seeds_and_mistakes(model):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    bound_spectral_norms(model, "all", seed=3)
    assert torch.rand(1) == expected  # nothing is drawn from what others draw from
    with pytest.raises(ValueError, match="expected one of none, head, all"):
        bound_spectral_norms(model, "some", seed=0)
