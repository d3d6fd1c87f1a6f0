"""The layers and the loss of a model, compiled in place.

A layer is compiled once and the code serves all layers of the model; nothing wraps the model, so saving, sampling and
evaluation see the module that they know.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout as drop
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.llama.modeling_llama import LlamaForCausalLM

ATTENTION = "causal_blocks"
BLOCK = 128  # queries; fewer save multiplications, but their products get small and compiling takes longer


def causal_blocks(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Causal attention for training on a CPU, where torch's own kernel takes two fifths of a compiled step.

    Plain matrix products that the compiler joins with the softmax. A block of queries meets the keys up to its end
    only, which saves three eighths of the products at 512 tokens. With a mask, a cache or no gradient it is torch's
    kernel.

    Args:
        query: (B, heads, T, d).
        key, value: (B, key heads, T, d).

    Returns:
        (B, T, heads, d), and no weights.
    """
    length = query.shape[2]
    if attention_mask is not None or key.shape[2] != length or not torch.is_grad_enabled():
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **rest)  # type: ignore[no-any-return]
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    parts = []
    for begin in range(0, length, BLOCK):
        end = min(length, begin + BLOCK)
        scores = (query[:, :, begin:end] @ key[:, :, :end].transpose(2, 3)).float() * scaling
        place = torch.arange(end, device=query.device)
        weights = scores.masked_fill(place > place[begin:, None], -torch.inf).softmax(-1).to(query.dtype)
        parts.append(drop(weights, dropout, module.training) @ value[:, :, :end])
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, causal_blocks)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


class CompiledLayers:
    """Compiles the layers and the loss of a model in place, at their first call, until `undo`."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model, self.attention = model, model.config._attn_implementation
        self.layers = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
        if model.device.type == "cpu" and type(model) is LlamaForCausalLM:
            model.set_attn_implementation(ATTENTION)
        for layer in self.layers:
            layer.compile(dynamic=False)
        model.loss_function = torch.compile(model.loss_function, dynamic=False)

    def undo(self) -> None:
        """Makes the model eager again."""
        self.model.set_attn_implementation(self.attention)
        for layer in self.layers:
            layer._compiled_call_impl = None
        del self.model._loss_function
