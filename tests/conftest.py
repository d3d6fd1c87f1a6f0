"""What tests share: no network, one thread a process, a vocabulary, some music, models as small as can be."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # tests run side by side, and sums of floats do not depend on the machine
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import hypothesis
import pytest

hypothesis.settings.register_profile("mgen", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("mgen")


@pytest.fixture(scope="session")
def remi():
    """The vocabulary of the recipe `piano` with the styles jazz and other."""
    from mgen.encoding.remi import Remi

    return Remi.build()


@pytest.fixture(scope="session")
def demo_pieces():
    """A piece of each collection of the embedded corpus; not to be changed by a test."""
    from mgen.corpus.demo import COLLECTIONS, compose

    return [compose(name, 0) for name in COLLECTIONS]


@pytest.fixture(scope="session")
def tiny_policy(remi):
    """Call it for a new, untrained policy: real, and about 30,000 weights small."""
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


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory):
    """Folder of a prepared corpus: the embedded music, 12 works of each of its collections; only to be read."""
    from mgen.cli.prepare import main
    from mgen.corpus.demo import write_demo_corpus

    folder = tmp_path_factory.mktemp("small_corpus")
    metadata = write_demo_corpus(folder / "music", works_per_collection=12)
    assert main(["--metadata", str(metadata), "--out", str(folder / "corpus"), "--workers", "1"]) == 0
    return folder / "corpus"
