"""Whether a model computes what the classes of its layers say: what the fast readers rely on."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn


def is_unchanged(model: nn.Module, kinds: Collection[type[nn.Module]]) -> bool:
    """Whether all modules of a model are of these classes, without adapters, hooks or a forward method of another."""
    return all(
        type(module) in kinds
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and ("forward" not in vars(module) or module is model)  # accelerate wraps that of the whole in autocast
        for module in model.modules()
    )
