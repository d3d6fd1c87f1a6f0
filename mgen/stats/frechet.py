"""Fréchet distance between two sets of pieces, in units of the distance between halves of real music.

An embedder is any function from pieces to vectors: the features of `mgen.music.features`, or a network's hidden states
(`pooled_embedder`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from mgen.arrays import Floats, Longs
from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.stats.diversity import defined_rows, standardise
from mgen.stats.half_samples import SPLITS, over_floor
from mgen.stats.intervals import Interval, undefined_interval

Embedder = Callable[[Notes], Floats]  # B pieces to (B, D); NaN rows for pieces without an embedding
DIMENSIONS = 256  # wider spaces are projected onto this many random directions: the cost grows with the cube


Gaussian = tuple[Floats, Floats]
"""Mean (D,) and covariance (D, D)."""


def frechet_distance(first: Gaussian, second: Gaussian, root: Floats | None = None) -> float:
    """Squared Fréchet (2-Wasserstein) distance between two Gaussians; `root` is C1^1/2, if it is known.

    |m1 - m2|^2 + trace(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2), at least 0.

    Source: Dowson and Landau 1982; Heusel et al. 2017, arXiv:1706.08500.
    """
    root = _root(first[1]) if root is None else root
    shared = np.linalg.eigvalsh(root @ second[1] @ root)
    apart = float(((first[0] - second[0]) ** 2).sum())
    traces = float(np.trace(first[1]) + np.trace(second[1]) - 2 * np.sqrt(np.maximum(shared, 0)).sum())
    return max(apart + traces, 0.0)


def _root(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh(covariance)
    out: Floats = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return out


def _gaussian(rows: Floats) -> Gaussian:
    centre: Floats = rows.mean(axis=0)
    away = rows - centre
    covariance: Floats = away.T @ away / max(len(rows) - 1, 1)
    return centre, covariance


def frechet_ratio(
    real: Floats,
    other: Floats,
    works_real: ArrayLike | None = None,
    works_other: ArrayLike | None = None,
    splits: int = SPLITS,
    seed: int = 0,
) -> Interval:
    """Fréchet distance of `other` from real music over that of real music from itself (`half_samples.over_floor`).

    Spaces are standardised by real music (`standardise`); more than `DIMENSIONS` are projected onto random directions,
    the same for every set.

    Cannot see: properties outside the space; more than means and covariances; single copies. Rows with a NaN are left
    out and counted.
    """
    if real.shape[1] != other.shape[1]:
        raise MgenError(f"frechet: real has {real.shape[1]} dimensions, other {other.shape[1]}; use one embedder")
    tables, names, undefined = defined_rows(real, other, works_real, works_other)
    if min(map(len, tables)) < 4:
        return undefined_interval(undefined)
    tables = standardise(*tables)
    if real.shape[1] > DIMENSIONS:
        directions = np.linalg.qr(np.random.default_rng(0).normal(size=(real.shape[1], DIMENSIONS)))[0]
        tables = tables[0] @ directions, tables[1] @ directions
    if len(tables[0]) + len(tables[1]) < tables[0].shape[1]:  # directions without pieces change no distance
        span = np.linalg.svd(np.concatenate(tables), full_matrices=False)[2].T
        tables = tables[0] @ span, tables[1] @ span

    def distances(near: Longs, others: Longs, far: Longs) -> tuple[float, float]:
        base = _gaussian(tables[0][near])
        root = _root(base[1])
        apart = _gaussian(tables[1][others]), _gaussian(tables[0][far])
        return frechet_distance(base, apart[0], root), frechet_distance(base, apart[1], root)

    return over_floor(distances, names, undefined, splits, seed)


def pooled_embedder(
    model: PreTrainedModel, write: Callable[[Notes], Sequence[NDArray[np.int64]]], pad_id: int, batch_size: int = 64
) -> Embedder:
    """Builds an embedder from the mean over tokens of a network's last hidden states.

    NaN for a piece without notes. No attention mask is passed: with a causal mask no token attends to padding on the
    right.

    Args:
        model: a transformers backbone without a head, such as `LlamaModel`.
        write: B pieces to the B rows of ids that the network reads, at least one id in each.
        pad_id: padding of shorter rows.
    """

    @torch.no_grad()
    def embed(notes: Notes) -> Floats:
        rows = write(notes)
        out = np.full((len(rows), int(model.config.hidden_size)), np.nan)
        some = np.flatnonzero(notes.counts > 0)
        order = some[np.argsort([len(rows[i]) for i in some.tolist()], kind="stable")]
        training = model.training
        model.eval()
        for begin in range(0, len(order), batch_size):
            part = order[begin : begin + batch_size]
            batch = [rows[i] for i in part.tolist()]
            length = torch.tensor([len(row) for row in batch])
            ids = pad_sequence([torch.from_numpy(row) for row in batch], batch_first=True, padding_value=pad_id)
            mask = (torch.arange(ids.shape[1]) < length[:, None]).to(model.device)
            hidden = model(input_ids=ids.to(model.device)).last_hidden_state.float() * mask[..., None]
            out[part] = (hidden.sum(dim=1) / mask.sum(dim=1, keepdim=True)).double().cpu().numpy()
        model.train(training)
        return out

    return embed
