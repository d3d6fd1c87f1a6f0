"""Plays sound on this machine, with the program that the system has for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mgen.errors import MgenError

PLAYERS = (
    *(("paplay",), ("pw-play",), ("aplay", "-q"), ("afplay",), ("play", "-q")),
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "error"),
)
"""Commands that take the path of a WAV file; the first that succeeds has played it."""

_WINDOWS = "import sys, winsound; winsound.PlaySound(sys.argv[1], winsound.SND_FILENAME)"
_START = 10.0  # seconds that a player may take beyond the sound


def players() -> list[list[str]]:
    """Commands of this machine that play a WAV file; whether it has a sound device, only they know."""
    if sys.platform == "win32":
        return [[sys.executable, "-c", _WINDOWS]]
    return [[*command] for command in PLAYERS if shutil.which(command[0])]


def play(sound: bytes, seconds: float) -> None:
    """Plays a WAV file and returns when it has ended.

    Args:
        sound: content of the file.
        seconds: its length; a player that takes much longer hangs.

    Raises:
        MgenError: The machine has no player, or none that finds a sound device.
    """
    found, problem = players(), ""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sound.wav"
        file.write_bytes(sound)
        for command in found:
            problem = _run([*command, str(file)], seconds + _START)
            if not problem:
                return
    names = ", ".join(sorted(command[0] for command in PLAYERS))
    raise MgenError(f"no sound device ({problem})" if found else f"no program that plays sound (looked for {names})")


def _run(command: list[str], seconds: float) -> str:
    """Runs a player; returns what went wrong, in a line, or nothing."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {type(error).__name__}"
    if not done.returncode:
        return ""
    words = done.stderr.decode(errors="replace").split()
    return f"{Path(command[0]).name}: {' '.join(words)[:120] or f'exit code {done.returncode}'}"
