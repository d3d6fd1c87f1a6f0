"""Every judge that mgen knows by name: the registry that workflows and commands pass to `mgen.runs.judges`."""

from __future__ import annotations

from critics import CRITICS
from mgen.runs.judges import JudgeFactory
from rewards import ACCOMPANIMENT, REWARDS

JUDGES: dict[str, JudgeFactory] = {**REWARDS, **ACCOMPANIMENT, **CRITICS}
