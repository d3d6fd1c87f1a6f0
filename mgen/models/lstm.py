"""An LSTM policy, the recurrent baseline of the Transformer, as a model of `transformers`.

Importing this module registers its classes, so that the Auto classes load a folder of it and run no code of the folder.

Source: Hochreiter and Schmidhuber 1997; dropout between the layers: Zaremba et al. 2014, arXiv:1409.2329.
"""

from __future__ import annotations

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    DynamicCache,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
    initialization,
)
from transformers.cache_utils import CacheLayerMixin
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import slice_logits_to_keep

from mgen.encoding.remi import Remi
from mgen.errors import MgenError

LSTM_SIZES: dict[str, dict[str, int]] = {
    # as many parameters as the Llama of the same name, within 2 %
    "tiny": {"hidden_size": 216, "num_hidden_layers": 2},
    "mini": {"hidden_size": 360, "num_hidden_layers": 3},
    "small": {"hidden_size": 1000, "num_hidden_layers": 3},
    "base": {"hidden_size": 1592, "num_hidden_layers": 4},
}

States = tuple[Tensor, Tensor]  # hidden and cell

NORMALISATIONS = ("layer", "none")
"""Before each layer and the output layer. No batch norm: it would mix other pieces and later tokens into the
probability of a token, and training and sampling would not be of one policy."""


@strict
class LstmConfig(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of an LSTM policy.

    Attributes:
        hidden_size: width of embedding, states and layers.
        dropout: on the embeddings and on what each layer gives, never between steps.
        normalisation: one of `NORMALISATIONS`.
        residual: each layer adds to what it reads, instead of replacing it.
        max_position_embeddings: longest sequence in training, in tokens, which mgen also keeps to in sampling; the
            state itself has no limit, so a larger number may be written here. None: no limit.
    """

    model_type = "mgen_lstm"

    vocab_size: int = 512
    hidden_size: int = 216
    num_hidden_layers: int = 2
    dropout: float = 0.0
    normalisation: str = "layer"
    residual: bool = True
    max_position_embeddings: int | None = None
    initializer_range: float = 0.02
    use_cache: bool = True
    tie_word_embeddings: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation '{self.normalisation}': expected one of {', '.join(NORMALISATIONS)}")
        super().__post_init__(**kwargs)

    @property
    def layer_types(self) -> list[str]:
        """Kind of each layer's cache, `LstmState`."""
        return [self.model_type] * self.num_hidden_layers

    def validate_layer_type(self) -> None:
        """All layers are of a kind that `transformers` does not list."""


class LstmState(CacheLayerMixin):  # type: ignore[misc]
    """States of a layer in a cache of `transformers`: hidden (B, D) are its keys, cells (B, D) its values."""

    _layer_type = LstmConfig.model_type  # a cache that is made for a configuration has it
    supports_early_init = False

    def __init__(self, **_: Any) -> None:
        super().__init__()
        self.cumulative_length = 0  # tokens read, with padding

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Notes that there are states."""
        self.device, self.is_initialized = key_states.device, True

    def update(
        self, key_states: Tensor, value_states: Tensor, tokens: int = 1, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Replaces the states by those after `tokens` more."""
        self.lazy_initialization(key_states, value_states)
        self.keys, self.values = key_states, value_states
        self.cumulative_length += tokens
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of a mask, in tokens."""
        return self.cumulative_length + query_length, 0

    def get_seq_length(self) -> int:
        """Tokens read."""
        return self.cumulative_length

    def get_max_length(self) -> int:
        """No limit."""
        return -1


class LstmLayer(nn.Module):
    """Normalisation, a torch LSTM over time, dropout."""

    def __init__(self, config: LstmConfig) -> None:
        super().__init__()
        self.norm = new_norm(config)
        self.lstm = nn.LSTM(config.hidden_size, config.hidden_size, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)
        self.residual = config.residual

    def train(self, mode: bool = True) -> LstmLayer:
        """As in torch; cuDNN gives no gradients of an LSTM that is not in training, and training changes nothing."""
        super().train(mode)
        self.lstm.train()
        return self

    def forward(self, x: Tensor, state: States | None, lengths: Tensor | None) -> tuple[Tensor, States]:
        """Reads T tokens.

        Args:
            x: (B, T, D).
            state: hidden and cell state before, each (B, D); None for zeros.
            lengths: (B,) tokens of each row, on the CPU, if the states after are to be those of the last tokens.

        Returns:
            (B, T, D), and the states after.
        """
        inputs: Any = self.norm(x)
        if lengths is not None:
            inputs = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        outputs, (hidden, cell) = self.lstm(inputs, None if state is None else (state[0][None], state[1][None]))
        if lengths is not None:
            outputs = pad_packed_sequence(outputs, batch_first=True, total_length=x.shape[1])[0]
        outputs = self.dropout(outputs)
        return x + outputs if self.residual else outputs, (hidden[0], cell[0])


def new_norm(config: LstmConfig) -> nn.Module:
    """The normalisation of a configuration."""
    return nn.LayerNorm(config.hidden_size) if config.normalisation == "layer" else nn.Identity()


class LstmPreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """What all heads share."""

    config_class = LstmConfig
    base_model_prefix = "model"
    _no_split_modules = ("LstmLayer",)
    _is_stateful = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.LSTM):  # a state is kept at first: the forget gate, the second of four, is open
            for name, bias in module.named_parameters():
                if name.startswith("bias_ih"):
                    forget = torch.arange(len(bias), device=bias.device) // module.hidden_size == 1
                    initialization.copy_(bias, forget.to(bias.dtype))


class LstmModel(LstmPreTrainedModel):
    """Embedding and layers."""

    def __init__(self, config: LstmConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(LstmLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = new_norm(config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: DynamicCache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPast:
        """Reads B rows.

        Args:
            input_ids: (B, T).
            attention_mask: (B, at least T), of which the last T columns count; a token where it is 0 is skipped, as if
                it were not there, wherever it is.
            position_ids: not used; an LSTM has no positions.
            past_key_values: the states before, which are replaced by those after.
            inputs_embeds: (B, T, D) instead of `input_ids`.
            use_cache: give the states after.

        Returns:
            Hidden states (B, T, D), any numbers where masked, and the states.
        """
        x: Tensor = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if past_key_values is None and (self.config.use_cache if use_cache is None else use_cache):
            past_key_values = DynamicCache(config=self.config)
        mask = None if attention_mask is None else attention_mask[:, -x.shape[1] :].bool()
        if mask is None or mask.all():
            return self._read(x, past_key_values, None)
        # Tokens first, then padding, which is read but changes no token before it.
        lengths = mask.sum(1)
        first = mask.int().argsort(dim=1, descending=True, stable=True)[:, : int(lengths.max())]
        output = self._read(_gather(x, first), past_key_values, None if past_key_values is None else lengths.cpu())
        output.last_hidden_state = _gather(output.last_hidden_state, (mask.cumsum(1) - 1).clamp(min=0))
        return output

    def _read(self, x: Tensor, cache: DynamicCache | None, lengths: Tensor | None) -> BaseModelOutputWithPast:
        x, tokens = self.dropout(x), x.shape[1]
        for number, layer in enumerate(self.layers):
            before = None
            if cache is not None and cache.layers[number].is_initialized:
                before = cache.layers[number].keys, cache.layers[number].values
            x, after = layer(x, before, lengths)
            if cache is not None:
                cache.update(*after, number, tokens)
        return BaseModelOutputWithPast(last_hidden_state=self.norm(x), past_key_values=cache)


def _gather(x: Tensor, columns: Tensor) -> Tensor:
    """(B, C, D) the columns (B, C) of each row of x (B, T, D)."""
    return x.gather(1, columns[..., None].expand(-1, -1, x.shape[2]))


class LstmForCausalLM(LstmPreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """An LSTM that gives the logits of the next token."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012 as in transformers

    def __init__(self, config: LstmConfig) -> None:
        super().__init__(config)
        self.model = LstmModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: DynamicCache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **rest: Any,
    ) -> CausalLMOutputWithPast:
        """As `LstmModel`, with logits (B, T, V), of the last `logits_to_keep` tokens alone if that is not 0.

        Args:
            labels: (B, T) tokens, of which each is compared with the logits before it; -100 where there is no loss.
        """
        output = self.model(
            input_ids, attention_mask, past_key_values=past_key_values, inputs_embeds=inputs_embeds, use_cache=use_cache
        )
        logits = self.lm_head(slice_logits_to_keep(output.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **rest)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=output.past_key_values)

    @staticmethod
    def create_masks_for_generate(attention_mask: Tensor | None = None, **_: Any) -> Tensor | None:
        """The mask as it is: nothing attends."""
        return attention_mask


