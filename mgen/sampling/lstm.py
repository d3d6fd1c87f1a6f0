"""Steps of an LSTM for sampling: two matrix products a layer, in float32 or bfloat16; a state instead of a cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from mgen.models.lstm import LstmForCausalLM, LstmLayer, LstmModel
from mgen.sampling.stock import distinct_prompts, in_passes, is_unchanged

_STOCK = {LstmForCausalLM, LstmModel, LstmLayer, nn.LSTM, nn.LayerNorm}
_STOCK |= {nn.Embedding, nn.ModuleList, nn.Linear, nn.Identity, nn.Dropout}


def is_stock_lstm(model: PreTrainedModel) -> bool:
    """Whether `LstmReader` computes what the model does: one of `mgen.models.lstm`, without adapters or hooks."""
    return type(model) is LstmForCausalLM and is_unchanged(model, _STOCK)


def _absorb(norm: nn.Module, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix (out, in) and bias (out,) that do after a plain normalisation what `weight` does after `norm`."""
    weight = weight.detach().float()
    if isinstance(norm, nn.LayerNorm):
        return weight * norm.weight.detach().float(), weight @ norm.bias.detach().float()
    return weight, weight.new_zeros(len(weight))


@dataclass(frozen=True, slots=True)
class _Layer:
    """Weights of a layer; rows of the gates input, forget and output, then those of the candidate."""

    inputs: Tensor  # (4 D, D), of what the layer reads
    bias: Tensor  # (4 D,)
    recurrent: Tensor  # (D, 4 D), of the hidden state

    @classmethod
    def of(cls, layer: LstmLayer, dtype: torch.dtype) -> _Layer:
        lstm: Any = layer.lstm
        weight, bias = _absorb(layer.norm, lstm.weight_ih_l0)
        bias = bias + lstm.bias_ih_l0.detach().float() + lstm.bias_hh_l0.detach().float()
        ordered = [_gates_first(rows).to(dtype) for rows in (weight, bias, lstm.weight_hh_l0.detach())]
        return cls(ordered[0], ordered[1], ordered[2].t().contiguous())


def _gates_first(rows: Tensor) -> Tensor:
    """Rows of input, forget, candidate, output, as torch orders them, with the candidate last."""
    entry, forget, candidate, leave = rows.chunk(4)
    return torch.cat([entry, forget, leave, candidate])


class LstmReader:
    """Reads the prompts of B rows, then token after token; the weights are those that the model has now.

    Prompts end in the same column. A shorter one starts later, and its states are zero until then.

    Matrix products and hidden states are in `dtype`; the sum that runs through the layers, norms, gates, cell states
    and logits are in float32.

    Args:
        model: one that `is_stock_lstm`.
    """

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.normalised = model.config.normalisation == "layer"
        self.residual = model.config.residual
        self.embedding = model.get_input_embeddings().weight.detach().float()
        self.layers = [_Layer.of(layer, dtype) for layer in model.model.layers]
        head, bias = _absorb(model.model.norm, model.get_output_embeddings().weight)
        self.head, self.head_bias = head.to(dtype), bias.to(dtype)

    def start(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Reads the B prompts; (B, V) float32 logits of what follows. Equal prompts are read once."""
        ids, padding, rows = distinct_prompts(prompts, self.head.device)
        parts = [self._read_prompts(*some) for some in in_passes(ids, padding)]
        logits, hidden, cells = zip(*parts, strict=True)
        self.hidden = [torch.cat(layer)[rows] for layer in zip(*hidden, strict=True)]  # (B, D) of each layer
        self.cells = [torch.cat(layer)[rows] for layer in zip(*cells, strict=True)]
        return torch.cat(logits)[rows]

    def step(self, tokens: Tensor) -> Tensor:
        """Reads the next tokens (B,); (B, V) float32 logits."""
        x = self.embedding[tokens]
        for number, layer in enumerate(self.layers):
            inputs = F.linear(self._norm(x), layer.inputs, layer.bias)
            hidden, cell = _advance(inputs, self.hidden[number], self.cells[number], layer)
            self.hidden[number], self.cells[number] = hidden, cell
            x = x + hidden if self.residual else hidden
        return self._logits(x)

    def keep(self, rows: Tensor) -> None:
        """Goes on with the rows of these indices only."""
        for states in (self.hidden, self.cells):
            states[:] = [state[rows] for state in states]

    def _read_prompts(self, ids: Tensor, padding: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Logits (B, V) after prompts (B, P), and each layer's hidden and cell states (B, D)."""
        x = self.embedding[ids.t()]  # (P, B, D)
        started = (torch.arange(len(x), device=x.device)[:, None] >= padding)[..., None]  # (P, B, 1)
        padded = bool(padding.any())
        states: tuple[list[Tensor], list[Tensor]] = [], []
        for layer in self.layers:
            cell = x.new_zeros(x.shape[1:])
            hidden = cell.to(self.dtype)
            steps = []
            for column, inputs in enumerate(F.linear(self._norm(x), layer.inputs, layer.bias)):
                hidden, cell = _advance(inputs, hidden, cell, layer)
                if padded:
                    hidden, cell = hidden * started[column], cell * started[column]
                steps.append(hidden)
            x = x + torch.stack(steps) if self.residual else torch.stack(steps)
            states[0].append(hidden)
            states[1].append(cell)
        return self._logits(x[-1]), *states

    def _norm(self, x: Tensor) -> Tensor:
        return (F.layer_norm(x.float(), x.shape[-1:]) if self.normalised else x).to(self.dtype)

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(self._norm(x), self.head, self.head_bias).float()


def _advance(inputs: Tensor, hidden: Tensor, cell: Tensor, layer: _Layer) -> tuple[Tensor, Tensor]:
    """Hidden and cell state (B, D) after a step, from what the layer's input gives (B, 4 D) and the states before."""
    parts = torch.addmm(inputs, hidden, layer.recurrent).float()
    width = cell.shape[1]
    entry, forget, leave = parts[:, : 3 * width].sigmoid().chunk(3, dim=1)
    cell = torch.addcmul(forget * cell, entry, parts[:, 3 * width :].tanh())
    return (leave * cell.tanh()).to(hidden.dtype), cell
