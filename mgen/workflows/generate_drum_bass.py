"""What `mgen generate` writes of a run of `mgen baseline drum-bass` or `bass-policy`: bass lines for the drums of a
MIDI file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from symusic import core

from mgen.arrays import Longs
from mgen.corpus.beats import repair_beats
from mgen.corpus.pairs import CONDITIONS
from mgen.corpus.tempo_map import read_tempo_map, write_tempo_map
from mgen.encoding.drum_bass import (
    BASS_PROGRAMS,
    DEFAULT_PROGRAM,
    HOLD,
    PITCHES,
    REST,
    STEP,
    Bass,
    drum_rolls,
    is_bass,
    place_windows,
    to_notes,
)
from mgen.errors import MgenError, RejectedFile
from mgen.formats.files import read_music
from mgen.models.baselines.drum_bass import DrumBassModel
from mgen.models.pretrained import load_model
from mgen.music.keys import key_of
from mgen.notes import Notes
from mgen.runs.folder import MODEL, REMEDY, read_facts
from mgen.sampling.drum_bass import Writer, sample
from mgen.workflows.baseline_options import BaselineOptions
from mgen.workflows.bass_policy import load_bass_policy


def generate_drum_bass(options: BaselineOptions) -> dict[str, Any]:
    """Writes `n` MIDI files of two tracks: the drums of the prompt, and a new bass in its 4/4 bars.

    The bass reads tempo and key of the prompt, and the program of its bass if it has one; its genre is unknown. Bars of
    other metres, and windows without drums, get no bass.

    Returns:
        The content of index.json.

    Raises:
        MgenError: The model or the prompt cannot be read, or the prompt has no drums in 4/4.
    """
    model = _load(options.run)
    if not options.prompt:
        raise MgenError(f"--baseline {options.run}: writes a bass to drums; give a MIDI file with drums as --prompt")
    score, notes = _read(options.prompt)
    steps = model.config.steps
    start, room, skipped = _windows(notes, steps)
    drums = drum_rolls(notes, start, steps)
    played = drums.any(axis=(1, 2))
    if not played.any():
        found = "no drums" if not (notes.program < 0).any() else "no drums in 4/4"
        raise MgenError(f"--prompt {options.prompt}: has {found}; give a MIDI file with a drum track in 4/4")
    at, tempos = read_tempo_map(write_tempo_map(score))
    tempo = tempos[np.searchsorted(at, start, side="right") - 1]
    program = _program(notes)
    key = int(key_of(notes)[0])
    conditions = np.column_stack(np.broadcast_arrays(tempo, program, -1, key)).astype(np.float32)
    inputs = torch.from_numpy(drums), torch.from_numpy(conditions)
    lines = sample(model, *inputs, options.n, options.temperature, options.seed)
    lines[:, ~played] = REST
    lines[:, np.arange(steps) >= room[:, None]] = REST
    options.out.mkdir(parents=True, exist_ok=True)
    first_tempo = options.tempo or float(tempos[0])
    pieces = [
        _write(options.out / f"{i:04d}.mid", notes, line, start, program, first_tempo) for i, line in enumerate(lines)
    ]
    used = {"tempo": first_tempo, "instrument": program, "genre": "unknown", "key": key}
    return {
        "baseline": str(options.run),
        "prompt": options.prompt,
        "seed": options.seed,
        "decoding": {"temperature": options.temperature},
        "conditions": {name: used[name] for name in CONDITIONS if name in model.config.conditions},
        "windows": {"with a bass": int(played.sum()), "without drums": int((~played).sum()), "other metre": skipped},
        "pieces": pieces,
    }


def _load(run: Path) -> Writer:
    """The network, or the policy, of a run."""
    facts = read_facts(run)
    if facts["command"] == "baseline bass-policy":
        return load_bass_policy(run / MODEL, int(facts["window_steps"]))
    model = load_model(run / MODEL, lambda config: DrumBassModel)
    if not isinstance(model, DrumBassModel) or model.config.model_type != "mgen_drum_bass":
        raise MgenError(f"{run / MODEL}: expected a drum-bass model, found {model.config.model_type}; {REMEDY}")
    network: Writer = model.to("cuda" if torch.cuda.is_available() else "cpu")
    return network


def _read(prompt: str) -> tuple[core.ScoreTick, Notes]:
    try:
        score, _ = repair_beats(read_music(Path(prompt)).score)
        return score, Notes.from_scores([score])
    except RejectedFile as error:
        raise MgenError(f"--prompt {prompt}: {error}; give another MIDI file") from error


def _windows(notes: Notes, steps: int) -> tuple[Longs, Longs, int]:
    """(W,) starts of windows from the first bar with a note, (W,) steps of each in 4/4, and those in other metres."""
    bars = notes.bars.select(slice(int(notes.bar.min(initial=0)), None))
    start, left_out = place_windows(bars, steps, whole=False)
    other = bars.onset[(bars.beats != 4) | (bars.unit != 4)]
    ends = np.append(other, bars.onset[-1] + bars.length[-1]).astype(np.int64)
    room = (ends[np.searchsorted(ends, start)] - start) // STEP
    return start, np.minimum(room, steps), left_out["other metre"]


def _program(notes: Notes) -> int:
    """The bass program of most notes; of a piece without a bass the usual one."""
    found = notes.program[is_bass(notes)]
    return int(np.bincount(found).argmax()) if len(found) else DEFAULT_PROGRAM


def _write(path: Path, notes: Notes, line: Bass, start: Longs, program: int, tempo: float) -> dict[str, Any]:
    """Writes a file; returns what index.json says of it."""
    assert program in BASS_PROGRAMS
    score = notes.select(notes.program < 0).to_score(0, tempo)
    bass = to_notes(None, line, start, program)
    if len(bass):
        score.tracks.append(bass.to_score(0).tracks[0])
    score.dump_midi(path)
    sounding = line < PITCHES
    return {
        "file": path.name,
        "notes": len(bass),
        "steps": int(line.size),
        "density": float((sounding | (line == HOLD)).mean()),
    }
