"""The LSTM policy: padding changes nothing, its states continue it, it loads by name, and it is as large as a Llama."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from critics.realism.regularisation import bound_spectral_norms
from critics.sequence import classifier
from mgen.errors import MgenError
from mgen.models.lstm import LSTM_SIZES, NORMALISATIONS, LstmConfig, LstmForCausalLM, lstm_config
from mgen.models.pretrained import stated_context
from mgen.models.transformer import context_length, initial_policy, load_policy, new_policy

VOCABULARY, PAD = 40, 0
FORMS = [(norm, residual) for norm in NORMALISATIONS for residual in (True, False)]


def build(seed=0, **changes):
    fields = {"vocab_size": VOCABULARY, "hidden_size": 24, "pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LstmForCausalLM(LstmConfig(**fields | changes)).eval()
        for name, weight in model.named_parameters():
            torch.nn.init.normal_(weight, 1.0 if name.endswith("norm.weight") else 0.0, 0.3)  # as after training
    return model


def rows(lengths, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, VOCABULARY, (length,), generator=generator) for length in lengths]


def padded(parts, side):
    """Rows padded on a side, or with holes, and their mask."""
    width = max(map(len, parts)) + 2
    ids, mask = torch.full((len(parts), width), PAD), torch.zeros(len(parts), width, dtype=torch.int64)
    for row, part in enumerate(parts):
        place = {"left": range(width - len(part), width), "right": range(len(part))}.get(side)
        if place is None:
            place = torch.randperm(width, generator=torch.Generator().manual_seed(row))[: len(part)].sort().values
        place = torch.as_tensor(list(place))
        ids[row, place], mask[row, place] = part, 1
    return ids, mask


@pytest.mark.parametrize(("norm", "residual"), FORMS)
@pytest.mark.parametrize("side", ["left", "right", "holes"])
@torch.no_grad()
def test_padding_changes_no_logit(side, norm, residual):
    model = build(normalisation=norm, residual=residual)
    parts = rows((5, 1, 9, 3))
    ids, mask = padded(parts, side)
    logits = model(input_ids=ids, attention_mask=mask).logits
    for row, part in enumerate(parts):
        alone = model(input_ids=part[None]).logits[0]
        torch.testing.assert_close(logits[row, mask[row].bool()], alone, atol=1e-5, rtol=0)
    kept = model(input_ids=ids, attention_mask=mask, logits_to_keep=4).logits
    assert torch.equal(kept, logits[:, -4:])


def test_gradients_of_padded_rows_are_those_of_the_rows():
    model, parts = build(), rows((4, 7))
    ids, mask = padded(parts, "left")
    labels = ids.masked_fill(mask.cumsum(1) < 2, -100)  # nothing predicts the first token of a row
    model(input_ids=ids, attention_mask=mask, labels=labels, num_items_in_batch=1).loss.backward()
    together = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    for part in parts:
        model(input_ids=part[None], labels=part[None], num_items_in_batch=1).loss.backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(together[name], weight.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("side", ["left", "right", "holes"])
@torch.no_grad()
def test_the_states_continue_the_rows(side):
    model, parts, more = build(), rows((5, 1, 8)), rows((3, 3, 3), seed=2)
    ids, mask = padded(parts, side)
    cache = model(input_ids=ids, attention_mask=mask, use_cache=True).past_key_values
    after = torch.stack(more)
    mask = torch.cat([mask, torch.ones_like(after)], dim=1)
    logits = model(input_ids=after, attention_mask=mask, past_key_values=cache, use_cache=True).logits
    for row, (part, new) in enumerate(zip(parts, more, strict=True)):
        whole = model(input_ids=torch.cat([part, new])[None]).logits[0, len(part) :]
        torch.testing.assert_close(logits[row], whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("beams", [1, 3])
def test_generate_of_left_padded_prompts_is_that_of_each_alone(beams):
    model, parts = build(), rows((4, 2, 6))
    ids, mask = padded(parts, "left")
    options = {"do_sample": False, "num_beams": beams, "max_new_tokens": 12, "use_cache": True}
    together = model.generate(input_ids=ids, attention_mask=mask, **options)[:, ids.shape[1] :]
    for row, part in enumerate(parts):
        for cached in (True, False):
            alone = model.generate(
                input_ids=part[None], attention_mask=torch.ones(1, len(part)), **{**options, "use_cache": cached}
            )[0, len(part) :]
            assert together[row, : len(alone)].tolist() == alone.tolist()


def test_a_mean_over_time_is_not_taken():
    """What comes later changes nothing before."""
    model, (part,) = build(), rows((8,))
    model.train()
    changed = part.clone()
    changed[5:] = 7
    with torch.no_grad():
        first, second = model(part[None]).logits, model(changed[None]).logits
    assert torch.equal(first[:, :5], second[:, :5]) and not torch.equal(first[:, 5:], second[:, 5:])


def test_dropout_is_between_layers_and_only_in_training():
    model, (part,) = build(dropout=0.5), rows((8,))
    assert torch.equal(model(part[None]).logits, model(part[None]).logits)
    model.train()
    assert not torch.equal(model(part[None]).logits, model(part[None]).logits)


def test_a_new_model_keeps_its_state(remi):
    policy = LstmForCausalLM(lstm_config("tiny", remi, 64))
    bias = policy.model.layers[1].lstm.bias_ih_l0.detach()
    assert [float(part.mean()) for part in bias.chunk(4)] == [0, 1, 0, 0]


@pytest.mark.parametrize(("norm", "residual"), FORMS)
def test_saved_and_loaded_by_name_it_is_the_same(norm, residual, remi, tmp_path):
    model = build(normalisation=norm, residual=residual, vocab_size=remi.vocab_size, max_position_embeddings=77)
    model.save_pretrained(tmp_path)
    remi.save_pretrained(tmp_path)
    (part,) = rows((9,))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=False)
    policy, _ = load_policy(tmp_path)
    for other in (loaded, policy):
        assert type(other) is LstmForCausalLM and other.lm_head.weight is other.model.embed_tokens.weight
        assert torch.equal(other.eval()(part[None]).logits, model(part[None]).logits)
    assert stated_context(policy.config) == context_length(policy.config) == 77
    assert (policy.config.normalisation, policy.config.residual) == (norm, residual)


def test_it_goes_on_with_longer_windows(remi, tmp_path):
    build(vocab_size=remi.vocab_size, max_position_embeddings=64).save_pretrained(tmp_path)
    remi.save_pretrained(tmp_path)
    assert context_length(initial_policy(tmp_path, "corpus", remi, 128).config) == 128
    assert context_length(initial_policy(tmp_path, "corpus", remi, 32).config) == 64


@pytest.mark.slow
def test_a_new_process_loads_it_after_one_import(tmp_path):
    build().save_pretrained(tmp_path)
    code = "import sys, mgen.models.lstm; from transformers import AutoModelForCausalLM as auto; "
    code += "print(type(auto.from_pretrained(sys.argv[1])).__name__)"
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "LstmForCausalLM"


def test_a_classifier_loads_by_name_and_reads_the_last_token(tmp_path):
    policy = build()
    model = classifier(policy.config, "jazz").eval()
    model.base_model.load_state_dict(policy.base_model.state_dict())
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    parts = rows((4, 9))
    ids, mask = padded(parts, "right")
    with torch.no_grad():
        expected = [model(input_ids=part[None]).logits[0] for part in parts]
        for inputs in ({"input_ids": ids}, {"input_ids": ids, "attention_mask": mask}):
            torch.testing.assert_close(loaded(**inputs).logits, torch.stack(expected), atol=1e-5, rtol=0)


def test_what_cannot_be_is_one_line(remi):
    with pytest.raises(MgenError, match="size 'huge': expected one of tiny, mini, small, base"):
        lstm_config("huge", remi, 64)
    with pytest.raises(ValueError, match="normalisation 'batch': expected one of layer, none"):
        lstm_config("tiny", remi, 64, normalisation="batch")
    with pytest.raises(MgenError, match="recurrent layer cannot be bounded; use head or none"):
        bound_spectral_norms(classifier(build().config, "yes"), "all", 0)


@pytest.mark.parametrize("size", LSTM_SIZES)
def test_a_size_has_as_many_parameters_as_the_llama_of_its_name(size, remi):
    with torch.device("meta"):
        policy = LstmForCausalLM(lstm_config(size, remi, 64))
        llama = new_policy(size, remi, 64)
    assert policy.num_parameters() == pytest.approx(llama.num_parameters(), rel=0.02)
    shape = LSTM_SIZES[size]
    width = shape["hidden_size"]
    layer = 8 * width**2 + 8 * width + 2 * width
    assert policy.num_parameters() == remi.vocab_size * width + shape["num_hidden_layers"] * layer + 2 * width
