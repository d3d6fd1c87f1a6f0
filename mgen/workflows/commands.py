"""The commands that train something, as library calls: what `mgen tune` searches and `mgen ablate` repeats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mgen.workflows.baseline_drum_bass import baseline_drum_bass
from mgen.workflows.baseline_piano_roll import baseline_piano_roll
from mgen.workflows.baseline_tabs import baseline_tabs
from mgen.workflows.critic import train_style_critic
from mgen.workflows.finetune import finetune
from mgen.workflows.grpo import grpo
from mgen.workflows.pretrain import pretrain

COMMANDS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "pretrain": (pretrain, ("corpus",)),
    "critic": (train_style_critic, ("corpus",)),
    "finetune": (finetune, ("policy", "corpus", "critic")),
    "grpo": (grpo, ("policy", "corpus", "critic")),
    "baseline tabs": (baseline_tabs, ("corpus",)),
    "baseline piano-roll": (baseline_piano_roll, ("corpus",)),
    "baseline drum-bass": (baseline_drum_bass, ("corpus",)),
}
"""Command -> its call, and the inputs that it needs besides `out`."""
