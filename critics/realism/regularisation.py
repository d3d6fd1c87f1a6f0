"""Regularisation of a classifier whose data keep changing: a penalty on its gradient, bounds on its spectral norms.

Knows nothing of music, nor of the classes.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from mgen.errors import MgenError

BOUNDED = ("none", "head", "all")
"""Layers whose largest singular value is bounded: none, the last one, every linear layer."""


def gradient_penalty(logits: Tensor, embeddings: Tensor, mask: Tensor) -> Tensor:
    """R1: half the mean squared gradient of a logit with respect to its piece's embeddings.

    R1 = 1/2 mean_b sum_td (s * d logit_b / d embeddings_btd)^2, s the root mean square of the embeddings. The factor s
    makes the penalty independent of the scale of the embeddings, which training could otherwise increase to avoid it.

    The gradient is pulled to 0 and not to 1, as WGAN-GP does: where both classes are alike, the logit log p_real /
    p_generated is constant, so a gradient of 1 everywhere would not be that of a density ratio. WGAN-GP also
    interpolates between pieces, which tokens do not allow.

    Args:
        logits: (R,) of the first R pieces, the real ones.
        embeddings: (B, T, D) of the tokens; part of the graph of `logits`.
        mask: (B, T) True on tokens.

    Returns:
        A differentiable scalar, in squared logits.

    Source: Mescheder, Geiger and Nowozin 2018, arXiv:1801.04406, equation 9; the scale s is ours.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), embeddings, create_graph=True)
    real, counted = slice(len(logits)), mask[..., None]
    variance = (embeddings[real].square() * counted[real]).sum() / (counted[real].sum() * embeddings.shape[-1])
    penalty: Tensor = 0.5 * variance * gradient[real].square().sum() / len(logits)
    return penalty


class _Scale(nn.Module):
    """Multiplies a weight by a constant."""

    norm: Tensor

    def __init__(self, norm: Tensor) -> None:
        super().__init__()
        self.register_buffer("norm", norm)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.norm


def bound_spectral_norms(model: PreTrainedModel, which: str, seed: int) -> None:
    """Fixes the largest singular value of linear layers, in place, also while they are trained.

    `head`: that of the last layer becomes 1, so that the logit depends on the direction of its weights and not on their
    length. `all`: that of every other linear layer also stays what it is now, or becomes 1 if that is more; so a
    pretrained backbone computes what it did, and no layer can grow later. Gains of norms and the embedding stay free.

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
    if which == "all" and any(isinstance(layer, nn.RNNBase) for layer in model.modules()):
        raise MgenError("spectral_norm all: the matrices of a recurrent layer cannot be bounded; use head or none")
    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear | Conv1D)]
    layers = linear if which == "all" else [model.score]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for layer in layers:
            norm = torch.linalg.matrix_norm(layer.weight.detach(), 2).clamp(min=1.0)
            spectral_norm(layer)
            if layer is not model.score:
                parametrize.register_parametrization(layer, "weight", _Scale(norm))


def without_bounds(model: PreTrainedModel) -> PreTrainedModel:
    """A model with plain weights and equal logits, for files that stock classes read."""
    model.eval()  # in training, reading a bounded weight would advance the power iteration
    state = {name: value for name, value in model.state_dict().items() if ".parametrizations." not in name}
    for name, layer in model.named_modules():
        if parametrize.is_parametrized(layer, "weight"):
            state[f"{name}.weight"] = layer.weight.detach()
    with torch.random.fork_rng():
        plain = type(model)(copy.deepcopy(model.config))
    plain.load_state_dict(state)
    return plain.to(model.device).eval()
