"""The example that shows the whole algorithm in one file."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from mgen.corpus.shards import Corpus
from mgen.notes import Notes
from mgen.rl.prompt_mix import PromptMix

PATH = Path(__file__).parents[1] / "examples" / "rl_loop.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("rl_loop", PATH)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["rl_loop"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def test_it_can_be_read_in_one_go():
    assert len(PATH.read_text().splitlines()) <= 250


def test_advantages_by_hand(example):
    """Two completions of a prompt, of two tokens and one; score 3 and 1, and KL costs 1/2 on their first tokens."""
    mask = torch.tensor([[True, True], [True, False]])
    log_ratio = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    found = example.advantages(np.array([3.0, 1.0]), log_ratio, mask, 2, kl_weight=0.5)
    # returns: 3 - .5, 3; 1, and nothing after the end
    torch.testing.assert_close(found, torch.tensor([[1.5, 3.0], [-1.5, 0.0]]))


def test_log_probabilities_are_those_of_sampling(example, tiny_policy, remi):
    policy = tiny_policy().eval()
    torch.manual_seed(0)
    prompt = [remi.bos_id, remi.style_ids["jazz"], remi.bar_id]
    batch = example.sample(policy, remi, [prompt], 4, 12)
    assert batch.ids.shape == (4, 3 + batch.mask.shape[1]) and batch.mask[:, 0].all()
    found = example.logprobs(policy, batch)
    for row, completion in enumerate(batch.completions):
        logits = policy(torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
        expected = logits[torch.arange(2, 2 + len(completion)), completion]
        torch.testing.assert_close(found[row, : len(completion)], expected, atol=1e-4, rtol=1e-4)
        assert (found[row, len(completion) :] == 0).all()


def test_repeated_pitches_are_counted(example):
    class Pieces:
        n_pieces = 3

        def pieces(self, numbers):
            return type("Piece", (), {"pitch": np.array([[60, 60, 62, 62, 64], [60], [60, 61]][numbers[0]][:])})

    np.testing.assert_allclose(example.few_repeats(Pieces()), [-5, -10, 0])


def test_the_score_rises(example, tiny_policy, small_corpus):
    """More of one token is an easy task: its share rises from that of an untrained policy."""
    corpus = Corpus.open(small_corpus)
    policy, remi = tiny_policy(), corpus.remi
    torch.manual_seed(0)
    prompts = PromptMix(corpus, "jazz", 0.5, [12], 16, seed=0)
    seen = []

    def bars(notes: Notes) -> np.ndarray:
        return np.array([row.count(remi.bar_id) for row in seen[-1].completions], float)

    original = example.sample
    example.sample = lambda *a: seen.append(original(*a)) or seen[-1]
    try:
        history = example.train(
            policy, remi, prompts, bars, 6, groups=8, n=8, new_tokens=16, learning_rate=3e-3, report=lambda _: None
        )
    finally:
        example.sample = original
    assert history[-1]["score"] > 2 * history[0]["score"] and abs(history[0]["kl"]) < 1e-4 < history[-1]["kl"]


@pytest.mark.slow
def test_it_runs_as_written(example, tiny_policy, remi, small_corpus, tmp_path, capsys):
    for part in (tiny_policy(), remi):
        part.save_pretrained(tmp_path / "base")
    words = ["--policy", str(tmp_path / "base"), "--corpus", str(small_corpus), "--out", str(tmp_path / "tuned")]
    assert len(example.main([*words, "--steps", "1", "--new_tokens", "16"])) == 1
    assert "step 0: score" in capsys.readouterr().out and (tmp_path / "tuned" / "model.safetensors").is_file()
