"""Checkpoints of the policy-gradient loop: all that a step depends on, so that a run resumes exactly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from mgen.rl.update import Weights, copy_weights, set_weights
from mgen.runs.checkpoints import replace_folder, rotate
from mgen.runs.judges import DISCRIMINATOR_FILE

if TYPE_CHECKING:
    from mgen.rl.loop import PolicyGradient

KEPT = 2  # checkpoints; one is always complete
MODEL, OPTIMIZER, LOOP = "model.safetensors", "optimizer.pt", "loop.pt"


def save_state(loop: PolicyGradient) -> None:
    """Writes checkpoint-STEP: a new folder, flushed, with its manifest, then renamed."""
    if loop.learner.accelerator.is_main_process:
        folder, step = Path(loop.args.output_dir), loop.state.global_step
        with replace_folder(folder / f"{PREFIX_CHECKPOINT_DIR}-{step}") as part:
            weights = {"policy": copy_weights(loop.policy), "average": loop.average, "best": loop.best or {}}
            named = {f"{of}:{name}": value for of, state in weights.items() for name, value in state.items()}
            save_file({name: value.cpu().contiguous() for name, value in named.items()}, part / MODEL)
            torch.save(loop.learner.optimizer.state_dict(), part / OPTIMIZER)
            rest = {"kl_weights": loop.budget.weights, "ended": loop.control.should_training_stop}
            torch.save(rest, part / LOOP)
            if loop.discriminator is not None:
                torch.save(loop.discriminator.state_dict(), part / DISCRIMINATOR_FILE)
            loop.state.save_to_json(str(part / TRAINER_STATE_NAME))
        rotate(folder, KEPT, {step})
    loop.learner.accelerator.wait_for_everyone()


def load_state(loop: PolicyGradient, folder: Path) -> None:
    """Restores what `save_state` wrote, on every process."""
    weights: dict[str, Weights] = {"policy": {}, "average": {}, "best": {}}
    for name, value in load_file(folder / MODEL).items():
        of, _, name = name.partition(":")
        weights[of][name] = value.to(loop.learner.device)
    set_weights(loop.policy, weights["policy"])
    loop.average, loop.best = weights["average"], weights["best"] or None
    loop.learner.optimizer.load_state_dict(_load(folder / OPTIMIZER))
    rest = _load(folder / LOOP)
    loop.budget.weights, loop.control.should_training_stop = rest["kl_weights"], rest["ended"]
    if loop.discriminator is not None:
        loop.discriminator.load_state_dict(_load(folder / DISCRIMINATOR_FILE))
    saved = TrainerState.load_from_json(str(folder / TRAINER_STATE_NAME))
    loop.state.global_step, loop.state.log_history = saved.global_step, saved.log_history


def _load(path: Path) -> Any:
    return torch.load(path, weights_only=True, map_location="cpu")
