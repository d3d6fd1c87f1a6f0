"""Tables for the terminal, as wide as it is; without one 80 columns."""

from __future__ import annotations

from rich.console import Console, RenderableType


def as_text(*parts: RenderableType) -> str:
    """Renders tables one below the other, without a line break at the end."""
    console = Console(highlight=False, markup=False)
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return capture.get().rstrip("\n")
