"""Opens folders of `transformers` models that anybody may have written.

The configuration is compared with the weights file before memory is taken for the model, and no code of the folder is
run.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

import mgen.models.lstm  # noqa: F401 registers its classes
from mgen.errors import MgenError
from mgen.stored import explain_damage, integers, read_json

CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")
"""What architectures call their longest sequence."""

MAX_CONTEXT = 1 << 20  # longest sequence of a model that is opened, in tokens
MAX_LAYERS = 1000  # a configuration may state as many; for more the weights file must have as many tensors
MAX_BUFFER = 1 << 28  # numbers in a model's buffers, such as causal masks, which are not in its weights file

REMEDY = "give a folder that save_pretrained wrote, such as RUN/model"


def stated_context(config: PreTrainedConfig) -> int | None:
    """Longest sequence that a model's configuration allows, in tokens; None if it sets no limit."""
    lengths = (getattr(config.get_text_config(), name, None) for name in CONTEXT_NAMES)
    return next((length for length in lengths if isinstance(length, int)), None)


def read_config(folder: Path) -> PreTrainedConfig:
    """The configuration of a model.

    Raises:
        MgenError: It or the weights are missing or damaged, the model needs code of its folder, states more layers than
            the weights have tensors, or a context outside 1..`MAX_CONTEXT`.
    """
    path = folder / "config.json"
    if not path.is_file() or not list(folder.glob("*.safetensors")):
        raise MgenError(f"{folder}: expected a model (config.json and *.safetensors), found none; give RUN/model")
    content = read_json(path, REMEDY)
    if needs_code(content) or (folder / "custom_generate").exists():
        raise MgenError(f"{folder}: the model needs the code in its folder, which mgen does not run; give another")
    most = max(MAX_LAYERS, len(weight_shapes(folder)))
    for name, number in integers(content):
        if "layer" in name and number > most:
            raise MgenError(f"{path}: {name} is {number:.3g}, expected at most {most}; {REMEDY}")
    with explain_damage(path, REMEDY):
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        context = stated_context(config)
    if context is not None and not 1 <= context <= MAX_CONTEXT:
        raise MgenError(f"{path}: its context is {context} tokens, expected 1 to {MAX_CONTEXT}; {REMEDY}")
    return config


def load_model(folder: Path, class_of: Callable[[PreTrainedConfig], type[PreTrainedModel]]) -> PreTrainedModel:
    """The model of a folder, in float32.

    Args:
        class_of: the class of the model, from its configuration.

    Raises:
        MgenError: As `read_config`; or weights and configuration are not of one model, or a weight is not finite.
    """
    config = read_config(folder)
    kind: Any = class_of(config)
    with explain_damage(folder, REMEDY), quiet():
        check_size(lambda: kind(copy.deepcopy(config)), weight_shapes(folder))
        options = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
        model, found = kind.from_pretrained(folder, config=config, dtype="float32", trust_remote_code=False, **options)
    for problem, names in (("lack", found["missing_keys"]), ("have no place for", found["unexpected_keys"])):
        if names:
            raise MgenError(f"{folder}: config.json describes another model, weights {problem} {min(names)}; {REMEDY}")
    check_finite(folder, dict(model.named_parameters()))
    loaded: PreTrainedModel = model
    return loaded


def check_size(build: Callable[[], nn.Module], shapes: Mapping[str, Sequence[int]]) -> None:
    """Builds a model without memory for its weights, until it has more than twice those of a file.

    Twice, because a layer may share its weights with another one once the model is built.

    Args:
        shapes: of the tensors in the file, by name.

    Raises:
        ValueError: It has more, or buffers of more than `MAX_BUFFER` numbers.
    """
    n_tensors, n_numbers = len(shapes), sum(map(math.prod, shapes.values()))
    built: dict[int, Tensor] = {}
    left = 2 * n_numbers

    def count(module: nn.Module, name: str, parameter: Tensor) -> None:
        nonlocal left
        left -= 0 if id(parameter) in built else parameter.numel()
        built[id(parameter)] = parameter
        if left < 0 or len(built) > 2 * n_tensors:
            raise ValueError(f"config.json is of a larger model than the {n_numbers} numbers in {n_tensors} tensors")

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            model = build()
    finally:
        hook.remove()
    if sum(buffer.numel() for buffer in model.buffers()) > MAX_BUFFER:
        raise ValueError(f"its buffers have more than {MAX_BUFFER} numbers")


def check_finite(place: Path, weights: Mapping[str, Tensor]) -> None:
    """Raises `MgenError` if a weight is infinite or not a number."""
    for name, weight in weights.items():
        if not weight.sum(dtype=torch.float32).isfinite():  # one number, and no mask as large as the weight
            raise MgenError(f"{place}: {name} has numbers that are not finite; train again")


def weight_shapes(folder: Path) -> dict[str, list[int]]:
    """Shapes of all tensors in the safetensors files of a folder, by name, from their headers alone.

    Raises:
        MgenError: A file is damaged.
    """
    shapes: dict[str, list[int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with explain_damage(path, REMEDY), safe_open(path, "pt") as file:
            shapes |= {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 it is no mapping
    return shapes


def needs_code(config: Mapping[str, Any]) -> bool:
    """Whether a config.json names code outside `transformers`: in its folder, or attention kernels of the Hub."""
    kernels = (value for name, value in config.items() if name.endswith("_implementation"))
    return "auto_map" in config or any("/" in str(kernel) for kernel in kernels)


@contextmanager
def quiet() -> Iterator[None]:
    """Silences `transformers` while weights are read and written: reports on those that do not fit, of which
    `load_model` makes one line, and bars over files.
    """
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
