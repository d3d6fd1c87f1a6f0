"""The recipes: YAML files of options, in the checkout or installed with the package."""

from __future__ import annotations

import sysconfig
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2] / "configs"
CONFIGS = _CHECKOUT if _CHECKOUT.is_dir() else Path(sysconfig.get_path("data")) / "share" / "mgen" / "configs"

FOLDERS = {"ablate": "ablations", "baseline": "baselines"}
"""Commands whose recipes lie in a folder of another name."""


def find_config(word: str, command: str) -> str:
    """The path of a file of options: `word` itself, or for a mere name such as `laptop` the recipe of that name.

    Args:
        command: name of the command, `finetune`.
    """
    recipe = CONFIGS / FOLDERS.get(command, command) / f"{word}.yaml"
    is_name = not Path(word).suffix and len(Path(word).parts) == 1
    return str(recipe) if is_name and not Path(word).exists() and recipe.is_file() else word


def recipe_names(command: str) -> list[str]:
    """Names of the recipes of a command."""
    return sorted(path.stem for path in (CONFIGS / FOLDERS.get(command, command)).glob("*.yaml"))
