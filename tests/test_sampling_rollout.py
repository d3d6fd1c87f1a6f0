"""The sampler: its log-probabilities, its choices, and its limits."""

from __future__ import annotations

import pytest
import torch

from mgen.errors import MgenError
from mgen.sampling.decoding import Decoding, choose, penalise
from mgen.sampling.rollout import sample


@pytest.fixture
def policy(tiny_policy):
    torch.manual_seed(3)
    return tiny_policy()


def test_logprobs_are_the_models_own(policy, remi):
    prompts = [[remi.bos_id, 3, 5, 20], [remi.bos_id, 4, 5, 21], [remi.bos_id, 5]]  # two lengths
    rollout = sample(policy, prompts, Decoding(max_new_tokens=24), remi.eos_id, remi.pad_id)
    ids, logprobs = rollout.lists()
    for prompt, completion, sampled in zip(prompts, ids, logprobs, strict=True):
        whole = torch.tensor([prompt + completion])
        logits = policy(whole).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        right = logits.gather(-1, torch.tensor(completion)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(sampled), right, atol=1e-5, rtol=0)


def test_the_same_seed_gives_the_same_completions(policy, remi):
    first, second, other = (
        sample(
            policy,
            [[remi.bos_id, 5]] * 3,
            Decoding(max_new_tokens=16),
            remi.eos_id,
            remi.pad_id,
            torch.Generator().manual_seed(seed),
        ).token_ids
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_greedy_agrees_with_transformers(policy, remi):
    prompt = [[remi.bos_id, 3, 5]]
    ours = sample(policy, prompt, Decoding(temperature=0, max_new_tokens=20), remi.eos_id, remi.pad_id).lists()[0][0]
    theirs = policy.generate(torch.tensor(prompt), do_sample=False, max_new_tokens=20)[0, 3:].tolist()
    assert ours == theirs


@pytest.fixture
def bold_policy(tiny_policy):
    """Weights large enough for a prompt to matter."""
    return tiny_policy(seed=3, initializer_range=0.3)


def test_penalised_greedy_agrees_with_transformers(bold_policy, remi):
    prompt = [[remi.bos_id, 3, 5, 60, 61]]
    plain, ours = (
        sample(
            bold_policy,
            prompt,
            Decoding(temperature=0, max_new_tokens=24, repetition_penalty=penalty),
            remi.eos_id,
            remi.pad_id,
        ).lists()[0][0]
        for penalty in (1.0, 1.7)
    )
    theirs = bold_policy.generate(torch.tensor(prompt), do_sample=False, max_new_tokens=24, repetition_penalty=1.7)
    assert ours == theirs[0, 5:].tolist() and ours != plain


def test_guided_greedy_agrees_with_transformers(bold_policy, remi):
    prompt, bare = [[remi.bos_id, 3, 5, 60]], [[remi.bos_id, 5, 60]]
    decoding = Decoding(temperature=0, max_new_tokens=24, guidance=2.5)
    ours = sample(bold_policy, prompt, decoding, remi.eos_id, remi.pad_id, unguided=bare).lists()[0][0]
    theirs = bold_policy.generate(
        torch.tensor(prompt),
        do_sample=False,
        max_new_tokens=24,
        guidance_scale=2.5,
        negative_prompt_ids=torch.tensor(bare),
    )
    assert ours == theirs[0, 4:].tolist()


def test_a_penalty_of_1_and_guidance_of_1_change_nothing(bold_policy, remi):
    prompts = [[remi.bos_id, 3, 5]] * 4
    plain, same = (
        sample(
            bold_policy,
            prompts,
            Decoding(max_new_tokens=24),
            remi.eos_id,
            remi.pad_id,
            torch.Generator().manual_seed(0),
            **more,
        )
        for more in ({}, {"unguided": [[remi.bos_id, 5]] * 4, "penalised": torch.ones(remi.vocab_size).bool()})
    )
    assert torch.equal(plain.token_ids, same.token_ids) and torch.equal(plain.logprobs, same.logprobs)


def test_only_some_tokens_are_penalised():
    logits = torch.tensor([[2.0, -2.0, 2.0, -2.0]])
    seen = torch.tensor([[0, 1, 1]])
    assert torch.equal(penalise(logits, seen, 2.0), torch.tensor([[1.0, -4.0, 2.0, -2.0]]))
    assert torch.equal(penalise(logits, seen, 2.0, torch.arange(4) == 1), torch.tensor([[2.0, -4.0, 2.0, -2.0]]))


@pytest.mark.parametrize(
    ("decoding", "kept"),
    [
        (Decoding(temperature=0.7, top_k=7), lambda order, before: order < 7),
        (Decoding(temperature=1.3, top_p=0.83), lambda order, before: before < 0.83),
        (Decoding(top_k=7, top_p=0.6), lambda order, before: (order < 7) & (before < 0.6)),
    ],
)
def test_draws_equal_the_definition_of_top_k_and_top_p(decoding, kept):
    """Worked out here: tokens in falling order; top p counts the mass, after top k, of the tokens before each."""
    logits = 3 * torch.randn(500, 60, generator=torch.Generator().manual_seed(4))
    scaled = logits / decoding.temperature
    rank = scaled.argsort(-1, descending=True).argsort(-1)
    mass = scaled.masked_fill(rank >= (decoding.top_k or 60), -torch.inf).softmax(-1)
    before = torch.stack([torch.where(rank < rank[:, [token]], mass, 0).sum(-1) for token in range(60)], dim=1)
    expected = scaled.masked_fill(~kept(rank, before), -torch.inf).log_softmax(-1)
    token = torch.multinomial(expected.exp(), 1, generator=torch.Generator().manual_seed(0))
    ours, logprob = choose(logits, decoding, torch.Generator().manual_seed(0))
    assert torch.equal(ours, token[:, 0])
    torch.testing.assert_close(logprob, expected.gather(-1, token)[:, 0])


def test_guidance_without_anything_to_lead_away_from_is_refused(policy, remi):
    with pytest.raises(ValueError, match=r"guidance \(2.0\) needs each of the 1 prompts unguided"):
        sample(policy, [[remi.bos_id]], Decoding(guidance=2.0, max_new_tokens=4), remi.eos_id, remi.pad_id)


def test_what_follows_the_end_does_not_count(policy, remi):
    rollout = sample(policy, [[remi.bos_id, 5]] * 64, Decoding(max_new_tokens=200), remi.eos_id, remi.pad_id)
    for row, mask, logprobs in zip(rollout.token_ids, rollout.mask, rollout.logprobs, strict=True):
        ends = (row == remi.eos_id).nonzero()
        size = int(ends[0]) + 1 if len(ends) else len(row)
        assert int(mask.sum()) == size and mask[:size].all()
        assert (row[size:] == remi.pad_id).all() and (logprobs[size:] == 0).all()
    assert (rollout.token_ids == remi.eos_id).any()  # 64 x 200 draws among 386 tokens: some did end


def test_top_k_and_top_p_keep_the_likeliest():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).repeat(4000, 1)
    generator = torch.Generator().manual_seed(0)
    token, logprob = choose(logits, Decoding(top_k=2), generator)
    assert set(token.tolist()) == {0, 1}
    assert abs(float((token == 0).float().mean()) - 0.625) < 0.03  # 0.5 of 0.8
    torch.testing.assert_close(logprob.exp(), torch.tensor([0.5, 0.3])[token] / 0.8)  # of what was drawn from
    assert set(choose(logits, Decoding(top_p=0.79), generator)[0].tolist()) == {0, 1}
    assert set(choose(logits, Decoding(top_p=0.81), generator)[0].tolist()) == {0, 1, 2}
    assert set(choose(logits, Decoding(top_p=0.01), generator)[0].tolist()) == {0}


