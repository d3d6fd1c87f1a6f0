"""The critics that leave-one-collection-out compares, by name: quick enough to be trained for every pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch.nn.functional import binary_cross_entropy_with_logits

from critics.sequence import SequenceCritic
from critics.style.ensemble import MEMBERS, SPREAD, Ensemble, Member
from critics.style.excerpts import Excerpts
from critics.style.feature_model import FeatureModel
from critics.style.feature_training import EVENNESS, FeatureRows
from critics.validation.leave_one_out import Fitter, Scorer, by_critic
from critics.validation.shortcut_baseline import marginals
from mgen.arrays import Floats, Mask
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.music.features import FORMAT_FREE, features
from mgen.notes import Notes
from mgen.stats.two_sample import boosting, linear
from mgen.transforms.format_augmentations import augment
from mgen.transforms.format_invariant import format_invariant_view

CALIBRATED_ON = 0.2  # share of the training works that `ensemble` is only calibrated on

NETWORK_STEPS, NETWORK_BATCH = 100, 16


def on_table(table: Callable[[Notes], Floats], copies: int = 0) -> Fitter:
    """Boosting and logistic regression on a table of features; the score is the mean of their log-odds.

    Both sides have the same weight, and so have the collections of a side.

    Args:
        table: (B, F) features of each piece.
        copies: augmented copies of each training excerpt.
    """

    def fitter(excerpts: Excerpts, seed: int) -> Scorer:
        rng = np.random.default_rng([seed, 1])
        tables = [table(excerpts.notes)]
        tables += [table(augment(excerpts.notes, rng)) for _ in range(copies)]

        def score(train: Mask, test: Mask, seed: int) -> Floats:
            rows = np.concatenate([part[train] for part in tables])
            label = np.tile(excerpts.positive[train].astype(np.int64), len(tables))
            weight = np.tile(even_weights(excerpts.positive[train], excerpts.collection[train]), len(tables))
            trees, line = boosting(seed), linear()
            with threadpool_limits(1):
                trees.fit(rows, label, sample_weight=weight)
                line.fit(rows, label, logisticregression__sample_weight=weight)
                parts = [model.decision_function(tables[0][test]) for model in (trees, line)]
            out: Floats = np.mean(parts, axis=0)
            return out

        return score

    return fitter


def even_weights(positive: Mask, collection: NDArray[np.str_]) -> Floats:
    """(B,) weights, 1 on average, equal in sum for the two sides, and for the collections of a side."""
    out = np.zeros(len(positive))
    for side in (True, False):
        names = np.unique(collection[positive == side])
        for name in names:
            own = (positive == side) & (collection == name)
            out[own] = len(out) / 2 / len(names) / own.sum()
    return out


def format_invariant_features(notes: Notes) -> Floats:
    """(B, F) features without metre of the format-invariant view of each piece."""
    return features(format_invariant_view(notes), FORMAT_FREE)


def naive_features(notes: Notes) -> Floats:
    """(B, F) all features, and all that gives a file's format away: loudness, phase, durations and density."""
    return np.concatenate([marginals(notes), features(notes)], axis=1)


def network(remi: Remi, steps: int, tokens: int = 256) -> Fitter:
    """A small network on tokens, without augmentation and hard negatives: it learns from the two sides alone.

    Args:
        steps: optimizer steps, each on excerpts of both sides and all collections alike.
        tokens: longest excerpt that is read; the rest is cut.
    """

    def fit(excerpts: Excerpts, seed: int) -> Callable[[Notes], Floats]:
        critic = SequenceCritic.new(remi, None, "tiny", tokens, seed=seed)
        rows = critic.rows(excerpts.notes)
        weight = even_weights(excerpts.positive, excerpts.collection)
        rng = np.random.default_rng([seed, 2])
        optimizer = torch.optim.AdamW(critic.model.parameters(), lr=1e-3, weight_decay=0.1)
        critic.model.train()
        for step in range(steps):
            some = rng.choice(len(rows), NETWORK_BATCH, p=weight / weight.sum())
            label = torch.from_numpy(excerpts.positive[some]).float().to(critic.model.device)
            logits = critic.model(input_ids=critic.pad([rows[i] for i in some])).logits[:, 0].float()
            loss = binary_cross_entropy_with_logits(logits, label)
            if not torch.isfinite(loss):
                raise MgenError(f"network: the loss is {float(loss)} at step {step + 1} of {steps}; take fewer steps")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return lambda notes: critic.logits(notes).astype(np.float64)

    return by_critic(fit)


