"""The policy: stock `LlamaForCausalLM` (RoPE, grouped-query attention) in three sizes."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from mgen.encoding.remi import Remi
from mgen.errors import MgenError

SIZES: dict[str, dict[str, int]] = {
    # about 0.9 M, 25 M and 85 M parameters
    "tiny": {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 384},
    "small": {
        "hidden_size": 512,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "intermediate_size": 1536,
    },
    "base": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 2304,
    },
}


def llama_config(size: str, remi: Remi, context: int, dropout: float = 0.0) -> LlamaConfig:
    """The configuration of a size.

    Args:
        size: a name of `SIZES`.
        context: longest sequence, in tokens.
        dropout: on attention weights, the only place where stock Llama has one.

    Raises:
        MgenError: No such size.
    """
    if size not in SIZES:
        raise MgenError(f"size '{size}': expected one of {', '.join(SIZES)}")
    shape = SIZES[size]
    return LlamaConfig(
        vocab_size=remi.vocab_size,
        max_position_embeddings=context,
        num_key_value_heads=max(shape["num_attention_heads"] // 4, 2),
        attention_dropout=dropout,
        tie_word_embeddings=True,
        pad_token_id=remi.pad_id,
        bos_token_id=remi.bos_id,
        eos_token_id=remi.eos_id,
        use_cache=False,  # only sampling needs one, and asks for it
        **shape,
    )


def new_policy(size: str, remi: Remi, context: int, dropout: float = 0.0) -> LlamaForCausalLM:
    """An untrained policy; seed torch first for the same weights again."""
    return LlamaForCausalLM(llama_config(size, remi, context, dropout))


def load_policy(folder: Path | str) -> tuple[PreTrainedModel, Remi]:
    """A trained policy with its vocabulary, in float32.

    Raises:
        MgenError: The folder holds no model, or one whose vocabulary is not its tokenizer's.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise MgenError(f"{folder}: expected a model (config.json and *.safetensors), found none; give RUN/model")
    remi = Remi.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32", use_safetensors=True)
    if model.config.vocab_size != remi.vocab_size:
        raise MgenError(
            f"{folder}: the model has {model.config.vocab_size} tokens, its tokenizer {remi.vocab_size}; "
            "the folder mixes two models"
        )
    return model, remi


def check_vocabulary(folder: Path | str, remi: Remi, corpus: Path | str, corpus_remi: Remi) -> None:
    """Raise unless model and corpus write music with the same tokens."""
    if remi.fingerprint != corpus_remi.fingerprint:
        raise MgenError(
            f"{folder}: its tokenizer ({remi.fingerprint}, {remi.vocab_size} tokens) is not that of {corpus} "
            f"({corpus_remi.fingerprint}, {corpus_remi.vocab_size} tokens); prepare the corpus with the same recipe "
            "and styles, or pretrain on this corpus"
        )
