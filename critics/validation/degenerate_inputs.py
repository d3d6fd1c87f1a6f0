"""Wrong-way inputs: what must never score as good music of the style, also by a critic that never heard its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from critics.style.critic import StyleCritic
from mgen.notes import Notes
from mgen.transforms.corruptions import markov_pitches, one_pitch, random_pitches, shuffle_bars, two_bar_loop
from mgen.transforms.degenerate import empty, held_note, single_note

Make = Callable[[Notes, Generator], Notes]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of input.

    Attributes:
        make: real pieces -> as many wrong ones.
        left_out: ways of breaking music that are of this kind: a critic that never heard it is not trained on them.
    """

    make: Make
    left_out: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {
    "random_pitches": Kind(random_pitches, ("random_pitches",)),
    "one_pitch": Kind(one_pitch, ("one_pitch",)),
    "held_note": Kind(held_note, ("one_pitch",)),
    "single_note": Kind(single_note, ("one_pitch",)),
    "two_bar_loop": Kind(two_bar_loop, ("two_bar_loop",)),
    "markov_pitches": Kind(markov_pitches, ("markov_pitches",)),
    "bars_shuffled": Kind(shuffle_bars, ("bars_shuffled", "segments_shuffled")),
    "empty": Kind(empty),
}
"""Random tokens and samples of policies come from outside: they need a vocabulary, or a policy."""


def wrong_way(
    critic: StyleCritic,
    without: Callable[[tuple[str, ...]], StyleCritic],
    real: Notes,
    others: Mapping[str, Notes],
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """How inputs of each kind score beside real music of the style.

    Args:
        critic: trained on everything.
        without: trains one without some ways of breaking music.
        real: pieces of works that neither learned from.
        others: further inputs that no critic was trained on, by name.

    Returns:
        Kind -> `trained` and `left_out` (None where no training knew it), each with `above_median` (share above the
        median of real music), `change` (mean score less the mean of real music, nats), `abstained` (share that was not
        judged); and `n`.
    """
    critics: dict[tuple[str, ...], StyleCritic] = {(): critic}
    rows: dict[str, dict[str, Any]] = {}
    inputs = {
        name: (kind.make(real, np.random.default_rng([seed, place])), kind.left_out)
        for place, (name, kind) in enumerate(KINDS.items())
    }
    inputs |= {name: (notes, ()) for name, notes in others.items()}
    for name, (notes, left_out) in inputs.items():
        if left_out not in critics:
            critics[left_out] = without(left_out)
        rows[name] = {
            "n": notes.n_pieces,
            "trained": _beside(critic, notes, real) if left_out else None,
            "left_out": _beside(critics[left_out], notes, real),
        }
    return rows


def _beside(critic: StyleCritic, wrong: Notes, real: Notes) -> dict[str, float]:
    judged, right = critic(wrong), critic(real).score
    return {
        "above_median": float((judged.score > np.median(right)).mean()),
        "change": float(judged.score.mean() - right.mean()),
        "abstained": float(1 - judged.defined.mean()),
    }
