"""What this machine has for mgen: each part, what is found, and what to do where something is missing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from mgen import __version__
from mgen.extras import is_installed, pip_install
from mgen.render.audio import synthesiser
from mgen.render.player import players
from mgen.speed import choose_speed, compile_problem

PYTHONS = (3, 11), (3, 14)
LEAST_DISK = 2.0  # GB: a corpus, checkpoints and a report of the laptop recipe need less
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PACKAGES = ("torch", "transformers", "trl", "miditok")


@dataclass(frozen=True, slots=True)
class Finding:
    """A part of the machine."""

    part: str
    found: str
    remedy: str = ""  # empty: nothing is missing
    needed: bool = False  # whether mgen does not work without it


def examine(folder: Path) -> list[Finding]:
    """Looks at the machine; takes some seconds, because it compiles a function.

    Args:
        folder: where runs are to be written.
    """
    return [check(folder) for check in CHECKS]


def _python(_: Path) -> Finding:
    fits = PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]
    wanted = " to ".join(".".join(map(str, one)) for one in PYTHONS)
    return Finding("Python", platform.python_version(), "" if fits else f"install Python {wanted}", True)


def _packages(_: Path) -> Finding:
    found, missing = [f"mgen {__version__}"], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    remedy = f"{', '.join(missing)}: install mgen again" if missing else ""
    return Finding("packages", ", ".join(found), remedy, True)


def _device(_: Path) -> Finding:
    if torch.cuda.is_available():
        return Finding("device", f"GPU {torch.cuda.get_device_name()}")
    build = "CUDA build without a GPU" if torch.version.cuda else "CPU build"
    # The CUDA build works on a CPU; it is only gigabytes larger.
    return Finding("device", f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {build} of torch")


def _precision(_: Path) -> Finding:
    speed = choose_speed("auto", "cuda" if torch.cuda.is_available() else "cpu")
    return Finding("precision", speed.reason.removeprefix("speed: "))


def _compiler(_: Path) -> Finding:
    problem = compile_problem("cuda" if torch.cuda.is_available() else "cpu")
    remedy = "install a C++ compiler and the headers of Python; until then training is slower" if problem else ""
    return Finding("compiler", problem or "torch.compile works", remedy)


def _sound(_: Path) -> Finding:
    found = synthesiser()
    remedy = "" if found == "FluidSynth" else f"for a sampled piano: {pip_install('audio')}, and the library FluidSynth"
    return Finding("sound", found, remedy)


def _player(_: Path) -> Finding:
    found = ", ".join(Path(command[0]).name for command in players())
    remedy = "" if found else "only for mgen generate --play: install paplay, aplay or ffplay; or open the .ogg files"
    return Finding("playing", found or "no program that plays sound", remedy)


def _chromium(_: Path) -> Finding:
    found = next(filter(None, map(shutil.which, BROWSERS)), "")
    ready = found and is_installed("playwright")
    remedy = "" if ready else f"only for tests of pages: install it, and {pip_install('dev')}"
    return Finding("Chromium", found or "not installed", remedy)


def _writing(folder: Path) -> Finding:
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding("writing", f"{folder}: {error.strerror}", "change to a folder that can be written", True)
    free = shutil.disk_usage(folder).free / 1e9
    remedy = "" if free >= LEAST_DISK else f"free {LEAST_DISK:g} GB"
    return Finding("writing", f"{folder}, {free:.0f} GB free", remedy, True)


CHECKS: tuple[Callable[[Path], Finding], ...] = (
    *(_python, _packages, _device, _precision, _compiler, _sound, _player, _chromium, _writing),
)
