"""The progress of a command on stderr: bars on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

EVERY = 30.0  # seconds between plain lines
REFRESH = 0.1  # seconds between drawings
WIDE = 60  # columns from which there is room for a bar


@dataclass
class Loop:
    """A loop that runs."""

    first: int  # rounds that were done when it began: a run may resume
    began: float  # seconds

    def describe(self, name: str, done: int, total: int, note: str) -> str:
        """Rounds, rate, time left and note: `40 of 1,000 steps, 3.2/s, 5:00 left, loss 2.100`."""
        parts = [f"{done:,} of {total:,} {name}"]
        seconds, rounds = time.monotonic() - self.began, done - self.first
        if rounds > 0 and seconds > 0:
            rate = rounds / seconds
            parts += [
                f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each",
                f"{clock((total - done) / rate)} left",
            ]
        return ", ".join([*parts, note] if note else parts)


class ProgressDisplay:
    """Takes lines and counts (see `mgen.progress`) while it is open, as a context manager.

    Args:
        plain: draw no bars, even on a terminal.
    """

    def __init__(self, plain: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self.drawn = self.console.is_terminal and not self.console.is_dumb_terminal and not plain
        self.first: dict[str, int] = {}  # loop -> rounds that were done when it first began
        self.loops: dict[str, Loop] = {}
        self.texts: dict[str, str] = {}
        self.tasks: dict[str, TaskID] = {}
        self.shown = time.monotonic()
        text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
        columns = (BarColumn(16), text) if self.console.width >= WIDE else (text,)
        # No thread of rich draws: commands fork processes.
        self.bars = Progress(*columns, console=self.console, transient=True, auto_refresh=False, redirect_stdout=False)

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in [*self.loops]:
            self._end(name)

    def __call__(self, line: str) -> None:
        """Prints a line, above the bars."""
        self.console.print(line)

    def count(self, loop: str, done: int, total: int, note: str = "") -> None:
        """Shows how far a loop is."""
        self.first.setdefault(loop, done)
        if done >= total:
            self._end(loop)
            return
        running = self.loops.setdefault(loop, Loop(done, time.monotonic()))
        self.texts[loop] = running.describe(loop, done, total, note)
        if self.drawn:
            self._draw(loop, done, total)
        elif time.monotonic() - self.shown >= EVERY:
            self.shown = time.monotonic()
            self.console.print("; ".join(self.texts.values()))

    def _draw(self, loop: str, done: int, total: int) -> None:
        if loop not in self.tasks:
            self.tasks[loop] = self.bars.add_task("", total=total)
            self.bars.start()
            self.shown = 0.0
        self.bars.update(self.tasks[loop], completed=done, total=total, description=self.texts[loop])
        if time.monotonic() - self.shown >= REFRESH:
            self.shown = time.monotonic()
            self.bars.refresh()

    def _end(self, loop: str) -> None:
        self.loops.pop(loop, None)
        self.texts.pop(loop, None)
        if loop in self.tasks:
            self.bars.remove_task(self.tasks.pop(loop))
            self.bars.refresh()
            if not self.tasks:
                self.bars.stop()


def clock(seconds: float) -> str:
    """`4:05`, or with hours `1:04:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
