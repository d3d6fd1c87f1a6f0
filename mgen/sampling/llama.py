"""A forward pass of Llama for sampling: one cache for all rows, fused weights, float32 or bfloat16.

Batched decoding is bound by memory and by the number of operations, and `transformers` spends both: it copies keys for
grouped queries and the whole cache at every step. Here the cache grows by chunks and is never a part of a larger one:
a CPU's bf16 products with parts take up to ten times as long (torch 2.13).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaForCausalLM, PreTrainedModel
from transformers.activations import SiLUActivation
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    LlamaMLP,
    LlamaModel,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)

from mgen.sampling.stock import distinct_prompts, in_passes, is_unchanged

CPU_CHUNK, GPU_CHUNK = 64, 128  # columns that the cache grows by: as many steps share a CUDA graph

_STOCK = {
    *(LlamaForCausalLM, LlamaModel, LlamaDecoderLayer, LlamaAttention, LlamaMLP, LlamaRMSNorm, LlamaRotaryEmbedding),
    *(nn.Embedding, nn.ModuleList, nn.Linear, nn.SiLU, SiLUActivation),
}


def is_stock_llama(model: PreTrainedModel) -> bool:
    """Whether `LlamaReader` computes what the model does: a Llama of transformers, without biases, scaled positions,
    adapters or hooks.
    """
    if type(model) is not LlamaForCausalLM or model.config.rope_parameters["rope_type"] != "default":
        return False
    linear = (module for module in model.modules() if isinstance(module, nn.Linear))
    return is_unchanged(model, _STOCK) and all(module.bias is None for module in linear)


@dataclass(frozen=True, slots=True)
class _Layer:
    """Weights of a layer as matrices (out, in); the scales of the norms before them are multiplied in."""

    qkv: Tensor
    out: Tensor
    gate_up: Tensor
    down: Tensor

    @classmethod
    def of(cls, layer: LlamaDecoderLayer, dtype: torch.dtype) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        query = attention.q_proj.weight.float() * attention.scaling
        qkv = torch.cat([query, attention.k_proj.weight.float(), attention.v_proj.weight.float()])
        gate_up = torch.cat([mlp.gate_proj.weight.float(), mlp.up_proj.weight.float()])
        return cls(
            (qkv * layer.input_layernorm.weight.float()).to(dtype),
            attention.o_proj.weight.to(dtype),
            (gate_up * layer.post_attention_layernorm.weight.float()).to(dtype),
            mlp.down_proj.weight.to(dtype),
        )


class LlamaReader:
    """Reads the prompts of B rows, then token after token; the weights are those that the model has now.

    Prompts end in the same column of the cache, so every later token of all rows goes to one column. A shorter prompt
    starts in a later column: those before are masked, and positions count from its own start.

    Matrix products are in `dtype`; the sum that runs through the layers, norms, rotations, softmax and logits are in
    float32.

    Args:
        model: one that `is_stock_llama`.
    """

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype) -> None:
        config = model.config
        self.dtype = dtype
        self.kv_heads = config.num_key_value_heads
        self.group = config.num_attention_heads // self.kv_heads
        self.epsilon = config.rms_norm_eps
        self.embedding = model.get_input_embeddings().weight.detach().float()
        self.layers = [_Layer.of(layer, dtype) for layer in model.model.layers]
        head = model.get_output_embeddings().weight.detach().float() * model.model.norm.weight.detach().float()
        self.head = head.to(dtype)
        turns = torch.outer(torch.arange(config.max_position_embeddings), model.model.rotary_emb.inv_freq.float().cpu())
        turns = turns.to(model.device)
        self.cos = torch.cat([turns, turns], dim=1).cos()  # (positions, d)
        self.sin = torch.cat([-turns, turns], dim=1).sin()
        self.graph: torch.cuda.CUDAGraph | None = None

    def start(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Reads the B prompts; (B, V) float32 logits of what follows. Equal prompts are read once."""
        device = self.head.device
        ids, padding, rows = distinct_prompts(prompts, device)
        length = ids.shape[1]
        parts = [self._read_prompts(*some) for some in in_passes(ids, padding)]
        logits, keys, values = zip(*parts, strict=True)
        self.keys = [torch.cat(layer)[rows].flatten(0, 1) for layer in zip(*keys, strict=True)]  # (B kv, columns, d)
        self.values = [torch.cat(layer)[rows].flatten(0, 1) for layer in zip(*values, strict=True)]
        columns = torch.arange(length, device=device)
        self.masked = torch.zeros(len(rows), 1, length, dtype=self.dtype, device=device)  # added to scores
        self.masked.masked_fill_((columns < padding[rows, None])[:, None], -torch.inf)
        self.column = length  # the next
        self.slot = torch.full((1,), length, device=device)
        self.position = length - padding[rows]  # (B,) of the next token
        return torch.cat(logits)[rows]

    def step(self, tokens: Tensor) -> Tensor:
        """Reads the next tokens (B,); (B, V) float32 logits, valid until the next step."""
        if self.column == self.masked.shape[2]:
            self._grow()
        self.column += 1
        if not tokens.is_cuda:
            return self._step(tokens)
        if self.graph is None:
            self._capture(tokens)
        self.tokens.copy_(tokens)
        cast(torch.cuda.CUDAGraph, self.graph).replay()
        return self.logits

    def keep(self, rows: Tensor) -> None:
        """Goes on with the rows of these indices only."""
        for of_layers in (self.keys, self.values):
            for number, cached in enumerate(of_layers):
                of_layers[number] = cached.view(-1, self.kv_heads, *cached.shape[1:])[rows].flatten(0, 1)
        self.masked, self.position, self.graph = self.masked[rows], self.position[rows], None

    def _grow(self) -> None:
        chunk = GPU_CHUNK if self.head.is_cuda else CPU_CHUNK
        room = chunk - self.column % chunk
        for of_layers in (self.keys, self.values):
            for number, cached in enumerate(of_layers):
                of_layers[number] = F.pad(cached, (0, 0, 0, room))
        self.masked = F.pad(self.masked, (0, room), value=-torch.inf)
        self.graph = None

    def _capture(self, tokens: Tensor) -> None:
        """Records the step with the cache's present size as a CUDA graph."""
        self.tokens = tokens.clone()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # once outside of the graph, for what libraries allocate at first use
            self._step(self.tokens)
        torch.cuda.current_stream().wait_stream(side)
        self.slot -= 1
        self.position -= 1
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits = self._step(self.tokens)

    def _step(self, tokens: Tensor) -> Tensor:
        """As `step`, with a slot in the cache and only operations on tensors, which a CUDA graph can record."""
        self._write(self.masked.transpose(1, 2), self.masked.new_zeros(len(self.masked), 1))
        cos, sin = self.cos[self.position][:, None], self.sin[self.position][:, None]
        x = self.embedding[tokens]
        for number, layer in enumerate(self.layers):
            query, key, value = self._qkv(layer, x, cos, sin)
            keys, values = self.keys[number], self.values[number]
            self._write(keys, key)
            self._write(values, value)
            scores = torch.bmm(query.reshape(len(keys), self.group, -1), keys.transpose(1, 2))
            scores.view(len(x), -1, scores.shape[2]).add_(self.masked)
            self._finish(layer, x, torch.bmm(scores.softmax(-1), values).view(len(x), -1))
        self.slot += 1
        self.position += 1
        return self._logits(x)

    def _write(self, cached: Tensor, new: Tensor) -> None:
        """Writes (rows, d) to the column of this step of `cached` (rows, columns, d)."""
        new = new.reshape(len(cached), 1, -1)
        if cached.is_cuda:
            cached.index_copy_(1, self.slot, new)  # the column changes between replays of a graph
        else:
            cached[:, self.column - 1 : self.column] = new  # ten times as fast

    def _read_prompts(self, ids: Tensor, padding: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Logits (B, V) after prompts (B, P), and each layer's keys and values (B, kv, P, d)."""
        columns = torch.arange(ids.shape[1], device=ids.device)
        position = (columns - padding[:, None]).clamp_min(0)
        cos, sin = self.cos[position][:, :, None], self.sin[position][:, :, None]
        before = columns <= columns[:, None]
        mask = before & (columns >= padding[:, None, None])
        mask = (mask | torch.eye(len(columns), dtype=torch.bool, device=ids.device))[:, None]  # padding sees itself
        x = self.embedding[ids]
        keys, values = [], []
        for layer in self.layers:
            query, key, value = (heads.transpose(1, 2) for heads in self._qkv(layer, x, cos, sin))
            mixed = F.scaled_dot_product_attention(query, key, value, mask, scale=1.0, enable_gqa=self.group > 1)
            self._finish(layer, x, mixed.transpose(1, 2).flatten(2))
            keys.append(key)
            values.append(value)
        return self._logits(x[:, -1]), keys, values

    def _qkv(self, layer: _Layer, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries (..., heads, d), rotated keys and values (..., kv, d) after x (..., D)."""
        width = self.cos.shape[1]
        heads = F.linear(self._norm(x), layer.qkv).view(*x.shape[:-1], -1, width)
        turned = heads[..., : -self.kv_heads, :].float()
        halves = turned.view(*turned.shape[:-1], 2, -1).flip(-2).flatten(-2)
        turned = torch.addcmul(turned * cos, halves, sin).to(self.dtype)
        return turned[..., : -self.kv_heads, :], turned[..., -self.kv_heads :, :], heads[..., -self.kv_heads :, :]

    def _finish(self, layer: _Layer, x: Tensor, mixed: Tensor) -> None:
        """Adds to x (..., D) what attention found and what the layer's network makes of it."""
        x += F.linear(mixed, layer.out)
        gate, up = F.linear(self._norm(x), layer.gate_up).chunk(2, dim=-1)
        x += F.linear(F.silu(gate).mul_(up), layer.down)

    def _norm(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], eps=self.epsilon).to(self.dtype)

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(self._norm(x), self.head).float()
