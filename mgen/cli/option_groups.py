"""Under which heading `--help` lists an option. An option has one meaning in all commands, so there is one table."""

from __future__ import annotations

from fnmatch import fnmatch

GROUPS: dict[str, tuple[str, ...]] = {
    "Policy and data": (
        *(
            "policy",
            "init",
            "model",
            "baseline",
            "corpus",
            "midi",
            "reference",
            "pairs",
            "method",
            "metadata",
            "recipe",
        ),
        *("collections", "instruments", "target", "style", "transfer_share", "prompt", "prompt_tokens", "prompt_types"),
        *("prompts", "input", "notes", "n", "pieces", "each", "streaming", "transpose", "style_dropout", "retime"),
        *("corrupted", "excerpt_notes", "completion_tokens", "max_tokens", "min_tokens"),
    ),
    "Judges": (
        *("judges", "critic", "bands", "check_pieces", "realism_*", "quantile", "cold_judges", "dominant_share"),
        *("allow_equal_rewards", "judges_of", "best_of", "worst"),
    ),
    "Which pieces": (
        *("on_grid_only", "min_notes", "max_notes", "min_voices", "max_voices", "lowest_pitch", "highest_pitch"),
        *("long_rest", "max_silence", "skip", "pedal"),
    ),
    "Tokens and splits": ("tab_events", "chord_note", "velocity", "merges", "near_duplicates", "split_by"),
    "Systems": ("seeds", "baselines", "low_cost_*", "n_greedy"),
    "Network": ("size", "architecture", "layers", "width", "normalisation", "residual", "context", "dropout"),
    "Rollouts": (
        *("completions", "num_generations", "max_completion_length", "max_new_tokens", "grammar", "programs"),
        *(
            "cold_*",
            "distil_*",
            "guided_*",
            "temperature",
            "top_k",
            "top_p",
            "min_p",
            "threshold",
            "guidance",
            "repetition_penalty",
        ),
        *("include_prompt", "tempo"),
    ),
    "KL and learning rate": (
        *("kl_*", "beta", "learning_rate", "lr_scheduler_type", "warmup_steps", "clip", "max_grad_norm", "average"),
    ),
    "Training": (
        *("max_steps", "num_train_epochs", "epochs", "minibatch", "device_batch", "per_device_*", "loss_type"),
        *("causal_rewards", "optimizer", "weight_decay", "ema", "adam_beta2", "grammar_weight", "repetition*"),
        *("gradient_checkpointing", "max_length"),
    ),
    "Checks": (
        *("guard_*", "signal_steps", "shuffled", "valid_*", "test_excerpts", "eval_*", "patience", "hacked"),
        *("load_best_model_at_end", "degenerate_inputs", "leave_one_collection_out", "critics", "shortcut_baseline"),
        *("two_sample", "sequence", "clamp"),
    ),
    "Files and tracking": (
        *("out", "save_*", "logging_steps", "sample_*", "report_to", "project", "run_name", "examples", "samples"),
        *("resume", "overwrite", "json"),
    ),
    "Machine": ("speed", "bf16", "use_cpu", "seed", "workers", "timeout", "memory", "engine"),
}
"""Heading -> options, or patterns of them, of which the first that matches counts."""

OTHER = "Other"
FEW = 20  # options of a command that need no headings


_PATTERNS = [(title, pattern) for title, known in GROUPS.items() for pattern in known]


def place_of(name: str) -> int:
    """Place of an option in the order of the table."""
    matches = (place for place, (_, pattern) in enumerate(_PATTERNS) if fnmatch(name, pattern))
    return next(matches, len(_PATTERNS))


def group_of(name: str) -> str:
    """The heading of an option."""
    return [*_PATTERNS, (OTHER, "")][place_of(name)][0]