def test_temperature_sharpens():
    logits = torch.log(torch.tensor([[0.5, 0.5 / 3, 0.5 / 3, 0.5 / 3]])).repeat(4000, 1)
    token, logprob = choose(logits, Decoding(temperature=0.5), torch.Generator().manual_seed(0))
    # squared and normalised: 9 / (9 + 1 + 1 + 1)
    assert abs(float((token == 0).float().mean()) - 0.75) < 0.03
    torch.testing.assert_close(logprob.exp()[token == 0], torch.full((int((token == 0).sum()),), 0.75))


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"max_new_tokens": 0},
        {"guidance": -0.5},
        {"guidance": float("nan")},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": float("inf")},
    ],
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Decoding(**wrong)


def test_a_prompt_that_leaves_no_room_is_refused(policy, remi):
    room = policy.config.max_position_embeddings
    with pytest.raises(ValueError, match="context"):
        sample(policy, [[remi.bos_id] * 10], Decoding(max_new_tokens=room - 9), remi.eos_id, remi.pad_id)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_broken_weights_are_one_line(temperature, tiny_policy, remi):
    policy = tiny_policy()
    policy.model.norm.weight.data.fill_(float("nan"))
    with pytest.raises(MgenError, match="its weights are broken"):
        sample(policy, [[remi.bos_id]], Decoding(temperature, max_new_tokens=2), remi.eos_id, remi.pad_id)