def ensemble(excerpts: Excerpts, seed: int) -> Scorer:
    """The style critic of features, calibrated on a fifth of the training works.

    The score is log P(style and intact | piece), the reward without the floor and the abstention of `StyleCritic`.
    """
    rows = FeatureRows.compute(excerpts, seed)

    def score(train: Mask, test: Mask, seed: int) -> Floats:
        works = np.unique(excerpts.work[train])
        apart = np.random.default_rng([seed, 4]).permutation(works)[: max(1, round(CALIBRATED_ON * len(works)))]
        valid = train & np.isin(excerpts.work, apart)
        with threadpool_limits(1):
            model = FeatureModel.fit(rows.training_set(train & ~valid), rows.training_set(valid), seed=seed)
            return model.log_probability(rows.table[: len(excerpts)][test])

    return score


STYLE_MEMBERS = tuple(member for member in MEMBERS if member.question == "style")
"""The members that tell the style; ablations leave the question of intact music out."""


def style_members(
    members: Sequence[Member] = STYLE_MEMBERS, copies: int = 1, evenness: float = EVENNESS, spread: float = SPREAD
) -> Fitter:
    """An ensemble's raw logit of style.

    Args:
        members: all with the question `style`.
        copies: augmented copies of each excerpt.
        evenness: see `critics.style.feature_training.EVENNESS`.
        spread: see `critics.style.ensemble.SPREAD`.
    """

    def fitter(excerpts: Excerpts, seed: int) -> Scorer:
        rows = FeatureRows.compute(excerpts, seed, copies)

        def score(train: Mask, test: Mask, seed: int) -> Floats:
            trained = Ensemble.fit(rows.training_set(train, evenness=evenness), members, seed)
            return trained.logits(rows.table[: len(excerpts)][test], "style", spread)

        return score

    return fitter


def _members_with(**changes: Any) -> tuple[Member, ...]:
    return tuple(replace(member, **changes) for member in STYLE_MEMBERS)


def _member_of(view: str) -> tuple[Member, ...]:
    return tuple(member for member in STYLE_MEMBERS if member.view == view)[:1]


ABLATIONS: dict[str, Fitter] = {
    "style members": style_members(),
    "no hard negatives": style_members(_members_with(negatives=())),
    "no augmentation": style_members(copies=0),
    "two augmented copies": style_members(copies=2),
    "no mixup": style_members(_members_with(mixup=0.0)),
    "collections by size": style_members(evenness=0.0),
    "equal collections": style_members(evenness=1.0),
    "mean": style_members(spread=0.0),
    "mean minus spread": style_members(spread=1.0),
    "minimum": style_members(spread=np.inf),
    "one network": style_members(_member_of("bar_free")),
    "pitch only": style_members(_member_of("pitch")),
    "rhythm only": style_members(_member_of("rhythm")),
}
"""Name -> the style members, changed in one respect; `style members` are unchanged."""

FITTERS: dict[str, Callable[[Remi], Fitter]] = {
    "naive": lambda remi: on_table(naive_features),
    "network": lambda remi: network(remi, NETWORK_STEPS),
    "format_invariant": lambda remi: on_table(format_invariant_features, copies=1),
    "ensemble": lambda remi: ensemble,
    **{name: lambda remi, fitter=fitter: fitter for name, fitter in ABLATIONS.items()},  # type: ignore[misc]
}
"""Name -> critic for a corpus of this encoding: two that learn the format, one on the features of evaluation in the
format-invariant view, the style critic, and its ablations.
"""
