"""Muon for the matrices inside a model and AdamW for its other weights, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer


class MuonAdamW(Optimizer):
    """Orthogonalised momentum for the matrices of the layers; AdamW for embeddings, output layer, norms and biases.

    Muon's updates are scaled to the root mean square of AdamW's, so one learning rate serves both. On the embedded
    corpus it needs half the steps of AdamW (docs/log.md).

    Args:
        model: its weights; norms and biases have no weight decay, as in `transformers`.
        betas: of AdamW.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; scale: Liu et al. 2025, arXiv:2502.16982.
    """

    def __init__(self, model: nn.Module, lr: float, weight_decay: float, betas: tuple[float, float]) -> None:
        weights = list(model.parameters())
        outer = _outer_weights(model)
        matrices = [weight for weight in weights if weight.ndim == 2 and id(weight) not in outer]
        tables = [weight for weight in weights if weight.ndim >= 2 and id(weight) in outer]
        vectors = [weight for weight in weights if weight.ndim < 2]
        rest: list[dict[str, Any]] = [{"params": tables}, {"params": vectors, "weight_decay": 0.0}]
        self._muon = Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self._adamw = AdamW(rest, lr=lr, weight_decay=weight_decay, betas=betas, fused=True)
        super().__init__([*self._muon.param_groups, *self._adamw.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Updates all weights; a closure is not supported and not called."""
        for optimizer, groups in ((self._muon, self.param_groups[:1]), (self._adamw, self.param_groups[1:])):
            optimizer.param_groups, optimizer.state = groups, self.state  # `load_state_dict` makes new ones
            optimizer.step()  # type: ignore[no-untyped-call]


def _outer_weights(model: nn.Module) -> set[int]:
    """Ids of the weights of embeddings and of the output layer."""
    modules: list[nn.Module] = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    output = getattr(model, "get_output_embeddings", lambda: None)()
    weights: list[Tensor] = [weight for module in [*modules, output or nn.Identity()] for weight in module.parameters()]
    return {id(weight) for weight in weights}
