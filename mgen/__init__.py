"""mgen: reinforcement-learning fine-tuning of symbolic-music models with critic models.

The calls behind the commands, imported on first use:

    mgen.prepare, mgen.pretrain, mgen.train_style_critic, mgen.finetune, mgen.grpo, mgen.generate, mgen.evaluate,
    mgen.baseline_tabs, mgen.baseline_piano_roll, mgen.baseline_drum_bass, mgen.pairs, mgen.measure_bass_policy,
    mgen.push
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mgen.workflows.baseline_drum_bass import baseline_drum_bass
    from mgen.workflows.baseline_piano_roll import baseline_piano_roll
    from mgen.workflows.baseline_tabs import baseline_tabs
    from mgen.workflows.bass_policy import measure_bass_policy
    from mgen.workflows.critic import leave_one_collection_out, train_style_critic
    from mgen.workflows.evaluate import evaluate
    from mgen.workflows.finetune import finetune
    from mgen.workflows.generate import generate
    from mgen.workflows.grpo import grpo
    from mgen.workflows.pairs import pairs
    from mgen.workflows.prepare import prepare
    from mgen.workflows.pretrain import pretrain
    from mgen.workflows.push import push

__version__ = "0.1.0.dev0"

_CALLS = {
    "prepare": "prepare",
    "pretrain": "pretrain",
    "baseline_drum_bass": "baseline_drum_bass",
    "baseline_piano_roll": "baseline_piano_roll",
    "baseline_tabs": "baseline_tabs",
    "measure_bass_policy": "bass_policy",
    "pairs": "pairs",
    "train_style_critic": "critic",
    "leave_one_collection_out": "critic",
    "finetune": "finetune",
    "grpo": "grpo",
    "generate": "generate",
    "evaluate": "evaluate",
    "push": "push",
}
"""Call -> its module in `mgen.workflows`; they import torch, which takes seconds."""

__all__ = [
    "__version__",
    "baseline_drum_bass",
    "baseline_piano_roll",
    "baseline_tabs",
    "evaluate",
    "finetune",
    "generate",
    "grpo",
    "leave_one_collection_out",
    "measure_bass_policy",
    "pairs",
    "prepare",
    "pretrain",
    "push",
    "train_style_critic",
]


def __getattr__(name: str) -> Any:
    if name not in _CALLS:
        raise AttributeError(f"module 'mgen' has no attribute '{name}'")
    return getattr(importlib.import_module(f"mgen.workflows.{_CALLS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
