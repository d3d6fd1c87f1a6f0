"""The sampler with an LSTM: its log-probabilities are the model's, for all forms of the model."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare

from mgen.models.lstm import NORMALISATIONS, LstmConfig, LstmForCausalLM
from mgen.sampling.decoding import Decoding
from mgen.sampling.lstm import LstmReader, is_stock_lstm
from mgen.sampling.rollout import sample

EOS, PAD = 0, 1
FORMS = [(norm, residual) for norm in NORMALISATIONS for residual in (True, False)]
PROMPTS = [list(range(2, 2 + size)) for size in (3, 20, 1, 3, 9)]


def build(vocab_size=32, **changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LstmForCausalLM(LstmConfig(vocab_size=vocab_size, hidden_size=24, use_cache=False, **changes)).eval()
        for name, weight in model.named_parameters():
            torch.nn.init.normal_(weight, 1.0 if name.endswith("norm.weight") else 0.0, 0.25)
    return model


@torch.no_grad()
def forward_logprobs(model, prompt, completion):
    logprobs = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return logprobs.gather(-1, torch.tensor(completion)[:, None])[:, 0]


def largest_difference(model, prompts, rollout):
    """Between log-probabilities of a rollout and of the forward pass, in nats."""
    return max(
        float((torch.tensor(logprobs) - forward_logprobs(model, prompt, ids)).abs().max())
        for prompt, ids, logprobs in zip(prompts, *rollout.lists(), strict=True)
    )


@pytest.mark.parametrize(("norm", "residual"), FORMS)
def test_logprobs_are_the_models_own(norm, residual):
    """For prompts of several lengths, after some rows have ended, and after the weights have changed."""
    model = build(normalisation=norm, residual=residual, dropout=0.5).train()
    prompts = PROMPTS * 12
    rollout = sample(model, prompts, Decoding(max_new_tokens=40), EOS, PAD, torch.Generator().manual_seed(0))
    assert len(set(rollout.mask.sum(1).tolist())) > 8 and model.training
    assert largest_difference(model.eval(), prompts, rollout) < 1e-4
    model.model.layers[1].lstm.weight_hh_l0.data.mul_(0.5)
    rollout = sample(model, PROMPTS, Decoding(max_new_tokens=4), EOS, PAD)
    assert largest_difference(model, PROMPTS, rollout) < 1e-4


def test_logprobs_of_bf16_are_near():
    rollout = sample(build(), PROMPTS, Decoding(max_new_tokens=16), EOS, PAD, dtype=torch.bfloat16)
    assert 1e-4 < largest_difference(build(), PROMPTS, rollout) < 0.3


def test_draws_follow_the_models_distribution():
    """The 36 pairs of tokens after a prompt, against their exact probabilities."""
    model, prompt = build(vocab_size=6), [1, 2, 3]
    generator = torch.Generator().manual_seed(0)
    rollout = sample(model, [prompt] * 4000, Decoding(max_new_tokens=2), -1, 5, generator, batch_size=4000)
    drawn = torch.bincount(rollout.token_ids[:, 0] * 6 + rollout.token_ids[:, 1], minlength=36)
    pairs = [[first, second] for first in range(6) for second in range(6)]
    expected = torch.stack([forward_logprobs(model, prompt, pair).sum() for pair in pairs]).exp().double()
    assert chisquare(drawn, expected / expected.sum() * 4000).pvalue > 0.01


def test_a_model_with_a_hook_is_sampled_by_its_forward_pass():
    model = build()
    options = PROMPTS, Decoding(max_new_tokens=20), EOS, PAD
    fast = sample(model, *options, seeds=range(5))
    assert is_stock_lstm(model)
    hook = model.model.layers[0].register_forward_hook(lambda *_: None)
    assert not is_stock_lstm(model)
    slow = sample(model, *options, seeds=range(5))
    hook.remove()
    assert torch.equal(fast.token_ids, slow.token_ids)
    torch.testing.assert_close(fast.logprobs, slow.logprobs, atol=1e-4, rtol=0)


def test_guidance_reads_prompts_of_other_lengths():
    model, bare = build(), [prompt[1:] or [31] for prompt in PROMPTS]
    rollout = sample(model, PROMPTS, Decoding(guidance=0.0, max_new_tokens=12), EOS, PAD, unguided=bare)
    assert largest_difference(model, bare, rollout) < 1e-4


def test_rows_that_are_kept_go_on():
    reader = LstmReader(build(), torch.float32)
    tokens = torch.tensor([4, 5, 6, 7, 8])
    with torch.no_grad():
        reader.start(PROMPTS)
        expected = reader.step(tokens)
        reader.start(PROMPTS)
        reader.keep(torch.tensor([3, 1]))
        torch.testing.assert_close(reader.step(tokens[[3, 1]]), expected[[3, 1]], atol=1e-5, rtol=0)
