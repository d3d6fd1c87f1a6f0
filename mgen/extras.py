"""Packages that only an extra installs: imported where they are used; a missing one is named with its extra."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from mgen.errors import MgenError

DISTRIBUTION = "mgen-music"
"""Name of mgen on a package index, where `mgen` is another project."""


def is_installed(module: str) -> bool:
    """True if a package can be imported; it is not imported."""
    return importlib.util.find_spec(module) is not None


def pip_install(extra: str) -> str:
    """The command that installs an extra of mgen."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def import_extra(module: str, extra: str, user: str, otherwise: str = "") -> ModuleType:
    """Imports a module that an extra of mgen installs.

    Args:
        module: its full name.
        extra: the extra in pyproject.toml that brings it.
        user: the command, option or file that needs it; the error line begins with it.
        otherwise: what to do without it, such as "use --engine local".

    Raises:
        MgenError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        remedy = f", or {otherwise}" if otherwise else ""
        package = module.partition(".")[0]
        raise MgenError(f"{user}: {package} is not installed; {pip_install(extra)}{remedy}") from error
