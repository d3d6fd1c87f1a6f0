"""The texts of `mgen COMMAND --help`, stored in `mgen/cli/help`: printing one does not import torch.

python -m mgen.cli.stored_help

writes them again after a change of options; a test compares.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path

FOLDER = Path(__file__).with_name("help")


def stored_help(command: str, words: Sequence[str]) -> str | None:
    """The stored text for `mgen COMMAND [KIND] --help`; None for any other words."""
    *kind, last = [*words] or [""]
    path = FOLDER / f"{'_'.join([command, *kind])}.txt"
    return path.read_text(encoding="utf-8") if last in ("--help", "-h") and path.is_file() else None


def print_help(command: str, *kind: str) -> str:
    """What the command itself prints for `--help`."""
    out = io.StringIO()
    with redirect_stdout(out), suppress(SystemExit):
        importlib.import_module(f"mgen.cli.{command}").main([*kind, "--help"])
    return out.getvalue()


def all_helps() -> list[tuple[str, ...]]:
    """Command, and kind of `mgen baseline`, of each text."""
    from mgen.cli.baseline import KINDS
    from mgen.cli.main import COMMANDS

    return [*((command,) for command in COMMANDS), *(("baseline", kind) for kind in KINDS)]


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for words in all_helps():
        (FOLDER / f"{'_'.join(words)}.txt").write_text(print_help(*words), encoding="utf-8")
