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

from mgen.arrays import Floats
from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.stats.diversity import defined_rows, standardise
from mgen.stats.intervals import TAIL, Interval, Works, undefined_interval

Embedder = Callable[[Notes], Floats]  # B pieces to (B, D); NaN rows for pieces without an embedding
SPLITS = 100  # random halves of the works, for the value and for its interval
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
    """Fréchet distance of `other` from real music over that of real music from itself: 1 is best, 0 upwards.

    The works of both sets are split into random halves. The real pieces of one half are compared with the other set's
    pieces of the other half, and with the real pieces of that half. The value is the ratio of the mean distances, and
    its interval the spread of the ratio over the splits: half-samples without replacement vary as much as the whole
    set does from sample to sample (McCarthy 1969). Both distances are of equally many pieces (the larger half is
    subsampled) that never share a work, so both have the bias of small samples, and pieces that continue real works
    have no advantage. The bias still hides small differences: report no ratio of few pieces.

    Spaces are standardised by real music (`standardise`); more than `DIMENSIONS` are projected onto random directions,
    the same for every set.

    Cannot see: properties outside the space; more than means and covariances; single copies. Rows with a NaN are left
    out and counted. NaN where a half has fewer than two pieces, or where real music's halves do not differ at all.
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
    rng = np.random.default_rng(seed)
    pairs = np.array([_halves(tables, names, rng) for _ in range(splits)])
    pairs = pairs[~np.isnan(pairs).any(axis=1)]
    if not len(pairs) or pairs[:, 1].mean() <= 1e-9:
        return undefined_interval(undefined)
    value = float(pairs[:, 0].mean() / pairs[:, 1].mean())
    ratios = pairs[:, 0] / np.maximum(pairs[:, 1], 1e-9)
    low, high = np.quantile(ratios, (TAIL, 1 - TAIL)).tolist()
    return Interval(value, min(low, value), max(high, value), undefined)


def _halves(tables: tuple[Floats, Floats], works: tuple[Works, Works], rng: np.random.Generator) -> tuple[float, float]:
    """Distances of real pieces in one random half of the works from `other` and from real pieces in the other half."""
    every = np.unique(np.concatenate(works))
    first = rng.permutation(len(every)) < len(every) / 2
    here = [first[np.searchsorted(every, names)] for names in works]
    near, far, others = tables[0][here[0]], tables[0][~here[0]], tables[1][~here[1]]
    n = min(len(far), len(others))
    if len(near) < 2 or n < 2:
        return np.nan, np.nan
    far, others = (rows[rng.permutation(len(rows))[:n]] if len(rows) > n else rows for rows in (far, others))
    base = _gaussian(near)
    root = _root(base[1])
    return frechet_distance(base, _gaussian(others), root), frechet_distance(base, _gaussian(far), root)


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
