"""Judges learned from data; a judge computed by rule is in `rewards`. "Critic" never means a value function here.

Read first:

1. `mgen/judgement.py`: what every judge returns.
2. `critics/style/critic.py`: is the piece of the style? `features.py` and `feature_model.py` are what it judges by.
3. `critics/realism/critic.py`: is the piece real or generated? `mgen/rl/discriminator.py` trains it between
   the policy's steps.
4. `critics/sequence.py`: the network over tokens that both can use.

`critics/validation` measures what a style critic has learned. A new critic is a class, a line in `CRITICS`, and a test.
"""

from __future__ import annotations

from pathlib import Path

from critics.realism.critic import RealismCritic
from critics.style import StyleCritic
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.runs.judges import JudgeFactory
from mgen.speed import PLAIN, Speed


def _style(remi: Remi, critic: str = "", credit: bool = False, speed: Speed = PLAIN) -> StyleCritic:
    if not critic:
        raise MgenError("judges names style: expected --critic FOLDER of a style critic; train one with mgen critic")
    return StyleCritic.from_pretrained(critic, remi, credit, speed)


def _realism(remi: Remi, run: Path | None = None) -> RealismCritic:
    if run is None:
        raise MgenError("judges names realism: the discriminator lives in a run of mgen finetune; leave it out")
    return RealismCritic.from_run(run, remi)


CRITICS: dict[str, JudgeFactory] = {"style": _style, "realism": _realism}
"""Name -> factory of a critic; its parameters are parts of `mgen.runs.judges.build_judge`."""
