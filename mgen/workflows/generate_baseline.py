"""`mgen generate --baseline RUN`: samples MIDI files from a baseline; each kind of baseline has its function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mgen.errors import MgenError
from mgen.runs.folder import read_facts
from mgen.workflows.baseline_options import BaselineOptions
from mgen.workflows.generate_drum_bass import generate_drum_bass
from mgen.workflows.generate_piano_roll import generate_piano_rolls

KINDS: dict[str, Callable[[BaselineOptions], dict[str, Any]]] = {
    "baseline piano-roll": generate_piano_rolls,
    "baseline drum-bass": generate_drum_bass,
    "baseline bass-policy": generate_drum_bass,
}
"""Command of a run -> what samples from it."""


def generate_from_baseline(options: BaselineOptions) -> dict[str, Any]:
    """Samples from a run by its kind; returns the content of index.json.

    Raises:
        MgenError: The folder is no finished run, or of a kind that does not generate.
    """
    command = read_facts(options.run)["command"]
    if command not in KINDS:
        raise MgenError(f"--baseline {options.run}: a run of {command} does not generate; expected {', '.join(KINDS)}")
    return KINDS[command](options)
