"""Critics that are cheap to train anew for every pair of collections, to be compared by transfer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch.nn.functional import binary_cross_entropy_with_logits

from critics.sequence import SequenceCritic
from critics.style.excerpts import Collected
from critics.style.feature_model import FeatureModel
from critics.style.training_set import prepared
from critics.validation.leave_one_out import Fitter, Trained, by_critic
from critics.validation.shortcut_baseline import marginals
from mgen.arrays import Floats, Mask
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.music.features import FORMAT_FREE, features
from mgen.notes import Notes
from mgen.stats.two_sample import boosting, linear
from mgen.transforms.format_augmentations import augment
from mgen.transforms.format_invariant import format_invariant_view

Table = Callable[[Notes], Floats]
"""(B, F) numbers of each piece, each judged alone."""

CALIBRATED_ON = 0.2
"""Share of the works that `ensemble` may learn from on which it is calibrated only."""


def on_table(table: Table, copies: int = 0) -> Fitter:
    """Boosting and logistic regression on a table of features; the score is the mean of their log-odds.

    Both sides weigh one half, and so do the collections of a side among themselves.

    Args:
        table: what is heard of a piece.
        copies: copies of each training excerpt in other formats (`mgen.transforms.format_augmentations.augmented`),
        beside the excerpt.
    """

    def fitter(excerpts: Collected, seed: int) -> Trained:
        rng = np.random.default_rng([seed, 1])
        tables = [table(excerpts.notes)]
        tables += [table(augment(excerpts.notes, rng)) for _ in range(copies)]

        def trained(train: Mask, test: Mask, seed: int) -> Floats:
            heard = np.concatenate([part[train] for part in tables])
            label = np.tile(excerpts.positive[train].astype(np.int64), len(tables))
            weight = np.tile(even_weights(excerpts.positive[train], excerpts.collection[train]), len(tables))
            trees, line = boosting(seed), linear()
            with threadpool_limits(1):
                trees.fit(heard, label, sample_weight=weight)
                line.fit(heard, label, logisticregression__sample_weight=weight)
                parts = [model.decision_function(tables[0][test]) for model in (trees, line)]
            score: Floats = np.mean(parts, axis=0)
            return score

        return trained

    return fitter


def even_weights(positive: NDArray[np.bool_], collection: NDArray[np.str_]) -> Floats:
    """(B,) weights, 1 on average, with which the sides count alike, and the collections of a side too."""
    out = np.zeros(len(positive))
    for side in (True, False):
        names = np.unique(collection[positive == side])
        for name in names:
            own = (positive == side) & (collection == name)
            out[own] = len(out) / 2 / len(names) / own.sum()
    return out


def format_invariant_features(notes: Notes) -> Floats:
    """Features without metre, of what is left of a piece without its format (`mgen.transforms.format_invariant`)."""
    return features(format_invariant_view(notes), FORMAT_FREE)


def naive_features(notes: Notes) -> Floats:
    """All that a critic may learn a file's format from: loudness, phase, durations and density beside all features."""
    return np.concatenate([marginals(notes), features(notes)], axis=1)


def network(remi: Remi, steps: int, tokens: int = 256, batch: int = 16, learning_rate: float = 1e-3) -> Fitter:
    """The small network over tokens, trained anew for every pair on the music as the corpus holds it.

    Without augmentation and broken music: what a critic learns that is only shown two sides. It is deaf to velocity.

    Args:
        steps: optimizer steps, each on as many excerpts of both sides, collections of a side in turns.
        tokens: longest excerpt that is read; the rest is cut.
    """

    def fit(excerpts: Collected, seed: int) -> Callable[[Notes], Floats]:
        critic = SequenceCritic.new(remi, None, "tiny", tokens, seed=seed)
        rows = critic.rows(excerpts.notes)
        weight = even_weights(excerpts.positive, excerpts.collection)
        rng = np.random.default_rng([seed, 2])
        optimizer = torch.optim.AdamW(critic.model.parameters(), lr=learning_rate, weight_decay=0.1)
        critic.model.train()
        for step in range(steps):
            some = rng.choice(len(rows), batch, p=weight / weight.sum())
            label = torch.from_numpy(excerpts.positive[some]).float().to(critic.model.device)
            logits = critic.model(input_ids=critic.pad([rows[i] for i in some])).logits[:, 0].float()
            loss = binary_cross_entropy_with_logits(logits, label)
            if not torch.isfinite(loss):
                raise MgenError(
                    f"transfer: the network's loss is {float(loss)} at step {step + 1}; lower learning_rate"
                )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return lambda notes: critic.logits(notes).astype(np.float64)

    return by_critic(fit)


def ensemble(copies: int = 1) -> Fitter:
    """The style critic of traits (`critics.style.feature_model`), calibrated on a fifth of the works it may learn from.

    Its score is the one that gives reward, log P(the style and whole | piece), without the floor and the abstention of
    `critics.style.critic`. Copies in other formats and broken copies are made once, of every collection by itself.
    """

    def fitter(excerpts: Collected, seed: int) -> Trained:
        made = prepared(excerpts, seed, copies)

        def trained(train: Mask, test: Mask, seed: int) -> Floats:
            works = np.unique(excerpts.work[train])
            apart = np.random.default_rng([seed, 4]).permutation(works)[: max(1, round(CALIBRATED_ON * len(works)))]
            valid = train & np.isin(excerpts.work, apart)
            parts = made.of(excerpts, train & ~valid), made.of(excerpts, valid)
            with threadpool_limits(1):
                model = FeatureModel.fit(*parts, seed=seed)
                return model.log_probability(made.table[: len(excerpts)][test])  # the excerpts come first

        return trained

    return fitter
