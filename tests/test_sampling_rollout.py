"""The sampler: its log-probabilities, its choices, and its limits."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare

from mgen.errors import MgenError
from mgen.sampling.decoding import Decoding, choose, penalise
from mgen.sampling.llama import is_stock_llama
from mgen.sampling.rollout import sample


@pytest.fixture(params=[False, True], ids=["fused", "plain"])
def policy(request, tiny_policy):
    """A Llama that `LlamaReader` reads, and one that it does not, because of its biases."""
    torch.manual_seed(3)
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    return tiny_policy(seed=3, initializer_range=0.3, attention_bias=request.param, **shape)


def forward_logprobs(policy, prompt, completion):
    """Log-probability of each token of a completion, from the model's forward pass."""
    with torch.no_grad():
        logprobs = policy(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return logprobs.gather(-1, torch.tensor(completion)[:, None])[:, 0]


def largest_difference(policy, prompts, rollout):
    """Between log-probabilities of a rollout and of the forward pass, in nats."""
    rows = zip(prompts, *rollout.lists(), strict=True)
    return max(
        float((torch.tensor(logprobs) - forward_logprobs(policy, prompt, ids)).abs().max())
        for prompt, ids, logprobs in rows
    )


def test_logprobs_are_the_models_own(policy, remi):
    """For prompts of several lengths, across the sizes that the cache grows to, and after some rows have ended."""
    prompts = [[remi.bos_id, *range(3, 3 + size)] for size in (3, 90, 1, 3, 57)]
    rollout = sample(policy, prompts, Decoding(max_new_tokens=80), remi.eos_id, remi.pad_id)
    assert largest_difference(policy, prompts, rollout) < 1e-5
    policy.model.norm.weight.data.mul_(0.5)  # as an update does: the next rollout is by the new weights
    rollout = sample(policy, prompts, Decoding(max_new_tokens=4), remi.eos_id, remi.pad_id)
    assert largest_difference(policy, prompts, rollout) < 1e-5


def test_logprobs_of_bf16_are_near(policy, remi):
    prompts = [[remi.bos_id, 5]] * 16
    rollout = sample(policy, prompts, Decoding(max_new_tokens=16), remi.eos_id, remi.pad_id, dtype=torch.bfloat16)
    assert 1e-4 < largest_difference(policy, prompts, rollout) < 0.2


WORDS = 6


@pytest.fixture(params=[False, True], ids=["fused", "plain"])
def six_words(request, tiny_policy):
    """A policy of six tokens, of which 0 ends a piece."""
    ids = {"pad_token_id": 5, "bos_token_id": 1, "eos_token_id": 0}
    return tiny_policy(seed=3, initializer_range=0.5, vocab_size=WORDS, attention_bias=request.param, **ids)


def test_draws_follow_the_models_distribution(six_words):
    """The 36 pairs of tokens after a prompt, against their exact probabilities."""
    prompts = [[1, 2, 3]] * 4000
    generator = torch.Generator().manual_seed(0)
    rollout = sample(six_words, prompts, Decoding(max_new_tokens=2), -1, 5, generator, batch_size=4000)
    drawn = torch.bincount(rollout.token_ids[:, 0] * WORDS + rollout.token_ids[:, 1], minlength=WORDS**2)
    pairs = [[first, second] for first in range(WORDS) for second in range(WORDS)]
    expected = torch.stack([forward_logprobs(six_words, [1, 2, 3], pair).sum() for pair in pairs]).exp()
    assert chisquare(drawn, expected.double() / expected.sum(dtype=torch.float64) * 4000).pvalue > 0.01


def test_rows_that_end_leave_the_others_as_they_are(six_words):
    """Most of these rows end early and are dropped."""
    prompts = [[1, 2, 3], [1, 4]] * 32
    rollout = sample(six_words, prompts, Decoding(max_new_tokens=40), 0, 5)
    assert len(set(rollout.mask.sum(1).tolist())) > 8
    assert largest_difference(six_words, prompts, rollout) < 1e-5


def test_a_completion_depends_on_the_seed_of_its_row(policy, remi):
    prompts = [[remi.bos_id, *range(3, 3 + size)] for size in (2, 5, 9, 2)]
    options = Decoding(max_new_tokens=24), remi.eos_id, remi.pad_id
    together = sample(policy, prompts, *options, seeds=[7, 8, 9, 10]).lists()[0]
    for row, seed in enumerate((7, 8, 9, 10)):
        assert sample(policy, [prompts[row]], *options, seeds=[seed]).lists()[0] == [together[row]]
    assert together[0] != together[3]


def test_each_row_has_its_temperature(policy, remi):
    """The same draws at three temperatures; 0 is greedy."""
    prompt = [remi.bos_id, 3, 5]
    heat = torch.tensor([1.0, 0.0, 0.5])
    options = remi.eos_id, remi.pad_id
    ids, logprobs = sample(
        policy, [prompt] * 3, Decoding(max_new_tokens=16), *options, seeds=[4, 4, 4], temperature=heat
    ).lists()
    for row, one in enumerate(heat.tolist()):
        alone = sample(policy, [prompt], Decoding(one, max_new_tokens=16), *options, seeds=[4]).lists()
        assert alone[0] == [ids[row]]
        torch.testing.assert_close(torch.tensor(alone[1][0]), torch.tensor(logprobs[row]), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="2 numbers of at least 0"):
        sample(policy, [prompt] * 2, Decoding(), *options, temperature=heat)


def _with_hook(policy):
    policy.model.layers[0].register_forward_hook(lambda *_: None)
    return policy


@pytest.mark.parametrize(
    "change",
    [
        {"attention_bias": True},
        {"mlp_bias": True},
        {"hidden_act": "gelu"},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
        {},
    ],
)
def test_only_a_stock_llama_is_fused(change, tiny_policy):
    policy = tiny_policy(**change)
    assert is_stock_llama(policy) == (not change)
    assert not is_stock_llama(_with_hook(policy))


class Adapted(torch.nn.Linear):
    def forward(self, states):
        return super().forward(states) + states[..., :1]


def test_an_adapter_takes_the_plain_way(tiny_policy, remi):
    policy = tiny_policy(initializer_range=0.3)
    policy.model.layers[0].self_attn.q_proj.__class__ = Adapted
    prompts = [[remi.bos_id, 5]] * 2
    rollout = sample(policy, prompts, Decoding(max_new_tokens=12), remi.eos_id, remi.pad_id)
    assert not is_stock_llama(policy) and largest_difference(policy, prompts, rollout) < 1e-5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
def test_cuda_graphs_compute_the_forward_pass(tiny_policy, remi):
    policy = tiny_policy(num_hidden_layers=2, initializer_range=0.3).cuda()
    prompts = [[remi.bos_id, *range(3, 3 + size)] for size in (3, 90, 1)]
    rollout = sample(policy, prompts, Decoding(max_new_tokens=160), remi.eos_id, remi.pad_id)  # two graphs
    assert largest_difference(policy.cpu(), prompts, rollout) < 1e-3


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


def test_penalised_logits_fall():
    logits = torch.tensor([[2.0, -2.0, 2.0, -2.0]])
    seen = torch.tensor([[True, True, False, False]])
    assert torch.equal(penalise(logits, seen, 2.0), torch.tensor([[1.0, -4.0, 2.0, -2.0]]))


@pytest.mark.parametrize(
    ("decoding", "kept"),
    [
        (Decoding(temperature=0.7, top_k=7), lambda order, before, share: order < 7),
        (Decoding(temperature=1.3, top_p=0.83), lambda order, before, share: before < 0.83),
        (Decoding(top_k=7, top_p=0.6), lambda order, before, share: (order < 7) & (before < 0.6)),
        (Decoding(temperature=0.6, min_p=0.1), lambda order, before, share: share >= 0.1),
    ],
)
def test_draws_equal_the_definition_of_top_k_top_p_and_min_p(decoding, kept):
    """Worked out here: tokens in falling order; top p counts the mass, after top k, of the tokens before each; min p
    compares with the likeliest.
    """
    generator = torch.Generator().manual_seed(4)
    logits, uniform = 3 * torch.randn(500, 60, generator=generator), torch.rand(500, generator=generator)
    scaled = logits / decoding.temperature
    rank = scaled.argsort(-1, descending=True).argsort(-1)
    mass = scaled.masked_fill(rank >= (decoding.top_k or 60), -torch.inf).softmax(-1)
    before = torch.stack([torch.where(rank < rank[:, [token]], mass, 0).sum(-1) for token in range(60)], dim=1)
    share = mass / mass.amax(-1, keepdim=True)
    expected = scaled.masked_fill(~kept(rank, before, share), -torch.inf).log_softmax(-1)
    passed = expected.exp().double().cumsum(-1) > uniform[:, None]  # the first token whose cumulative mass is beyond
    ours, logprob = choose(logits, decoding, uniform)
    assert torch.equal(ours, passed.int().argmax(-1))
    torch.testing.assert_close(logprob, expected.gather(-1, ours[:, None])[:, 0])


def test_a_token_of_probability_0_is_never_drawn():
    logits = torch.tensor([[-torch.inf, 0.3, -torch.inf, 0.1, -torch.inf]]).repeat(3, 1)
    uniform = torch.tensor([0.0, 0.5, 1 - 2**-24])  # the ends of what torch.rand draws
    assert choose(logits, Decoding(), uniform)[0].tolist() == [1, 1, 3]


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
    uniform = torch.rand(4000, generator=torch.Generator().manual_seed(0))
    token, logprob = choose(logits, Decoding(top_k=2), uniform)
    assert set(token.tolist()) == {0, 1}
    assert abs(float((token == 0).float().mean()) - 0.625) < 0.03  # 0.5 of 0.8
    torch.testing.assert_close(logprob.exp(), torch.tensor([0.5, 0.3])[token] / 0.8)  # of what was drawn from
    assert set(choose(logits, Decoding(top_p=0.79), uniform)[0].tolist()) == {0, 1}
    assert set(choose(logits, Decoding(top_p=0.81), uniform)[0].tolist()) == {0, 1, 2}
    assert set(choose(logits, Decoding(top_p=0.01), uniform)[0].tolist()) == {0}


def test_temperature_sharpens():
    logits = torch.log(torch.tensor([[0.5, 0.5 / 3, 0.5 / 3, 0.5 / 3]])).repeat(4000, 1)
    token, logprob = choose(
        logits, Decoding(temperature=0.5), torch.rand(4000, generator=torch.Generator().manual_seed(0))
    )
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
        {"min_p": -0.1},
        {"min_p": 1.1},
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
