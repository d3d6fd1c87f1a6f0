"""What the value of an option may be: its type, and limits beyond it.

Libraries find a wrong value late, or never: a batch size of 0 or a context of 272.5 would be an error somewhere in
their code, after files have been written.
"""

from __future__ import annotations

import math
import numbers
import os
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin

import numpy as np

LIMITS = "limits"  # key in the metadata of a field
MOST_INT = 2**31 - 1  # larger whole numbers overflow somewhere in a library

TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


@dataclass(frozen=True)
class Limits:
    """Limits of a number, or of each number of a list; the words that a text may be; whether it may be a mapping."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    words: tuple[str, ...] = ()
    mapping: bool = False

    def problem(self, value: float) -> str | None:
        """What a number must be, if it is not."""
        if isinstance(value, int) and self.most is None and abs(value) > MOST_INT:
            return f"at most {MOST_INT}"
        sound = (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )
        return None if sound else self._interval()

    def _interval(self) -> str:
        if self.least is not None and self.most is not None:
            return f"between {self.least:.12g} and {self.most:.12g}"
        ends = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        return " and ".join(f"{words} {end:.12g}" for words, end in ends.items() if end is not None)


POSITIVE, NOT_NEGATIVE, SHARE = Limits(above=0), Limits(least=0), Limits(least=0, most=1)
COUNT, PORT = Limits(least=1), Limits(least=1, most=65535)

INHERITED: dict[str, Limits] = {
    "adam_beta1": Limits(least=0, below=1),
    "adam_beta2": Limits(least=0, below=1),
    "adam_epsilon": POSITIVE,
    "data_seed": Limits(least=0, most=2**32 - 1),
    "dataloader_num_workers": Limits(least=0, most=1024),
    "dataloader_prefetch_factor": COUNT,
    "dataset_num_proc": COUNT,
    "ddp_timeout": COUNT,
    "delta": POSITIVE,
    "discopop_tau": POSITIVE,
    "entropy_coef": NOT_NEGATIVE,
    "epsilon": POSITIVE,
    "epsilon_high": POSITIVE,
    "eval_accumulation_steps": COUNT,
    "eval_delay": NOT_NEGATIVE,
    "eval_steps": POSITIVE,
    "f_divergence_type": Limits(words=("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")),
    "generation_batch_size": COUNT,
    "gradient_accumulation_steps": COUNT,
    "importance_sampling_level": Limits(words=("token", "sequence")),
    "label_smoothing": Limits(least=0, below=0.5),
    "label_smoothing_factor": Limits(least=0, below=1),
    "ld_alpha": SHARE,
    "learning_rate": NOT_NEGATIVE,
    "logging_steps": POSITIVE,
    "loss_type": Limits(
        words=(
            *("sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot"),
            *("aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm"),
        )
    ),
    "max_grad_norm": NOT_NEGATIVE,
    "max_steps": COUNT,
    "min_p": SHARE,
    "neftune_noise_alpha": NOT_NEGATIVE,
    "num_generations_eval": COUNT,
    "num_iterations": COUNT,
    "num_train_epochs": POSITIVE,
    "per_device_eval_batch_size": COUNT,
    "per_device_train_batch_size": COUNT,
    "precompute_ref_batch_size": COUNT,
    "ref_model_mixup_alpha": SHARE,
    "ref_model_sync_steps": COUNT,
    "repetition_penalty": POSITIVE,
    "sapo_temperature_neg": POSITIVE,
    "sapo_temperature_pos": POSITIVE,
    "save_steps": POSITIVE,
    "save_total_limit": Limits(least=2),  # so that one is always complete
    "seed": Limits(least=0, most=2**32 - 1),
    "steps_per_generation": COUNT,
    "temperature": POSITIVE,
    "top_entropy_quantile": Limits(above=0, most=1),
    "top_k": NOT_NEGATIVE,
    "top_p": Limits(above=0, most=1),
    "torch_empty_cache_steps": COUNT,
    "vllm_gpu_memory_utilization": Limits(above=0, most=1),
    "vllm_group_port": PORT,
    "vllm_max_model_length": COUNT,
    "vllm_mode": Limits(words=("server", "colocate")),
    "vllm_server_port": PORT,
    "vllm_server_timeout": POSITIVE,
    "vllm_tensor_parallel_size": COUNT,
    "warmup_steps": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
}
"""Option of transformers or TRL -> its limits, for options that state none where they are defined."""


def check_value(name: str, value: Any, hint: Any, limits: Limits) -> Any:
    """Checks one value; types that are not plain are left to the library that reads them.

    Args:
        hint: annotation of the option, with all names resolved.

    Returns:
        The value, of the option's type.

    Raises:
        ValueError: It has another type, or is outside the limits.
    """
    if value is None and type(None) in get_args(hint):
        return None
    if get_origin(_without_none(hint)) is list:
        several = isinstance(value, Iterable) and not isinstance(value, str | Mapping | os.PathLike)
        items = list(value) if several else [value]
        return [check_value(name, item, plain_type(hint), limits) for item in items]
    plain = plain_type(hint)
    if plain is not None and not (limits.mapping and isinstance(value, Mapping)):
        converted = _converted(value, plain)
        if converted is None:
            raise ValueError(f"{name} ({value}) must be {TYPES[plain]}")
        value = converted
    if isinstance(value, str) and limits.words and value not in limits.words:
        raise ValueError(f"{name} '{value}': expected one of {', '.join(limits.words)}")
    if isinstance(value, int | float) and (problem := limits.problem(value)):
        raise ValueError(f"{name} ({value:g}) must be {problem}")
    return value


def plain_type(hint: Any) -> type | None:
    """The one type of `TYPES` that an annotation stands for, perhaps in a list or with None."""
    hint = _without_none(hint)
    if get_origin(hint) is list:
        hint = get_args(hint)[0]
    return hint if hint in TYPES else None


def _without_none(hint: Any) -> Any:
    """`int` for `int | None`; other annotations as they are."""
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    return kinds[0] if get_origin(hint) in (Union, types.UnionType) and len(kinds) == 1 else hint


def _converted(value: Any, hint: type) -> str | int | float | None:
    """A value as the plain type of its option, or None if it is of another."""
    if hint is str:
        return os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if hint is bool or isinstance(value, bool | np.bool_):
        return bool(value) if hint is bool and isinstance(value, bool | np.bool_) else None
    if hint is int:
        return int(value) if isinstance(value, numbers.Integral) else None
    return float(value) if isinstance(value, numbers.Real) and math.isfinite(value) else None