class LstmForSequenceClassification(GenericForSequenceClassification, LstmPreTrainedModel):  # type: ignore[misc]
    """An LSTM that classifies a piece at its last token."""


AutoConfig.register(LstmConfig.model_type, LstmConfig)
AutoModel.register(LstmConfig, LstmModel)
AutoModelForCausalLM.register(LstmConfig, LstmForCausalLM)
AutoModelForSequenceClassification.register(LstmConfig, LstmForSequenceClassification)


def lstm_config(size: str, remi: Remi, context: int, **changes: Any) -> LstmConfig:
    """The configuration of a size.

    Args:
        size: a name of `LSTM_SIZES`.
        context: longest sequence in training, in tokens.
        changes: other fields of `LstmConfig`.

    Raises:
        MgenError: No such size, or a field is out of range.
    """
    if size not in LSTM_SIZES:
        raise MgenError(f"size '{size}': expected one of {', '.join(LSTM_SIZES)}")
    fields = {
        "vocab_size": remi.vocab_size,
        "max_position_embeddings": context,
        "pad_token_id": remi.pad_id,
        "bos_token_id": remi.bos_id,
        "eos_token_id": remi.eos_id,
        "use_cache": False,  # only sampling needs the states, and asks for them
        **LSTM_SIZES[size],
    }
    return LstmConfig(**fields | changes)
