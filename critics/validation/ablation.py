"""The critic of traits with one thing left out or changed: which of its parts matter, by transfer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from critics.style.ensemble import MEMBERS, SPREAD, Ensemble, Member
from critics.style.excerpts import Collected
from critics.style.training_set import EVENNESS, prepared
from critics.validation.leave_one_out import Fitter, Trained
from mgen.arrays import Floats, Mask

STYLE = tuple(member for member in MEMBERS if member.question == "style")
"""What tells the style; the question whether a piece is whole is another one."""


def style_alone(
    members: Sequence[Member] = STYLE, copies: int = 1, evenness: float = EVENNESS, spread: float = SPREAD
) -> Fitter:
    """An ensemble's raw logit of style.

    Args:
        members: all asked for the style.
        copies: copies of each excerpt in other formats.
        evenness: see `critics.style.training_set.EVENNESS`.
        spread: see `critics.style.ensemble.SPREAD`.
    """

    def fitter(excerpts: Collected, seed: int) -> Trained:
        made = prepared(excerpts, seed, copies)

        def trained(train: Mask, test: Mask, seed: int) -> Floats:
            network = Ensemble.fit(made.of(excerpts, train, evenness=evenness), members, seed)
            return network.logits(made.table[: len(excerpts)][test], "style", spread)  # the excerpts come first

        return trained

    return fitter


def _changed(**change: object) -> tuple[Member, ...]:
    return tuple(replace(member, **change) for member in STYLE)  # type: ignore[arg-type]


def _of_view(view: str) -> tuple[Member, ...]:
    return tuple(member for member in STYLE if member.view == view)[:1]


ABLATIONS: dict[str, Fitter] = {
    "style": style_alone(),
    "no broken music": style_alone(_changed(negatives=())),
    "no other formats": style_alone(copies=0),
    "two other formats": style_alone(copies=2),
    "no mixing": style_alone(_changed(mixed=0.0)),
    "pooled": style_alone(evenness=0.0),
    "all collections alike": style_alone(evenness=1.0),
    "mean": style_alone(spread=0.0),
    "mean less spread": style_alone(spread=1.0),
    "least": style_alone(spread=np.inf),
    "one network": style_alone(_of_view("all")),
    "pitch alone": style_alone(_of_view("pitch")),
    "rhythm alone": style_alone(_of_view("rhythm")),
}
"""Name -> the style members of `critics.style.ensemble.MEMBERS`, changed in one thing; `style` is all of them as
they are.
"""
