"""Reads the music file that is to be continued, and counts what of it the tokens cannot hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from symusic import core

from mgen.arrays import Longs
from mgen.corpus.beats import repair_beats
from mgen.corpus.clean import clean_and_count, drop_short_notes
from mgen.encoding.remi import PITCH_RANGE, Remi
from mgen.errors import MgenError, RejectedFile
from mgen.formats.files import read_music
from mgen.notes import STEPS_PER_QUARTER, Notes
from mgen.sampling.sliding import last_part

DEFAULT_TEMPO = 120.0  # quarter notes per minute, of a MIDI file that names none
START_TOKENS = 64  # of a prompt that is continued from its start, if no number is given
_OFF_GRID = 0.05  # grid steps; below it an onset is on the grid but for rounding to ticks

CHANGES = {
    "percussion": "drum notes dropped",
    "pitches": f"notes outside {PITCH_RANGE[0]}-{PITCH_RANGE[1]} dropped",
    "short_notes": "notes too short to sound dropped",
    "doubled": "notes joined with one of the same pitch and onset",
    "instruments": "instruments played as one",
    "tempos": "tempos; the first one holds throughout",
    "off_grid": "onsets moved to the grid",
    "clock": "notes without a beat, in bars of two seconds",
    "velocities": "velocities replaced by accents of the metre",
}
"""What may be flattened or dropped -> how it is called after its number."""


@dataclass(frozen=True)
class MusicPrompt:
    """A music file as tokens.

    Attributes:
        ids: (L,) the part that is continued.
        tempo: of its first note, in quarter notes per minute.
        names: program, -1 for drums -> name of its tracks, if they have one.
        changes: key of `CHANGES` -> number, of the whole file.
    """

    ids: Longs
    tempo: float
    names: dict[int, str]
    changes: dict[str, int]

    @property
    def line(self) -> str:
        """The changes in words; empty without any."""
        return ", ".join(f"{number} {CHANGES[name]}" for name, number in self.changes.items())


def read_prompt(path: str, remi: Remi, prompt_from: str, most: int) -> MusicPrompt:
    """Reads a file as the vocabulary writes music.

    Args:
        prompt_from: `end`: its last `most` tokens, from a bar on; `start`: its first ones.
        most: 0: all tokens, from the start `START_TOKENS`.

    Raises:
        MgenError: It cannot be read, or has no notes that the vocabulary has.
    """
    try:
        raw = read_music(Path(path)).score
        score, repair = repair_beats(raw)
        score, short = drop_short_notes(score)
        read = Notes.from_scores([score])
    except RejectedFile as error:
        raise MgenError(f"--prompt {path}: {error}; give another music file") from error
    notes, counts = clean_and_count(read, "band" if remi.multi else "piano")
    if not len(notes):
        low, high = PITCH_RANGE
        found = f"{len(read)} notes, none of them of pitches {low}-{high}"
        raise MgenError(f"--prompt {path}: expected notes that the model has, found {found}; give another music file")
    kinds = read.program if remi.multi else read.program[read.program >= 0]
    changes = {
        **{name: counts[name] for name in ("percussion", "pitches", "doubled")},
        "short_notes": short,
        "instruments": 0 if remi.multi or len(np.unique(kinds)) == 1 else len(np.unique(kinds)),
        "tempos": len({tempo.mspq for tempo in raw.tempos}),
        "off_grid": _off_grid(score) if repair.on_grid else 0,
        "clock": 0 if repair.on_grid else len(read),
        "velocities": 0 if remi.velocity else len(np.unique(read.velocity)),
    }
    single = {"tempos", "velocities"}  # one of them is nothing that is lost
    changes = {name: changes[name] for name in CHANGES if changes[name] > (name in single)}
    return MusicPrompt(_part(remi.encode(notes)[0], remi, prompt_from, most), _tempo(score), _names(raw, remi), changes)


def _part(ids: Longs, remi: Remi, prompt_from: str, most: int) -> Longs:
    if prompt_from == "start":
        return remi.beginning(ids, most or START_TOKENS)
    return np.array(last_part(ids.tolist(), 0, most or len(ids), remi), np.int64)


def _off_grid(score: core.ScoreTick) -> int:
    """Onsets between two steps of the grid."""
    scale = STEPS_PER_QUARTER / score.ticks_per_quarter
    at = np.concatenate([track.notes.numpy()["time"] for track in score.tracks if len(track.notes)]) * scale
    return int((np.abs(at - np.rint(at)) > _OFF_GRID).sum())


def _tempo(score: core.ScoreTick) -> float:
    """The tempo that the first note is played at, in quarter notes per minute."""
    first = min(int(track.notes.numpy()["time"].min()) for track in score.tracks if len(track.notes))
    before = [tempo for tempo in sorted(score.tempos, key=lambda tempo: tempo.time) if tempo.time <= first]
    return before[-1].qpm if before else DEFAULT_TEMPO


def _names(score: core.ScoreTick, remi: Remi) -> dict[int, str]:
    found = defaultdict[int, list[str]](list)
    for track in score.tracks:
        if len(track.notes) and (remi.multi or not track.is_drum):
            found[(-1 if track.is_drum else track.program) if remi.multi else 0].append(track.name.strip())
    return {program: name for program, names in found.items() if (name := _joined(names))}


def _joined(names: Iterable[str]) -> str:
    return " + ".join(dict.fromkeys(filter(None, names)))
