"""Compiled training steps: equal to eager ones but for rounding, and eager where compiling fails."""

from __future__ import annotations

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

import mgen
from critics.sequence import SequenceCritic, classifier
from mgen.models.compiled_layers import ATTENTION, CompiledLayers, causal_blocks
from mgen.runs.metrics import read_metrics
from mgen.speed import Speed


@pytest.mark.parametrize("length", [1, 5, 8])
def test_attention_in_blocks_is_causal_attention(length):
    query, key, value = (torch.randn(2, heads, length, 4, requires_grad=True) for heads in (4, 2, 2))
    module = torch.nn.Module()
    module.num_key_value_groups, module.is_causal = 2, True
    parts = causal_blocks(module, query, key, value, None, 0.5)[0]
    whole = sdpa_attention_forward(module, query, key, value, None, scaling=0.5)[0]
    torch.testing.assert_close(parts, whole)
    weight = torch.randn_like(whole)
    for one, other in zip(
        torch.autograd.grad((parts * weight).sum(), (query, key, value)),
        torch.autograd.grad((whole * weight).sum(), (query, key, value)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_undone_the_model_is_as_before(tiny_policy):
    model = tiny_policy()
    before, known = model.config._attn_implementation, set(vars(model))
    layers = CompiledLayers(model)
    assert model.config._attn_implementation == ATTENTION
    assert "causal_blocks" not in model.config.to_json_string()
    layers.undo()
    assert model.config._attn_implementation == before and set(vars(model)) == known
    assert all(layer._compiled_call_impl is None for layer in model.model.layers)


def train(corpus, out, lines=None, **options):
    options = {"context": 64, "max_steps": 6, "eval_steps": 6, "per_device_train_batch_size": 4} | options
    options |= {"valid_windows": 8, "logging_steps": 1, "report_to": ["none"], "sample_steps": 0}
    mgen.pretrain(corpus, out, progress=None if lines is None else lines.append, **options)
    return [entry["loss"] for entry in read_metrics(out) if "loss" in entry]


@pytest.fixture(scope="module")
def plain(small_corpus, tmp_path_factory):
    """Losses of the first steps in float32."""
    return train(small_corpus, tmp_path_factory.mktemp("plain") / "run", speed="plain")


@pytest.mark.slow
def test_bf16_learns_as_float32(small_corpus, tmp_path, plain):
    losses = train(small_corpus, tmp_path / "run", bf16=True)
    assert losses != plain
    assert losses == pytest.approx(plain, abs=0.01)  # nats per token


@pytest.mark.slow
def test_where_the_model_does_not_compile_training_goes_on_eagerly(small_corpus, tmp_path, plain, monkeypatch):
    def explode(*_, **__):
        raise RuntimeError("error: cannot find Python.h\nand more")

    monkeypatch.setattr("mgen.speed.SpeedOptions.chosen_speed", lambda *_: Speed(None, True, "speed: as asked"))
    monkeypatch.setattr(torch.nn.Module, "compile", lambda layer, **_: setattr(layer, "_compiled_call_impl", explode))
    lines = []
    losses = train(small_corpus, tmp_path / "run", lines, speed="plain")
    assert "speed: as asked" in lines
    assert "compiling failed, training goes on without: error: cannot find Python.h" in lines
    assert losses == pytest.approx(plain, abs=1e-4)  # padded to one shape, so not bit by bit


@pytest.mark.slow
def test_a_compiled_step_is_an_eager_one_but_for_rounding(tiny_policy):
    eager, model = tiny_policy().train(), tiny_policy().train()
    ids = torch.randint(0, model.config.vocab_size, (2, 16), generator=torch.Generator().manual_seed(0))
    layers = CompiledLayers(model)
    for _ in range(2):
        losses = []
        for one in (eager, model):
            with torch.autocast("cpu", torch.bfloat16):
                losses.append(one(input_ids=ids, labels=ids).loss)
            losses[-1].backward()
        assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-3)
        torch.compiler.set_stance("fail_on_recompile")  # the second step must find the code of the first
    torch.compiler.set_stance("default")
    layers.undo()
    for one, other in zip(eager.parameters(), model.parameters(), strict=True):
        assert torch.nn.functional.cosine_similarity(one.grad.flatten(), other.grad.flatten(), dim=0) > 0.999


def test_a_critic_judges_alike_in_bf16(remi, tiny_policy):
    model = classifier(tiny_policy().config, "real").eval()
    rows = [torch.randint(3, remi.vocab_size, (n,)).numpy() for n in (30, 12, 40)]
    plain, auto = (
        SequenceCritic(model, remi, 64, speed).row_logits(rows)
        for speed in (Speed(None, False, ""), Speed(torch.bfloat16, False, ""))
    )
    with torch.no_grad():
        one_by_one = [model(input_ids=torch.from_numpy(row)[None]).logits.item() for row in rows]
    assert plain == pytest.approx(one_by_one, abs=1e-6)
    assert auto.tolist() != plain.tolist() and auto == pytest.approx(plain, abs=0.02)
    rounded = torch.from_numpy(auto).bfloat16().float()
    assert not torch.equal(rounded, torch.from_numpy(auto))  # the last layer is in float32
