"""Progress: lines and counts of a call, as bars on a terminal and as plain lines elsewhere."""

from __future__ import annotations

import re

import pytest
from progress_counts import Counts

from mgen.cli import progress as module
from mgen.cli.progress import Loop, ProgressDisplay, clock
from mgen.progress import counted


def test_a_function_of_lines_takes_no_counts():
    lines = []
    assert list(counted(lines.append, "files", "abc")) == ["a", "b", "c"] and lines == []


def test_a_loop_is_counted_from_nothing_to_its_end_however_it_ends():
    progress = Counts()
    assert list(counted(progress, "files", iter("abc"), 3)) == ["a", "b", "c"]
    assert [(done, total) for _, done, total, _ in progress.counts] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    rounds = counted(progress, "files", "abc")
    next(rounds)
    rounds.close()
    assert progress.counts[-1] == ("files", 3, 3, "")


def test_rate_and_time_left_are_of_this_call(monkeypatch):
    monkeypatch.setattr(module.time, "monotonic", lambda: 110.0)
    loop = Loop(first=500, began=100.0)  # a run that resumes at step 500: 50 steps in 10 s
    assert loop.describe("steps", 550, 1550, "loss 2.1") == "550 of 1,550 steps, 5.0/s, 3:20 left, loss 2.1"
    assert loop.describe("cards", 502, 504, "") == "502 of 504 cards, 5.0 s each, 0:10 left"
    assert loop.describe("steps", 500, 1550, "") == "500 of 1,550 steps"
    assert clock(3_725) == "1:02:05"


def test_without_a_terminal_there_is_a_line_now_and_then(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with ProgressDisplay() as progress:
        for done in range(90):
            progress.count("steps", done, 90)
            now[0] += 1
    out, error = capsys.readouterr()
    assert out == ""
    assert error.splitlines() == ["30 of 90 steps, 1.0/s, 1:00 left", "60 of 90 steps, 1.0/s, 0:30 left"]


@pytest.mark.parametrize("columns", [40, 100])
def test_a_terminal_of_any_width_has_one_line_of_progress(columns, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    with ProgressDisplay() as progress:
        progress.count("steps", 10, 100, "a note that is longer than a narrow terminal [bold]")
        progress("a line above")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    lines = [line.strip() for line in re.split(r"[\r\n]", shown) if line.strip()]
    assert "a line above" in lines and any("10 of 100 steps" in line for line in lines)
    assert max(map(len, lines)) <= columns
    assert any("[bold]" in line for line in lines) == (columns == 100)


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("NO_COLOR", "1")])
def test_a_terminal_without_colour_gets_no_colour(name, value, monkeypatch, capsys):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv(name, value)
    with ProgressDisplay() as progress:
        progress.count("steps", 1, 2)
    assert not re.search(r"\x1b\[[0-9;]*m", re.sub(r"\x1b\[[01;]*m", "", capsys.readouterr().err))
