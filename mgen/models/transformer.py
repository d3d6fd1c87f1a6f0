"""The policy: any decoder-only causal model of transformers; a new one is a Llama of one of four sizes."""

from __future__ import annotations

from pathlib import Path

from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from mgen.encoding.remi import MIDITOK_FILE, Remi
from mgen.errors import MgenError
from mgen.models.lstm import LstmConfig
from mgen.models.pretrained import load_model, stated_context

SIZES: dict[str, dict[str, int]] = {
    # about 0.9 M, 3.3 M, 24 M and 82 M parameters
    "tiny": {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 384},
    "mini": {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 768},
    "small": {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 2304},
}

UNLIMITED_CONTEXT = 4096  # tokens that a model is given whose architecture has no limit, such as one without positions


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


def context_length(config: PreTrainedConfig) -> int:
    """Longest sequence that a model is given, in tokens: `stated_context`, or else `UNLIMITED_CONTEXT`."""
    return stated_context(config) or UNLIMITED_CONTEXT


HEAD_TOKENS = 2  # before the music of a prompt: BOS and the style token


def check_fits(
    folder: Path | str,
    config: PreTrainedConfig,
    prompt: tuple[str, int],
    completion: tuple[str, int],
    head: int = HEAD_TOKENS,
) -> None:
    """Raises unless prompt and completion fit the context of a policy.

    Args:
        folder: of the policy, for the message.
        prompt, completion: name and value of the options, in tokens.
        head: tokens before the prompt's music.

    Raises:
        MgenError: They do not fit; the message names the option to change and what fits.
    """
    context = context_length(config)
    (prompt_option, music), (option, new) = prompt, completion
    room = context - head - music
    if new <= room:
        return
    why = f"does not fit: the context of {folder} is {context} tokens, of which BOS and style take {head}"
    if room < 1:
        raise MgenError(f"{prompt_option} ({music}) {why}; give at most {context - head - 1}")
    taken = f" and {prompt_option} {music}" if music else ""
    raise MgenError(f"{option} ({new}) {why}{taken}; give at most {room}")


def load_policy(folder: Path | str) -> tuple[PreTrainedModel, Remi]:
    """A trained policy of any architecture with its vocabulary, in float32.

    Raises:
        MgenError: The folder holds no causal model, or one whose vocabulary is not its tokenizer's.
    """
    folder = Path(folder)
    model = load_model(folder, causal_class)
    remi = Remi.from_pretrained(folder)
    if model.config.vocab_size != remi.vocab_size:
        raise MgenError(
            f"{folder}: the model has {model.config.vocab_size} tokens, its tokenizer {remi.vocab_size}; "
            "the folder mixes two models"
        )
    return _with_special_tokens(model, remi), remi


def initial_policy(folder: Path | str, corpus: Path | str, remi: Remi, context: int) -> PreTrainedModel:
    """A model to go on from in pretraining: a policy, or a model of another vocabulary, such as a language model.

    The other vocabulary goes: embedding and output layer get one row per token of `remi`, and only the layers between
    them keep what they learned.

    Args:
        corpus: folder of the corpus, for messages.
        remi: its vocabulary.
        context: longest sequence to train on, in tokens.

    Raises:
        MgenError: The folder holds no causal model, a policy of another REMI vocabulary, or one of a shorter context
            (which an LSTM is given, as it has no positions).
    """
    folder = Path(folder)
    if (folder / MIDITOK_FILE).is_file():
        model, own = load_policy(folder)
        check_vocabulary(folder, own, corpus, remi)
    else:
        model = load_model(folder, causal_class)
        model.resize_token_embeddings(remi.vocab_size, mean_resizing=False)
        model = _with_special_tokens(model, remi)
    if isinstance(model.config, LstmConfig) and model.config.max_position_embeddings:
        model.config.max_position_embeddings = max(model.config.max_position_embeddings, context)
    longest = context_length(model.config)
    if context > longest:
        raise MgenError(f"context ({context}) does not fit that of --init {folder}; give at most {longest}")
    return model


def causal_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The decoder-only language model of an architecture; `MgenError` if there is none."""
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        expected = "expected a decoder-only causal language model"
        raise MgenError(f"{config.name_or_path}: {expected}, found {config.model_type}; give RUN/model")
    kind: type[PreTrainedModel] = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return kind


def _with_special_tokens(model: PreTrainedModel, remi: Remi) -> PreTrainedModel:
    """The model, whose configurations name the vocabulary's special tokens: other architectures have other defaults."""
    for config in (model.config, model.generation_config):
        config.pad_token_id, config.bos_token_id, config.eos_token_id = remi.pad_id, remi.bos_id, remi.eos_id
    return model


def check_vocabulary(folder: Path | str, remi: Remi, corpus: Path | str, corpus_remi: Remi) -> None:
    """Raise unless model and corpus write music with the same tokens."""
    if remi.fingerprint != corpus_remi.fingerprint:
        raise MgenError(
            f"{folder}: its tokenizer ({remi.fingerprint}, {remi.vocab_size} tokens) is not that of {corpus} "
            f"({corpus_remi.fingerprint}, {corpus_remi.vocab_size} tokens); prepare the corpus with the same recipe, "
            "styles, velocity and merges (which are learned from it), or pretrain on this corpus"
        )
