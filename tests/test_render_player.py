"""Playing sound through the programs of the machine."""

from __future__ import annotations

import sys

import pytest

from mgen.errors import MgenError
from mgen.render import player


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Lets the machine have no programs but those that are written: name -> shell line."""
    if sys.platform == "win32":
        pytest.skip("Windows plays sound itself")
    monkeypatch.setenv("PATH", str(tmp_path))

    def write(**lines):
        for name, line in lines.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
            (tmp_path / name).chmod(0o755)
        return tmp_path

    return write


def test_the_first_player_that_succeeds_plays_the_file(programs):
    failing = "echo Connection refused >&2; exit 1"
    folder = programs(paplay=failing, aplay='read -r sound < "$2"; echo "$1 $sound" > "$0.txt"')
    player.play(b"RIFF sound\n", 1.0)
    assert (folder / "aplay.txt").read_text() == "-q RIFF sound\n"
    assert [command[0] for command in player.players()] == ["paplay", "aplay"]


def test_without_a_device_the_reason_is_named(programs):
    programs(aplay="echo 'aplay: main: audio open error:' >&2; echo 'No such file' >&2; exit 1")
    with pytest.raises(MgenError, match=r"no sound device \(aplay: aplay: main: audio open error: No such file\)"):
        player.play(b"RIFF", 1.0)


def test_a_player_that_hangs_is_given_up(programs, monkeypatch):
    monkeypatch.setattr(player, "_START", 0.1)
    programs(play="while :; do :; done")
    with pytest.raises(MgenError, match=r"no sound device \(play: TimeoutExpired\)"):
        player.play(b"RIFF", 0.1)


def test_without_a_player_those_that_would_do_are_named(programs):
    programs()
    with pytest.raises(MgenError, match=r"no program that plays sound \(looked for afplay, aplay, ffplay, paplay"):
        player.play(b"RIFF", 1.0)
