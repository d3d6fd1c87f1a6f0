"""Log-probabilities of a batch are those of each row by itself, without padding."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mgen.rl.batch import collate, completion_logits, read, token_logprobs
from mgen.sampling.grammar import GrammarMask


@pytest.fixture
def rows(remi):
    """Prompts and completions of several lengths."""
    names = {name: i for i, name in enumerate(remi.names)}
    note = [names[name] for name in ("Position_0", "Pitch_60", "Velocity_63", "Duration_1.0.24")]
    later = [names[name] for name in ("Position_24", "Pitch_72", "Velocity_63", "Duration_1.0.24")]
    head = [remi.bos_id, names["Bar_None"], names["TimeSig_4/4"]]
    return [head, [*head, *note], head], [[*note, *later, remi.eos_id], [*later, remi.eos_id], note[:2]]


def alone(model, prompt, completion, temperature=1.0, allowed=None):
    """Log-probabilities of one completion by a pass over its row alone."""
    logits = model(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1] / temperature
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -torch.inf)
    return logits.log_softmax(-1)[range(len(completion)), completion]


@torch.no_grad()
@pytest.mark.parametrize("pad_to", [(0, 0), (40, 30)])
def test_padding_changes_nothing(pad_to, tiny_policy, rows, remi):
    policy, (prompts, completions) = tiny_policy(initializer_range=0.3), rows
    batch = collate(prompts, completions, torch.ones(3), 1, remi.pad_id, pad_to=pad_to)
    found = token_logprobs(policy, batch, torch.arange(3))
    assert found.shape == batch.mask.shape and (found[~batch.mask] == 0).all()
    for number, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        torch.testing.assert_close(found[number, : len(completion)], alone(policy, prompt, completion))
    swapped = token_logprobs(policy, batch, torch.tensor([2, 0]))
    torch.testing.assert_close(swapped, found[[2, 0]])
    other = dataclasses.replace(batch, ids=torch.where(batch.ids == remi.pad_id, remi.eos_id, batch.ids))
    torch.testing.assert_close(token_logprobs(policy, other, torch.arange(3)), found)  # what is in the padding


@torch.no_grad()
def test_each_row_is_read_at_its_temperature(tiny_policy, rows, remi):
    policy, (prompts, completions) = tiny_policy(initializer_range=0.3), rows
    temperature = torch.tensor([1.0, 0.5, 0.25])
    batch = collate(prompts, completions, temperature, 1, remi.pad_id)
    assert batch.warm.tolist() == [True, False, False]
    found = token_logprobs(policy, batch, torch.arange(3))
    for number, completion in enumerate(completions):
        expected = alone(policy, prompts[number], completion, float(temperature[number]))
        torch.testing.assert_close(found[number, : len(completion)], expected)


@torch.no_grad()
def test_the_grammar_renormalises(tiny_policy, rows, remi):
    policy, (prompts, completions) = tiny_policy(initializer_range=0.3), rows
    grammar = GrammarMask(remi)
    batch = collate(prompts, completions, torch.ones(3), 1, remi.pad_id, grammar=grammar)
    found, mass = read(policy, batch, torch.arange(3))
    for number, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        allowed = []
        for place in range(len(completion)):
            grammar.start([[*prompt, *completion[:place]]])
            allowed.append(grammar.allowed()[0])
        allowed = torch.stack(allowed)
        own = slice(0, len(completion))
        torch.testing.assert_close(found[number, own], alone(policy, prompt, completion, allowed=allowed))
        whole = policy(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1].softmax(-1)
        torch.testing.assert_close(mass[number, own], (whole * allowed).sum(-1).log())
    assert (mass[batch.mask] < 0).all() and (mass[~batch.mask] == 0).all()


@torch.no_grad()
@pytest.mark.parametrize("with_grammar", [False, True])
def test_the_logits_of_completions_give_their_log_probabilities(with_grammar, tiny_policy, rows, remi):
    policy, (prompts, completions) = tiny_policy(initializer_range=0.3), rows
    grammar = GrammarMask(remi) if with_grammar else None
    batch = collate(prompts, completions, torch.ones(3), 1, remi.pad_id, grammar=grammar)
    logits, mass = completion_logits(policy, batch, torch.arange(3))
    found, expected_mass = read(policy, batch, torch.arange(3))
    chosen = logits.log_softmax(-1).gather(2, batch.completion_ids[:, :, None])[:, :, 0]
    torch.testing.assert_close(torch.where(batch.mask, chosen, 0.0), found)
    assert (mass is None) == (expected_mass is None) == (not with_grammar)
    if with_grammar:
        torch.testing.assert_close(mass, expected_mass)
