"""What the fast readers of stock models share: whether a model is one, and how its prompts are read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor, nn

PROMPT_TOKENS = 1 << 14  # of prompts that are read in one pass, for memory


def is_unchanged(model: nn.Module, kinds: Collection[type[nn.Module]]) -> bool:
    """Whether all modules of a model are of these classes, without adapters, hooks or a forward method of another."""
    return all(
        type(module) in kinds
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and ("forward" not in vars(module) or module is model)  # accelerate wraps that of the whole in autocast
        for module in model.modules()
    )


def distinct_prompts(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The D different prompts, padded on the left to P tokens (D, P); their padding (D,); that of each prompt (B,)."""
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
    rows = torch.tensor([numbers[tuple(prompt)] for prompt in prompts], device=device)
    length = max(map(len, numbers))
    ids = torch.tensor([(0,) * (length - len(prompt)) + prompt for prompt in numbers], device=device)
    return ids, torch.tensor([length - len(prompt) for prompt in numbers], device=device), rows


def in_passes(ids: Tensor, padding: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Splits prompts (D, P) and their padding (D,) so that a pass reads at most `PROMPT_TOKENS`."""
    size = max(1, PROMPT_TOKENS // ids.shape[1])
    yield from zip(torch.split(ids, size), torch.split(padding, size), strict=True)
