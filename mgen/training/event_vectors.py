"""Vectors of tab events, trained on the training split before the network that reads them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding, logsigmoid

from mgen.corpus.tab_windows import Tabs
from mgen.models.baselines.event_vectors import FEATURES, VARIANTS, symbol_of, words

Ints = NDArray[np.int64]


def train_event_vectors(kind: str, tabs: Tabs, variant: str, width: int, seed: int) -> Tensor:
    """Trains a vector for each word of a variant, a different event under its features.

    Args:
        kind: `skip_gram` or `autoencoder`.
        tabs: the training split.
        variant: key of `mgen.models.baselines.event_vectors.VARIANTS`.
        width: D.

    Returns:
        (M, D) vectors, scaled to a mean square of 1.
    """
    classes, word_of = words(variant)
    sequence = word_of[symbol_of(torch.from_numpy(tabs.events)).numpy()]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "skip_gram":
            chunk = np.repeat(np.arange(len(tabs.sizes)), tabs.sizes)
            found = skip_gram(sequence, chunk, len(classes), width)
        else:
            sizes = [FEATURES[name].size for name in VARIANTS[variant]]
            found = autoencoder(classes, np.bincount(sequence, minlength=len(classes)), sizes, width)
    return found / found.square().mean().sqrt().clamp(min=1e-8)


def skip_gram(
    sequence: Ints, chunk: Ints, size: int, width: int, steps: int = 400, batch: int = 2048, reach: int = 2
) -> Tensor:
    """Vectors by which the neighbours of a word are distinguished from 5 random words, by negative sampling.

    Args:
        sequence: (E,) words, 0..size - 1.
        chunk: (E,) chunk of each; neighbours are at most `reach` words away in the same chunk.

    Source: Mikolov et al. 2013, arXiv:1310.4546.
    """
    words, owner = torch.from_numpy(sequence), torch.from_numpy(chunk)
    vectors, others = (nn.Parameter(torch.randn(size, width) * 0.1) for _ in range(2))
    share = torch.bincount(words, minlength=size).double() ** 0.75
    optimizer = torch.optim.Adam([vectors, others], lr=0.02)
    for _ in range(steps):
        centre = torch.randint(len(words), (batch,))
        offset = torch.randint(1, reach + 1, (batch,)) * (2 * torch.randint(2, (batch,)) - 1)
        near = (centre + offset).clamp(0, len(words) - 1)
        usable = ((owner[centre] == owner[near]) & (centre != near)).float()
        wrong = torch.multinomial(share, batch * 5, replacement=True).view(batch, 5)
        seen = embedding(words[centre], vectors)
        right = (seen * embedding(words[near], others)).sum(dim=1)
        random = (seen[:, None] * embedding(wrong, others)).sum(dim=2)
        loss = -((logsigmoid(right) + logsigmoid(-random).sum(dim=1)) * usable).sum() / usable.sum().clamp(min=1)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return vectors.detach()


def autoencoder(classes: Ints, counts: Ints, sizes: list[int], width: int, steps: int = 300) -> Tensor:
    """Bottleneck of a network that reads the one-hot features of a word and gives them back.

    Args:
        classes: (M, F) of the words.
        counts: (M,) how often each occurs, its weight.
        sizes: (F,) number of classes of each feature.
    """
    index, weight = torch.from_numpy(classes), torch.from_numpy(counts / max(counts.sum(), 1)).float()
    rows = index + torch.tensor([0, *np.cumsum(sizes)[:-1].tolist()])
    encoder = nn.Parameter(torch.randn(sum(sizes), width) * sum(sizes) ** -0.5)
    decoder = nn.Linear(width, sum(sizes))
    optimizer = torch.optim.Adam([encoder, *decoder.parameters()], lr=0.02)

    def encode() -> Tensor:
        return embedding(rows, encoder).sum(dim=1).tanh()

    for _ in range(steps):
        parts = decoder(encode()).split(sizes, dim=1)
        losses = [cross_entropy(part, index[:, i], reduction="none") for i, part in enumerate(parts)]
        loss = (torch.stack(losses).sum(dim=0) * weight).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return encode().detach()
