"""Judges learned from data; a judge computed by rule is in `rewards`. "Critic" never means a value function here.

Read first:

1. `mgen/judgement.py`: what every judge returns.
2. `critics/style/critic.py`: is the piece of the style? `features.py` and `feature_model.py` are what it judges by.
3. `critics/realism/feature_discriminator.py`: is the piece real or generated? `mgen/rl/discriminator.py` trains it
   between the policy's steps. `token_discriminator.py` is a network with the same question.
4. `critics/sequence.py`: the network over tokens that style and realism can use.

`critics/validation` measures what a style critic has learned. A new critic is a class, a line in `CRITICS`, and a test.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from critics.realism.feature_discriminator import FeatureDiscriminator
from critics.realism.token_discriminator import TokenDiscriminator
from critics.style import StyleCritic
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.runs.judges import JudgeFactory
from mgen.speed import PLAIN, Speed


def _style(
    remi: Remi,
    critic: str = "",
    credit: bool = False,
    speed: Speed = PLAIN,
    part: str = "both",
    scale: str = "log_odds",
) -> StyleCritic:
    if not critic:
        raise MgenError("judges names the style critic: expected --critic FOLDER; train one with mgen critic")
    return StyleCritic.from_pretrained(critic, remi, credit, speed, part, scale)


def _realism(run: Path | None = None) -> FeatureDiscriminator:
    return FeatureDiscriminator.from_run(_run("realism", run))


def _realism_tokens(remi: Remi, run: Path | None = None) -> TokenDiscriminator:
    return TokenDiscriminator.from_run(_run("realism_tokens", run), remi)


def _run(name: str, run: Path | None) -> Path:
    if run is None:
        raise MgenError(f"judges names {name}: the discriminator lives in a run of mgen finetune; leave it out")
    return run


CRITICS: dict[str, JudgeFactory] = {
    "style": _style,
    "intact": partial(_style, part="intact"),
    "realism": _realism,
    "realism_tokens": _realism_tokens,
}
"""Name -> factory of a critic; its parameters are parts of `mgen.runs.judges.build_judge`, or arguments of an entry.

`style` judges by both parts of the style critic. With the argument `part: style` it leaves the second to `intact`, so
that each has a weight.
"""
