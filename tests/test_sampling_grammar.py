"""The grammar mask: it allows exactly what the decoder does not count as broken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from symusic import core

from mgen.corpus.clean import normalise
from mgen.encoding.remi import Kind, Remi
from mgen.notes import Notes
from mgen.sampling.decoding import Decoding
from mgen.sampling.grammar import GrammarMask
from mgen.sampling.rollout import completion_logprobs, sample


def encode(pieces, remi):
    return [row for piece in pieces for row in remi.encode(normalise(piece, "band" if remi.multi else "piano"))]


@pytest.fixture(scope="module")
def pieces(demo_pieces):
    """The embedded pieces, and one in 7/8."""
    sevens = demo_pieces[0].copy()
    sevens.time_signatures = core.TimeSignatureTickList([core.TimeSignatureTick(0, 7, 8)])
    return [*demo_pieces, sevens]


@pytest.fixture(scope="module", params=["", "band", "no velocity", "merges", "band, no velocity, merges"])
def encoding(request, pieces):
    """A vocabulary."""
    remi = Remi.build(("jazz", "other"), "band" in request.param, "no velocity" not in request.param)
    return remi.learn_merges(encode(pieces, remi), 150) if "merges" in request.param else remi


@pytest.fixture(scope="module")
def music(encoding, pieces):
    """Tokens of real pieces."""
    return encode(pieces, encoding)


def prompts_of(music, encoding, n=24):
    """A style token alone, and music that is cut anywhere in a note."""
    rng = np.random.default_rng(0)
    cuts = [encoding.expand(row)[0][: rng.integers(1, 60)].tolist() for row in (music * n)[:n]]
    return [[encoding.bos_id, encoding.style_ids["jazz"], *cut] for cut in [[], *cuts]]


def test_real_music_is_never_masked(encoding, music):
    head = [encoding.bos_id, encoding.style_ids["jazz"]]
    longest = max(map(len, music))
    ids = torch.tensor([[*row.tolist(), encoding.eos_id] + [-1] * (longest - len(row)) for row in music])
    mask = GrammarMask(encoding)
    mask.start([head] * len(music))
    for column in ids.T:
        allowed = mask.allowed().gather(1, column.clamp_min(0)[:, None])[:, 0]
        assert allowed[column >= 0].all()
        mask.step(torch.where(column >= 0, column, encoding.eos_id))


def test_a_batch_of_sequences_is_masked_as_one_token_after_the_other(encoding, music):
    ids = torch.tensor([[encoding.bos_id, encoding.style_ids["jazz"], *row[:40].tolist()] for row in music[:3]])
    ids[1, 20:] = encoding.pad_id
    found = GrammarMask(encoding).after(ids)
    mask = GrammarMask(encoding)
    mask.start(ids[:, :1].tolist())
    for at in range(1, ids.shape[1]):
        assert (found[:, at - 1] == mask.allowed()).all()
        mask.step(ids[:, at])
    assert (found[:, -1] == mask.allowed()).all() and not found.all()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_nothing_that_is_sampled_is_broken(temperature, encoding, music, tiny_policy):
    """Of a policy that knows no grammar; every row stops at `max_new_tokens` or at the end token."""
    policy = tiny_policy(vocab_size=encoding.vocab_size, initializer_range=0.3)
    prompts = prompts_of(music, encoding)
    drawn = {}
    for grammar in (None, GrammarMask(encoding)):
        generator = torch.Generator().manual_seed(1)
        options = Decoding(temperature, max_new_tokens=60), encoding.eos_id, encoding.pad_id, generator
        rollout = sample(policy, prompts, *options, grammar=grammar)
        completions = rollout.lists()[0]
        rows = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
        notes = Notes.from_ids(rows, encoding, start=[len(prompt) for prompt in prompts])
        drawn[grammar is not None] = rollout, notes.n_broken
    assert (drawn[True][1] == 0).all() and (drawn[False][1] > 5).sum() > 20
    assert (drawn[True][0].token_ids == encoding.eos_id).any()
    assert drawn[False][0].removed.max() == 0


def test_allowed_is_what_the_decoder_does_not_count(encoding, music):
    """Every token of the vocabulary after prompts that end anywhere in a note."""
    prompts = prompts_of(music, encoding, 16)
    mask = GrammarMask(encoding)
    mask.start(prompts)
    for prompt, allowed in zip(prompts, mask.allowed().numpy(), strict=True):
        rows = [[*prompt, token] for token in range(encoding.vocab_size)]
        unbroken = Notes.from_ids(rows, encoding, start=len(prompt)).n_broken == 0
        differing = np.flatnonzero(unbroken != allowed)
        # A program is also forbidden if no pitch of it could follow in rising order.
        assert allowed.any() and not allowed[differing].any()
        assert all(encoding.kind[encoding.parts[token][-1]] == Kind.PROGRAM for token in differing)


def test_masked_logprobs_are_of_what_was_drawn_from(encoding, tiny_policy):
    """Logits by hand: those of the model without the forbidden tokens; what these had is the removed mass."""
    policy = tiny_policy(vocab_size=encoding.vocab_size, initializer_range=0.3)
    prompt = [encoding.bos_id, encoding.style_ids["jazz"]]
    decoding = Decoding(temperature=0.7, max_new_tokens=20)
    rollout = sample(policy, [prompt], decoding, encoding.eos_id, encoding.pad_id, grammar=GrammarMask(encoding))
    mask = GrammarMask(encoding)
    mask.start([prompt])
    row, logprobs = (lists[0] for lists in rollout.lists())
    with torch.no_grad():
        logits = policy(torch.tensor([prompt + row])).logits[0, 1:-1]
    for place, token in enumerate(row):
        allowed = mask.allowed()[0]
        expected = (logits[place] / 0.7).masked_fill(~allowed, -torch.inf).log_softmax(-1)
        assert abs(float(expected[token]) - logprobs[place]) < 1e-4
        assert abs(float(logits[place].softmax(-1)[~allowed].sum() - rollout.removed[0, place])) < 1e-5
        mask.step(torch.tensor([token]))


def test_a_model_reads_masked_completions_as_they_were_drawn(encoding, tiny_policy):
    """So the KL of a policy from itself is 0 under the mask."""
    policy = tiny_policy(vocab_size=encoding.vocab_size, initializer_range=0.3)
    prompts = [[encoding.bos_id, encoding.style_ids["jazz"]]] * 3
    rollout = sample(
        policy, prompts, Decoding(max_new_tokens=20), encoding.eos_id, encoding.pad_id, grammar=GrammarMask(encoding)
    )
    ids = torch.cat([torch.tensor(prompts), rollout.token_ids], dim=1)
    length = rollout.token_ids.shape[1]
    read = completion_logprobs(policy, ids, length, grammar=GrammarMask(encoding))
    torch.testing.assert_close(read[rollout.mask], rollout.logprobs[rollout.mask], atol=1e-4, rtol=1e-4)
    assert (completion_logprobs(policy, ids, length)[rollout.mask] < rollout.logprobs[rollout.mask] - 0.01).any()


def test_some_token_is_always_allowed():
    """After the end the end again; after a program that no pitch fits in rising order, the kinds still count."""
    remi = Remi.build(("jazz", "other"), multi=True)
    names = {name: id_ for id_, name in enumerate(remi.names)}
    bar = ["BOS_None", "Bar_None", "TimeSig_4/4"]
    highest = ["Position_0", "Program_9", "Pitch_109", "Velocity_63", "Duration_1.0.24", "Program_9"]
    mask = GrammarMask(remi)
    mask.start([[names[name] for name in prompt] for prompt in ([*bar, "EOS_None"], [*bar, *highest])])
    ended, pitch = mask.allowed().numpy()
    assert np.flatnonzero(ended).tolist() == [remi.eos_id]
    assert (pitch == (remi.kind == Kind.PITCH)).all()
