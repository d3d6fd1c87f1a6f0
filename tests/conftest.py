"""Shared by all tests: no network, one thread per process, a vocabulary, music, tiny models."""

from __future__ import annotations

import gc
import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # tests run in parallel, and sums of floats must not depend on the machine
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import hypothesis
import pytest

hypothesis.settings.register_profile("mgen", deadline=None, max_examples=40, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("mgen")

# Imported modules are a million objects, which a full collection of garbage visits for a second each time.
gc.disable()
gc.set_threshold(50_000, 20, 20)


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def remi():
    """The vocabulary of the recipe `piano` with the styles jazz and other."""
    from mgen.encoding.remi import Remi

    return Remi.build(("jazz", "other"))


@pytest.fixture(scope="session")
def demo_pieces():
    """A piece of each collection of the embedded corpus; read-only."""
    from mgen.corpus.demo import COLLECTIONS, compose

    return [compose(name, 0) for name in COLLECTIONS]


@pytest.fixture(scope="session")
def tiny_policy(remi):
    """Builds a new, untrained policy with about 30,000 weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    def build(seed=0, **changes):
        shape = {
            "vocab_size": remi.vocab_size,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 1024,
            "tie_word_embeddings": True,
            "pad_token_id": remi.pad_id,
            "bos_token_id": remi.bos_id,
            "eos_token_id": remi.eos_id,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return LlamaForCausalLM(LlamaConfig(**shape | changes)).eval()

    return build


@pytest.fixture(scope="module")
def musical_policy(tiny_policy, remi):
    """A tiny policy that has learned to write notes, so that a reward on notes has something to go by."""
    from rl_policy import policy_that_writes_notes

    return policy_that_writes_notes(tiny_policy, remi)


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory):
    """Folder of a prepared corpus: the embedded music, 12 works per collection; read-only."""
    from mgen.cli.prepare import main
    from mgen.corpus.demo import write_demo_corpus

    folder = tmp_path_factory.mktemp("small_corpus")
    metadata = write_demo_corpus(folder / "music", works_per_collection=12)
    assert main(["--metadata", str(metadata), "--out", str(folder / "corpus"), "--workers", "1"]) == 0
    return folder / "corpus"


@pytest.fixture
def quick_critic(monkeypatch):
    """Critics of features train for a moment."""
    from dataclasses import replace
    from functools import partial
    from types import SimpleNamespace

    from critics.style import feature_training
    from critics.style.ensemble import MEMBERS
    from critics.style.feature_model import FeatureModel

    members = tuple(replace(member, steps=10) for member in MEMBERS)
    monkeypatch.setattr(
        feature_training, "FeatureModel", SimpleNamespace(fit=partial(FeatureModel.fit, members=members))
    )
