"""What holds a network back that learns against a moving target: a penalty on its slope, bounds on its weights.

Knows nothing of music, nor of what the network tells apart.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

BOUNDED = ("none", "head", "all")
"""Whose largest singular value is bounded: no layer's, the last one's, every linear layer's."""


def gradient_penalty(logits: Tensor, embeddings: Tensor, mask: Tensor) -> Tensor:
    """R1: half the mean squared slope of a logit over its piece's embeddings.

    R1 = 1/2 mean_b sum_td (s * d logit_b / d embeddings_btd)^2, s the root mean square of the embeddings. Measured in
    deviations of the embeddings, the slope cannot be made to look small by making the embeddings large.

    It is centred on 0 and not on 1, as in WGAN-GP: where nothing is left to tell apart, the logit that is log p_real /
    p_generated is flat, and a slope of 1 everywhere would be no density ratio. It needs no pieces between two pieces
    either, which tokens do not have.

    Args:
        logits: (R,) of the first R pieces, the real ones.
        embeddings: (B, T, D) what the network made of the tokens; in the graph of `logits`.
        mask: (B, T) True on tokens.

    Returns:
        A scalar in squared logits, through which one can differentiate.

    Source: Mescheder, Geiger and Nowozin 2018, arXiv:1801.04406, equation 9; the scale s is ours.
    """
    (slope,) = torch.autograd.grad(logits.sum(), embeddings, create_graph=True)
    real, counted = slice(len(logits)), mask[..., None]
    variance = (embeddings[real].square() * counted[real]).sum() / (counted[real].sum() * embeddings.shape[-1])
    penalty: Tensor = 0.5 * variance * slope[real].square().sum() / len(logits)
    return penalty


class _Stretched(nn.Module):
    """A weight times a constant."""

    norm: Tensor

    def __init__(self, norm: Tensor) -> None:
        super().__init__()
        self.register_buffer("norm", norm)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.norm


def bound(model: PreTrainedModel, which: str, seed: int) -> None:
    """Hold the largest singular value of linear layers, in place and while they learn.

    Of the last layer (`head`) it is 1, so that the raw logit is a direction's and not a length's. `all`: of every other
    linear layer it stays what it is now, or becomes 1 if that is more: the layers of a pretrained backbone mean what
    they did, and none can shout later. Gains of norms and the embedding stay free.

    Args:
        model: a classifier whose last layer is `score`.
        which: one of `BOUNDED`.
        seed: of the power iteration's start.

    Source: Miyato et al. 2018, arXiv:1802.05957; there every layer's is 1.
    """
    if which not in BOUNDED:
        raise ValueError(f"spectral_norm '{which}': expected one of {', '.join(BOUNDED)}")
    if which == "none":
        return
    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear | Conv1D)]
    layers = linear if which == "all" else [model.score]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for layer in layers:
            norm = torch.linalg.matrix_norm(layer.weight.detach(), 2).clamp(min=1.0)
            spectral_norm(layer)
            if layer is not model.score:
                parametrize.register_parametrization(layer, "weight", _Stretched(norm))


def unbound(model: PreTrainedModel) -> PreTrainedModel:
    """A model with plain weights that says the same, for files that stock classes read."""
    model.eval()  # or reading a bounded weight would move the power iteration on
    state = {name: value for name, value in model.state_dict().items() if ".parametrizations." not in name}
    for name, layer in model.named_modules():
        if parametrize.is_parametrized(layer, "weight"):
            state[f"{name}.weight"] = layer.weight.detach()
    with torch.random.fork_rng():
        plain = type(model)(copy.deepcopy(model.config))
    plain.load_state_dict(state)
    return plain.to(model.device).eval()
