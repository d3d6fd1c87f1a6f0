"""The recipes: YAML files of options, in the checkout or installed with the package."""

from __future__ import annotations

import site
import sysconfig
from pathlib import Path

_SHARE = Path("share", "mgen", "configs")
_ROOT = Path(__file__).resolve().parents[2]  # of the checkout, or where `pip install --target` puts all
_PLACES = (
    _ROOT / "configs",
    _ROOT / _SHARE,
    Path(sysconfig.get_path("data")) / _SHARE,
    Path(site.getuserbase()) / _SHARE,
)
# Another project's `configs` next to an installed mgen has no recipes.
CONFIGS = next((place for place in _PLACES if (place / "finetune" / "laptop.yaml").is_file()), _PLACES[0])

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
