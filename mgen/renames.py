"""Old names of options, what takes their place, and judges that were removed.

No old name is accepted: a command line, a YAML file, a call or a run folder that has one ends in a single line with the
new name. A value is the new option, and perhaps a remark after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgen.errors import MgenError

OPTIONS: dict[str, dict[str, str]] = {
    "listen": {"players": "systems"},
    "finetune": {
        "loud_share": "dominant_share",
        "turn_share": "transfer_share",
        "style_credit": "causal_rewards",
        "per_device_train_batch_size": "completions",
        "gradient_accumulation_steps": "device_batch",
        "num_iterations": "epochs",
        "steps_per_generation": "minibatch",
        "epsilon": "clip",
    },
    "selfcheck": {"a_work": "per_work"},
    "critic": {
        "positive": "target",
        "hears": "input (traits is features)",
        "transfer": "leave_one_collection_out",
        "control": "shortcut_baseline",
        "wrong_way": "degenerate_inputs",
        "broken": "corrupted",
    },
    "evaluate": {
        "control_model": "low_cost_model",
        "controls": "low_cost_baselines",
        "rivals": "baselines",
        "kinds": "prompt_types (continue is continuation, turn is transfer, nothing is unconditional)",
    },
}
"""Command -> old option -> new option."""

_SAMPLED = "the policy is sampled as it is, or its KL would be that of another"
_STEERED = "the learning rate follows the measured KL of a step (kl_step)"
_GRPO = "mgen grpo, GRPO as published, has it"

REMOVED_OPTIONS: dict[str, dict[str, str]] = {
    "finetune": {
        "form": "nats is what mgen finetune does, normalised is mgen grpo",
        "objective": "kl_in_return is what mgen finetune does, grpo is the command mgen grpo",
        "prompts": "each step draws prompts",
        "save_total_limit": "two checkpoints are kept",
        "logging_steps": "each step is logged",
        "adam_beta2": "it is 0.95",
        **dict.fromkeys(("temperature", "top_k", "top_p", "min_p", "repetition_penalty"), _SAMPLED),
        **dict.fromkeys(("warmup_steps", "lr_scheduler_type"), _STEERED),
        **dict.fromkeys(("beta", "loss_type", "multi_objective_aggregation", "scale_rewards", "use_vllm"), _GRPO),
    },
}
"""Command -> option that is no more -> why, or what takes its place."""

REMOVED_JUDGES = {
    "density": "its AUC of real jazz above corrupted or sampled music is below .55 everywhere",
}
"""Judge that is no more -> why. A name here is refused wherever judges are named."""

CHECKPOINT_FILES = {"adversary.pt": "discriminator.pt"}  # old file of a checkpoint -> new name


def renamed_option(command: str, option: str) -> str | None:
    """The line about an old option of a command; None for any other word."""
    if why := REMOVED_OPTIONS.get(command, {}).get(option):
        return f"option '{option}' was removed: {why}"
    new = OPTIONS.get(command, {}).get(option)
    if new is None:
        return None
    name, _, remark = new.partition(" ")
    return f"option '{option}' is now '{name}'{remark and ' ' + remark}"


def check_run_folder(folder: Path, command: str, config: Mapping[str, Any]) -> None:
    """Raises unless a run has the present names of options and files.

    Args:
        folder: of the run.
        command: that made it.
        config: content of its config.yaml.

    Raises:
        MgenError: It has an old name; the line ends with the command that makes the run again.
    """
    lines = [line for option in config if (line := renamed_option(command, str(option)))]
    for old, new in CHECKPOINT_FILES.items():
        if any(folder.glob(f"checkpoints/*/{old}")):
            lines.append(f"file '{old}' is now '{new}'")
    if lines:
        raise MgenError(f"{folder}: a run of an older mgen ({lines[0]}); make it again: {_command(command, config)}")


def _command(command: str, config: Mapping[str, Any]) -> str:
    """`mgen finetune --policy ... --out NEW_FOLDER`, with the inputs that the old run names."""
    inputs = ("init", "policy", "critic", "corpus", "pairs", "target", "style")
    words = [f"--{name} {config[name]}" for name in inputs if config.get(name)]
    return " ".join([f"mgen {command}", *words, "--out NEW_FOLDER"])


METRICS_KEYS = {
    "kinds": "systems",
    "players": "systems",
    "player": "system",
    "kind": "prompt_type",
    "continue": "continuation",
    "turn": "transfer",
    "nothing": "unconditional",
}
"""Old key of metrics.json or samples/index.json -> new key."""


def check_metrics_keys(path: Path | str, content: Mapping[str, Any]) -> None:
    """Raises unless a metrics.json or samples/index.json has the present keys.

    Args:
        path: of the file, for the message.
        content: of the file.

    Raises:
        MgenError: It has an old key; the line ends with the command that makes the file again.
    """
    rows, items = content.get("rows"), content.get("items")
    tables = [content, *(rows.values() if isinstance(rows, dict) else ()), *(items if isinstance(items, list) else ())]
    for old, new in METRICS_KEYS.items():
        if any(isinstance(table, dict) and old in table for table in tables):
            raise MgenError(
                f"{path}: of an older mgen: key '{old}' is now '{new}'; make it again: "
                "mgen evaluate --model NAME=FOLDER ... --corpus CORPUS --out NEW_FOLDER"
            )
