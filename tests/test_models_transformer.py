"""Policies of any architecture: they load, sample, train and carry a critic; a context length is found once."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from critics_music import SWUNG, toy
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CohereConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Qwen3Config,
)

from critics.realism.token_discriminator import TokenDiscriminator
from critics.sequence import SequenceCritic, classifier_class
from mgen.cli import finetune, pretrain
from mgen.errors import MgenError
from mgen.models.lstm import LstmConfig
from mgen.models.pretrained import stated_context
from mgen.models.transformer import SIZES, UNLIMITED_CONTEXT, check_fits, context_length, load_policy, new_policy
from mgen.notes import Notes
from mgen.runs.judges import judges_of_run
from mgen.sampling.decoding import Decoding
from mgen.sampling.rollout import completion_logprobs, sample
from mgen.workflows.judges import JUDGES

CONTEXT = 192
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": CONTEXT}
GROUPED = {"intermediate_size": 64, "num_key_value_heads": 1}
FAMILIES = {
    "llama": lambda v: LlamaConfig(vocab_size=v, **SHAPE, **GROUPED),
    "gpt2": lambda v: GPT2Config(vocab_size=v, n_embd=32, n_layer=2, n_head=2, n_positions=CONTEXT),
    "qwen3": lambda v: Qwen3Config(vocab_size=v, head_dim=16, **SHAPE, **GROUPED),
    "mistral": lambda v: MistralConfig(vocab_size=v, sliding_window=8, **SHAPE, **GROUPED),
    "gpt_neox": lambda v: GPTNeoXConfig(vocab_size=v, intermediate_size=64, **SHAPE),
    "opt": lambda v: OPTConfig(vocab_size=v, ffn_dim=64, word_embed_proj_dim=32, **SHAPE),
    # an architecture without a sequence classifier of its own
    "cohere": lambda v: CohereConfig(vocab_size=v, **SHAPE, **GROUPED),
    "mgen_lstm": lambda v: LstmConfig(vocab_size=v, hidden_size=32, pad_token_id=0, max_position_embeddings=CONTEXT),
}
every_family = pytest.mark.parametrize("family", FAMILIES)


def build(family, vocab_size):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(FAMILIES[family](vocab_size)).eval()
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "norm" not in name:
                torch.nn.init.normal_(weight, std=0.15)  # logits of a size that differences show in
    return model


@pytest.fixture(scope="module")
def folders(remi, tmp_path_factory):
    """A policy of each family, saved as any user would."""
    root = tmp_path_factory.mktemp("families")
    for family in FAMILIES:
        build(family, remi.vocab_size).save_pretrained(root / family)
        remi.save_pretrained(root / family)
    return root


@every_family
def test_sampling_agrees_with_transformers(family, folders, remi):
    policy, _ = load_policy(folders / family)
    policy.eval()
    prompts = [[remi.bos_id, 3, 5, 60, 61], [remi.bos_id, 4, 5, 70, 61]]
    ours = sample(policy, prompts, Decoding(temperature=0, max_new_tokens=40), remi.eos_id, remi.pad_id)
    theirs = policy.generate(torch.tensor(prompts), do_sample=False, max_new_tokens=40, use_cache=True)[:, 5:]
    assert torch.equal(ours.token_ids, theirs[:, : ours.token_ids.shape[1]])
    assert (policy.config.pad_token_id, policy.generation_config.eos_token_id) == (remi.pad_id, remi.eos_id)


@every_family
def test_logprobs_are_those_of_a_forward_pass(family, folders, remi):
    policy, _ = load_policy(folders / family)
    policy.eval()
    prompts = [[remi.bos_id, 3, 5, 60]] * 4
    generator = torch.Generator().manual_seed(1)
    rollout = sample(policy, prompts, Decoding(max_new_tokens=30), remi.eos_id, remi.pad_id, generator)
    ids = torch.cat([torch.tensor(prompts), rollout.token_ids], dim=1)
    again = completion_logprobs(policy, ids, rollout.token_ids.shape[1])
    with torch.no_grad():
        logits = policy(ids).logits.log_softmax(-1)[:, 3:-1]
    forward = logits.gather(-1, rollout.token_ids[..., None])[..., 0]
    for logprobs in (again, rollout.logprobs):
        torch.testing.assert_close(logprobs[rollout.mask], forward[rollout.mask], atol=2e-5, rtol=0)


@every_family
def test_a_backbone_carries_the_token_critic(family, folders, remi, tmp_path):
    rng = np.random.default_rng(0)
    pieces = Notes.concat([toy(SWUNG, 1, rng, bars) for bars in (4, 1, 2, 3)])
    bounded = "head" if family == "mgen_lstm" else "all"  # recurrent layers cannot be
    critic = TokenDiscriminator.new(remi, folders / family, against="current", spectral_norm=bounded, batch_size=4)
    policy, _ = load_policy(folders / family)
    taken = dict(SequenceCritic.new(remi, folders / family).model.base_model.named_parameters())
    for name, weight in policy.base_model.named_parameters():
        assert torch.equal(taken[name], weight), name
    assert critic.network.max_tokens == CONTEXT - 1
    before = torch.get_rng_state()
    assert critic.update(pieces, pieces.pieces([2, 1]))["steps"] > 0
    assert torch.equal(torch.get_rng_state(), before)  # no dropout
    logits = critic.network.logits(pieces)
    alone = [critic.network.logits(pieces.pieces([i]))[0] for i in range(pieces.n_pieces)]
    np.testing.assert_allclose(logits, alone, atol=1e-5)
    critic.save_pretrained(tmp_path)
    loaded = TokenDiscriminator.from_pretrained(tmp_path, remi)
    np.testing.assert_allclose(loaded.network.logits(pieces), logits, atol=1e-5)
    assert type(loaded.network.model).__name__ == classifier_class(policy.config).__name__


QUIET = {"report_to": "none", "disable_tqdm": "true", "use_cpu": "true", "sample_steps": 0}


def words(options):
    return [word for key, value in options.items() for word in (f"--{key}", str(value))]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt2", "qwen3"])
def test_pretrained_from_another_architecture_it_is_finetuned_with_realism(
    family, small_corpus, remi, tmp_path, monkeypatch
):
    """The start is a model of another vocabulary, as a language model from the Hub is."""
    build(family, 1000).save_pretrained(tmp_path / "start")
    options = {"corpus": small_corpus, "out": tmp_path / "base", "init": tmp_path / "start", "context": 128}
    options |= {"max_steps": 2, "eval_steps": 2, "valid_windows": 8, "per_device_train_batch_size": 4, **QUIET}
    assert pretrain.main(words(options)) == 0
    base = tmp_path / "base" / "model"
    policy, _ = load_policy(base)
    assert policy.config.model_type == family and policy.config.vocab_size == remi.vocab_size
    options = {"policy": base, "corpus": small_corpus, "out": tmp_path / "run", "max_steps": 2, "guard_steps": 0}
    options |= {"prompt_tokens": 16, "max_completion_length": 64, "completions": 8, "minibatch": 8}
    options |= {
        "num_generations": 4,
        "bf16": "false",
        "realism_warm_up": 1,
        "check_pieces": 0,
        "save_steps": 1,
        **{key: value for key, value in QUIET.items() if key != "disable_tqdm"},
    }
    judges = ["--judges", "realism_tokens=1", "repetition_pitch=0.5"]
    assert finetune.main([*words(options), *judges, "--learning_rate", "1e-3"]) == 0
    after, _ = load_policy(tmp_path / "run" / "model")
    moved = dict(after.named_parameters())
    assert any(not torch.equal(weight, moved[name]) for name, weight in policy.named_parameters())
    (line, _) = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open() if "policy/kl" in line]
    assert abs(line["policy/kl"]) < 1e-3 and np.isfinite(line["rewards/realism_tokens/mean"])
    judges = judges_of_run(tmp_path / "run", JUDGES, remi)
    assert judges.judges["realism_tokens"].network.model.config.model_type == family
    assert judges.judges["realism_tokens"](toy(SWUNG, 2, np.random.default_rng(0))).defined.all()


@every_family
def test_the_context_is_found(family, remi):
    assert context_length(FAMILIES[family](remi.vocab_size)) == CONTEXT


@pytest.mark.parametrize(
    ("prompt", "completion", "fits"),
    [
        (64, 94, None),  # 160 with BOS and style
        (64, 95, r"new \(95\) does not fit: .* 160 tokens, .* take 2 and music 64; give at most 94"),
        (0, 159, r"new \(159\) does not fit: .* take 2; give at most 158"),
        (157, 1, None),
        (158, 1, r"music \(158\) does not fit: .*; give at most 157"),
    ],
)
def test_what_fits_the_context_is_named(tiny_policy, prompt, completion, fits):
    config = tiny_policy(max_position_embeddings=160).config
    if fits is None:
        check_fits("model", config, ("music", prompt), ("new", completion))
    else:
        with pytest.raises(MgenError, match=fits):
            check_fits("model", config, ("music", prompt), ("new", completion))


def test_an_architecture_without_a_limit():
    config = BloomConfig(vocab_size=400)
    assert stated_context(config) is None and context_length(config) == UNLIMITED_CONTEXT


def test_a_model_that_is_not_causal_is_one_line(tmp_path):
    from transformers import T5Config, T5ForConditionalGeneration

    shape = {"d_model": 16, "d_ff": 16, "num_layers": 1, "num_heads": 2, "d_kv": 8, "vocab_size": 50}
    T5ForConditionalGeneration(T5Config(**shape)).save_pretrained(tmp_path)
    with pytest.raises(MgenError, match="expected a decoder-only causal language model") as caught:
        load_policy(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("size", "millions"), [("tiny", 0.85), ("mini", 3.28), ("small", 24.4), ("base", 81.8)])
def test_sizes_have_about_the_stated_number_of_parameters(size, millions, remi):
    with torch.device("meta"):
        policy = new_policy(size, remi, CONTEXT)
    shape = SIZES[size]
    hidden, width = shape["hidden_size"], shape["intermediate_size"]
    values = hidden // shape["num_attention_heads"] * policy.config.num_key_value_heads
    layer = 2 * hidden * (hidden + values) + 3 * hidden * width + 2 * hidden
    counted = remi.vocab_size * hidden + shape["num_hidden_layers"] * layer + hidden
    assert policy.num_parameters() == counted
    assert counted / 1e6 == pytest.approx(millions, rel=0.02)
