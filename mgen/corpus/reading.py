"""Reads one music file: repairs beats, cleans, splits into chunks, encodes as tokens. Workers run this.

Knows nothing of other files; `prepare` handles what depends on them (duplicates, works, splits).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from symusic import core

from mgen.corpus.beats import BEAT_STEPS, BeatRepair, repair_beats
from mgen.corpus.chunks import LONG_REST, MAX_SILENCE, Chunk, split_into_chunks
from mgen.corpus.clean import Recipe, clean_and_count, count_voices, drop_short_notes
from mgen.corpus.duplicates import content_hash, shingles, signature
from mgen.corpus.pedal import hold_pedal
from mgen.corpus.scan import Source
from mgen.corpus.tempo_map import DEFAULT_TEMPO, write_tempo_map
from mgen.encoding.remi import PITCH_RANGE, Remi
from mgen.encoding.tab_events import Voice
from mgen.encoding.tab_events import encode as encode_events
from mgen.errors import MgenError, RejectedFile
from mgen.formats.files import Music, read_music
from mgen.instruments import instrument_name
from mgen.notes import Notes
from mgen.time_signatures import signatures_in_effect

READER_VERSION = 3  # version of this module's results: files read by another version are read again
MIN_NOTES = 16


@dataclass(frozen=True, slots=True)
class Rules:
    """How every file is read.

    The recipe `piano` merges all instruments; `band` keeps programs and drums; `tabs` makes a piece of each chunk of
    each melodic track.
    """

    recipe: Recipe = "piano"
    skip: tuple[str, ...] = ()  # names of `clean.CLEANING_STEPS` to leave out
    min_notes: int = MIN_NOTES  # pieces with fewer are rejected
    max_notes: int = 0  # pieces with more are rejected, chunks of `tabs` cut; 0 is no upper bound
    min_voices: int = 0  # of simultaneous notes, see `clean.count_voices`
    max_voices: int = 0  # the same; 0 is no upper bound
    programs: tuple[int, ...] = ()  # keep only these, -1 for drums; all if empty
    pitches: tuple[int, int] = PITCH_RANGE  # lowest and highest pitch kept
    on_grid_only: bool = False  # reject pieces that were not written on the beat grid of their file
    long_rest: float = LONG_REST  # quarter notes of silence at which `tabs` splits a track
    max_silence: float = MAX_SILENCE  # `tabs` drops chunks that are silent for a larger share of their time
    pedal: bool = False  # lengthen the notes that the sustain pedal holds
    tab_events: bool = False  # also encode each piece as tab events; for the recipe `tabs`
    chord_note: Voice = "top"  # note of a chord that tab events keep, `top` or `bottom`
    velocity: bool = True  # write a velocity token for each note

    def uses(self, track: core.TrackTick) -> bool:
        """Whether the notes of a track can become notes of a piece."""
        program = -1 if track.is_drum else track.program
        return (program >= 0 or self.recipe == "band") and (not self.programs or program in self.programs)

    @property
    def fingerprint(self) -> str:
        """A hash; files read by the same rules need not be read again."""
        rules = asdict(self) | {"skip": sorted({*self.skip} - {"duplicates"})}  # duplicates are found after reading
        return hashlib.sha256(json.dumps([READER_VERSION, rules], sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Properties of a file before cleaning, kept because they may reveal the style.

    `tempo` is the first one, in quarters per minute; `time_signature` the first one as written; `velocities` the number
    of distinct values; `pedal` whether the sustain pedal is used.
    """

    format: str
    ticks_per_quarter: int
    tempo: float
    time_signature: str
    n_tracks: int
    n_tempos: int
    pedal: bool
    velocities: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a file: token ids (L,) of a vocabulary without styles, and its columns in the tables.

    `shingles` (S,), `signature` (K,) and `content` identify it, see `mgen.corpus.duplicates`. `events` (T, 4) are its
    tab events, empty unless requested. `track` and `chunk` are -1 for a whole file. `tempo_map` is empty
    but for the recipe `band`, see `mgen.corpus.tempo_map`.
    """

    facts: FileFacts
    instrument: str
    track: int
    chunk: int
    on_grid: bool
    grid_strength: float
    grid_offset: float
    metre: str
    voices: int
    n_programs: int
    n_notes: int
    n_bars: int
    n_tokens: int
    dropped_notes: int
    tempo_map: str
    ids: NDArray[np.uint16]
    shingles: NDArray[np.uint32]
    signature: NDArray[np.uint32]
    content: str
    events: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Reading:
    """The pieces of a file, or the reason why it has none.

    `notes` counts the notes that each step dropped or changed, `parts` the chunks dropped and the tracks split,
    `repairs` the faults of the file that were mended; all are empty for a file that cannot be read.
    """

    pieces: tuple[Piece, ...] = ()
    reason: str = ""
    detail: str = ""
    notes: dict[str, int] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    repairs: dict[str, int] = field(default_factory=dict)


@lru_cache(maxsize=4)
def vocabulary(multi: bool, velocity: bool = True) -> Remi:
    """The vocabulary without styles; with n styles, the ids of notes and bars are n higher."""
    return Remi.build((), multi, velocity)


def read_source(source: Source, rules: Rules) -> Reading:
    """Reads one file."""
    try:
        return _read_pieces(read_music(source.file, rules.uses), rules)
    except RejectedFile as error:
        return Reading(reason=error.reason, detail=error.detail)
    except MgenError as error:  # an extra is missing, and the name of the file does not say so
        return Reading(reason="not installed", detail=str(error))


def _read_pieces(music: Music, rules: Rules) -> Reading:
    facts = _file_facts(music)
    notes: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    score = music.score
    if rules.pedal:
        score, notes["pedal"] = hold_pedal(score)
    score, beats = repair_beats(score, [step for step in BEAT_STEPS if step not in rules.skip])
    retimed = "clock" not in rules.skip and not beats.on_grid
    for step, done in (("offset", beats.offset != 0.0), ("metre", bool(beats.metre)), ("clock", retimed)):
        notes[step] += score.note_num() * done
    if "short_notes" not in rules.skip:
        score, notes["short_notes"] = drop_short_notes(score)
    if rules.programs:
        score, notes["instruments"] = _keep_programs(score, rules.programs)
        if not score.note_num():
            raise RejectedFile("no such instrument", "no note of the instruments that were asked for")
    pieces: list[Piece] = []
    why: list[RejectedFile] = []
    for chunk in _split(score, rules, parts):
        try:
            pieces.append(_piece(chunk, facts, beats, rules, notes))
        except RejectedFile as error:
            if chunk.track >= 0:
                parts[error.reason] += 1
            why.append(error)
    if not pieces:
        dropped = ", ".join(f"{parts[name]} {name}" for name in ("short chunk", "mostly rests") if parts[name])
        first = why[0] if why else RejectedFile("no chunk", f"of {parts['found']} found: {dropped or 'none'}")
        return Reading((), first.reason, first.detail, dict(+notes), dict(+parts), dict(music.repairs))
    return Reading(tuple(pieces), notes=dict(+notes), parts=dict(+parts), repairs=dict(music.repairs))


def _split(score: core.ScoreTick, rules: Rules, counts: Counter[str]) -> list[Chunk]:
    if rules.recipe != "tabs":
        return [Chunk(-1, -1, score)]
    skip = rules.skip if rules.max_notes else (*rules.skip, "cut")
    found, dropped = split_into_chunks(
        score, rules.min_notes, rules.max_notes, rules.long_rest, rules.max_silence, skip
    )
    counts.update(dropped)
    return found


def _piece(chunk: Chunk, facts: FileFacts, beats: BeatRepair, rules: Rules, counts: Counter[str]) -> Piece:
    written = Notes.from_scores([chunk.score])
    notes, changed = clean_and_count(written, rules.recipe, rules.skip, rules.pitches)
    counts.update(changed)
    _check_rules(notes, beats, rules)
    (ids,) = vocabulary(rules.recipe == "band", rules.velocity).encode(notes)
    grams = shingles(notes)
    return Piece(
        facts=facts,
        instrument=_main_instrument(written),
        track=chunk.track,
        chunk=chunk.number,
        on_grid=beats.on_grid,
        grid_strength=beats.strength,
        grid_offset=beats.offset,
        metre=beats.metre,
        voices=count_voices(notes),
        n_programs=len(np.unique(notes.program)),
        n_notes=len(notes),
        n_bars=len(notes.bars.onset),
        n_tokens=len(ids),
        dropped_notes=changed["pitches"],
        tempo_map=_tempo_map(chunk.score, written, notes, rules) if rules.recipe == "band" else "",
        ids=ids.astype(np.uint16),
        shingles=grams,
        signature=signature(grams),
        content=content_hash(notes).hex(),
        events=_events(chunk.score, rules, counts),
    )


def _check_rules(notes: Notes, beats: BeatRepair, rules: Rules) -> None:
    """Raises `RejectedFile` unless the piece meets the rules."""
    if len(notes) < rules.min_notes:
        raise RejectedFile("too few notes", f"{len(notes)}, at least {rules.min_notes} make a piece")
    if rules.max_notes and len(notes) > rules.max_notes:
        raise RejectedFile("too many notes", f"{len(notes)}, at most {rules.max_notes} were asked for")
    if rules.on_grid_only and not beats.on_grid:
        raise RejectedFile("off grid", f"grid strength {beats.strength:.2f}")
    if rules.min_voices or rules.max_voices:
        found = count_voices(notes)
        if found < rules.min_voices or (rules.max_voices and found > rules.max_voices):
            most = rules.max_voices or "any number"
            raise RejectedFile("voices", f"{found} sound together, {rules.min_voices} to {most} were asked for")


def _keep_programs(score: core.ScoreTick, programs: tuple[int, ...]) -> tuple[core.ScoreTick, int]:
    """Drops the tracks of other programs; returns the score and the number of notes dropped."""
    wanted = [(-1 if track.is_drum else track.program) in programs for track in score.tracks]
    if all(wanted):
        return score, 0
    dropped = sum(len(track.notes) for track, keep in zip(score.tracks, wanted, strict=True) if not keep)
    kept = score.copy()
    for number in reversed(np.flatnonzero(~np.array(wanted)).tolist()):
        del kept.tracks[number]
    return kept, dropped


def _tempo_map(score: core.ScoreTick, written: Notes, notes: Notes, rules: Rules) -> str:
    low, high = PITCH_RANGE if "pitches" in rules.skip else rules.pitches
    kept = written.onset[(written.pitch >= low) & (written.pitch <= high)]
    return write_tempo_map(score, int(kept[0] - notes.onset[0]), int(notes.onset[-1]))


def _main_instrument(written: Notes) -> str:
    """Name of the instrument with the most notes, without drums."""
    programs = written.program[written.program >= 0]
    return instrument_name(int(np.bincount(programs).argmax())) if len(programs) else instrument_name(-1)


def _events(score: core.ScoreTick, rules: Rules, counts: Counter[str]) -> NDArray[np.uint8]:
    if not rules.tab_events:
        return np.zeros((0, 4), np.uint8)
    columns = score.tracks[0].notes.numpy()
    onset = columns["time"] - columns["time"].min()  # a chunk starts at its first note
    events, loss = encode_events(
        onset, columns["duration"], columns["pitch"], score.ticks_per_quarter, rules.chord_note
    )
    counts.update({f"tab_{name}": count for name, count in asdict(loss).items()})
    return events


def _file_facts(music: Music) -> FileFacts:
    score = music.score
    tempos = score.tempos.numpy()
    first = np.argmin(tempos["time"]) if len(tempos["time"]) else None
    signatures = signatures_in_effect(score)
    velocities = [track.notes.numpy()["velocity"] for track in score.tracks if len(track.notes)]
    return FileFacts(
        format=music.format,
        ticks_per_quarter=int(score.ticks_per_quarter),
        tempo=DEFAULT_TEMPO if first is None else round(6e7 / float(tempos["mspq"][first]), 3),
        time_signature=f"{signatures[0][1]}/{signatures[0][2]}" if signatures else "",
        n_tracks=len(velocities),
        n_tempos=len(tempos["time"]),
        pedal=any(len(track.pedals) for track in score.tracks),
        velocities=len(np.unique(np.concatenate(velocities))) if velocities else 0,
    )
