"""Repairs the beats and bars of a file whose tick grid does not match its music.

Three repairs before a score is rounded to the grid: a constant offset of all onsets is removed, a time signature that
is an artefact of the exporter or that tokens cannot write is replaced, and a performance without beats gets bars of two
seconds. Knows nothing of styles, instruments or tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from symusic import Note, core

from mgen.arrays import Floats
from mgen.errors import MgenError
from mgen.notes import MAX_BEATS, STEPS_PER_QUARTER
from mgen.time_signatures import Signature, signatures_in_effect

BeatStep = Literal["offset", "metre", "clock"]
BEAT_STEPS: tuple[BeatStep, ...] = get_args(BeatStep)

MIN_GRID_STRENGTH = 0.25
"""Grid strength from which a piece counts as written on the beat grid of its file.

Measured on 5357 files labelled by another method: 99.5 % of quantised files pass, 85 % of loosely played ones, 1.5 % of
free performances; of 353 solos with annotated beats and expressive onsets 93 %. With few onsets free playing passes by
chance: 16 onsets in 3 files of 10, 64 in 1 of 100.
"""

MIN_RESULTANT_LENGTH = 0.5
"""Resultant length from which onsets count as concentrated at one phase of a sixteenth or a triplet eighth.

Measured on 5436 files: of those quantised with an offset from the tick grid 95 % reach 0.81, free performances at most
0.27.
"""

MIN_ONSETS = 16  # with fewer distinct onsets a common phase may be chance, so offsets and bar lines are not estimated
MIN_OFFSET = 0.5 / STEPS_PER_QUARTER  # quarter notes; rounding to the grid removes smaller offsets

BEAT_ACCENT_MARGINS = (0.3, 1.0)
"""How much more accent another sixteenth needs than the beat to become the beat, for a piece whose sixteenths are on
the grid, in shares summed over three accents: for files with bars of at most a beat, and for other files.

Measured: of 1427 files on a grid with bars of quarters, 1.0 moves one.
"""

BAR_ACCENT_MARGIN = 0.35
"""How much more accent another beat needs than the first beat of the bar to become the first, in shares summed over
four accents, for a piece with plausible bars.
"""

TRIPLE_METRE_MARGIN = 0.3
"""Difference between the autocorrelation of accents at 3, 6 and 9 beats and that at 4, 8 and 12 from which bars have
three beats.
"""

MIN_STEADY_SHARE = 0.7
"""Share of a piece that bars of one time signature, all in phase, must cover for the partial bars between them to count
as upbeats and ends of repeats.
"""

MAX_ODD_SHARE = 0.2
"""Share of a piece that bars which are not of whole eighths (15/16) may cover for them to be made a little longer."""

CLOCK_TICKS = 480  # ticks per quarter of a score retimed to seconds; a tick is about a millisecond
_DEFAULT_TEMPO = 500_000  # microseconds per quarter of a file without a tempo: 120 quarter notes per minute
_MAX_DURATION = 4.0  # quarter notes; longer durations are no stronger accent

Signatures = list[Signature]
Retime = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class BeatRepair:
    """What `repair_beats` found and changed."""

    offset: float  # quarter notes of the music after the beat, in (-1/2, 1/2], removed; 0.0 for none
    metre: str  # time signatures replaced and their replacement, such as "1/4 -> 4/4"; empty if kept
    on_grid: bool  # whether the beats of the score are those of the music
    strength: float  # grid strength of the repaired score


@dataclass(frozen=True, slots=True, eq=False)
class _Sounds:
    """The N pitched notes of a score, sorted by onset."""

    onset: Floats  # (N,) quarter notes
    duration: Floats  # (N,) quarter notes, at most _LONGEST
    pitch: NDArray[np.int64]  # (N,) MIDI note number

    @classmethod
    def of(cls, score: core.ScoreTick) -> _Sounds:
        columns = [track.notes.numpy() for track in score.tracks if len(track.notes) and not track.is_drum]
        if not columns:
            return cls(np.zeros(0), np.zeros(0), np.zeros(0, np.int64))
        onset, duration, pitch = (
            np.concatenate([notes[name] for notes in columns]) for name in ("time", "duration", "pitch")
        )
        order = np.argsort(onset, kind="stable")
        quarter = score.ticks_per_quarter
        return cls(
            onset[order] / quarter, np.minimum(duration[order] / quarter, _MAX_DURATION), pitch[order].astype(np.int64)
        )

    def shift(self, quarters: float) -> _Sounds:
        """The same notes, `quarters` quarter notes later."""
        return _Sounds(self.onset + quarters, self.duration, self.pitch)


def repair_beats(score: core.ScoreTick, steps: Collection[str] = BEAT_STEPS) -> tuple[core.ScoreTick, BeatRepair]:
    """Aligns the beats and bars of a score with its music. Idempotent.

    Args:
        score: in the ticks of its file; not modified.
        steps: repairs to make, of `BEAT_STEPS`. `offset` moves the music so that its beats fall on the beats of the
            file; `metre` replaces time signatures that are artefacts of the exporter or that tokens cannot write, and
            moves the music so that its bars start on bar lines; `clock` makes bars of two seconds if there are no
            beats.

    Returns:
        The score and its `BeatRepair`. Notes keep their order and, except with `clock`, their durations in ticks.

    Raises:
        MgenError: A step does not exist.
    """
    unknown = set(steps) - set(BEAT_STEPS)
    if unknown:
        raise MgenError(f"steps names {', '.join(sorted(unknown))}; the repairs are {', '.join(BEAT_STEPS)}.")
    metre = ""
    if "metre" in steps:
        score, metre = merge_partial_bars(score)
        if not metre:
            score, metre = lengthen_odd_bars(score)
    offset = grid_offset(score) if "offset" in steps else 0.0
    if offset:
        score = remove_offset(score, offset)
    strength = grid_strength(np.rint(_Sounds.of(score).onset * STEPS_PER_QUARTER))
    on_grid = strength >= MIN_GRID_STRENGTH
    if on_grid and "metre" in steps and not metre:
        score, metre = replace_metre(score, moved_onto_grid=offset != 0)
    if on_grid or "clock" not in steps:
        return score, BeatRepair(offset, metre, on_grid, strength)
    retimed = retime_to_seconds(score)
    if _tempos(score) == {_DEFAULT_TEMPO}:
        return retimed, BeatRepair(offset, "", on_grid, strength)
    return repair_beats(retimed, steps)  # some files have beats of half a second after all


def grid_strength(steps: NDArray[Any]) -> float:
    """Concentration on the beat grid of onsets (N,) in whole grid steps: 1 if all are on it, about 0 for free playing.

    The mean cosine of the onsets' phase, for the best of the grids of 1, 2, 3 and 4 parts per beat. A constant offset
    from the grid lowers it.
    """
    turns = 2 * np.pi / STEPS_PER_QUARTER * np.arange(1, 5)[:, None] * steps
    return float(np.cos(turns).mean(axis=1).max()) if len(steps) else 0.0


def grid_offset(score: core.ScoreTick) -> float:
    """Constant offset of all onsets after the beats of the file, in quarter notes, in (-1/2, 1/2]; 0.0 for none.

    Onsets must be concentrated at one phase of a sixteenth or of a triplet eighth; the offset is the median phase near
    it. The beat is the sixteenth (triplet eighth) on which most, longest and lowest notes start. Pieces on the grid and
    free performances have no offset.
    """
    sounds = _Sounds.of(score)
    if len(np.unique(sounds.onset)) < MIN_ONSETS:
        return 0.0
    parts, phase = _find_phase(sounds.onset)
    if not parts:
        return 0.0
    here = abs(phase) < MIN_OFFSET
    accents = _beat_accents(sounds.shift(-phase), parts)
    best = int(np.argmax(accents))
    if here and (best == 0 or accents[best] < accents[0] + _accent_margin(_signatures(score), score.end())):
        return 0.0
    quarter = score.ticks_per_quarter
    ticks = round((phase + best / parts) * quarter) % quarter
    return (ticks - quarter * (2 * ticks > quarter)) / quarter


def remove_offset(score: core.ScoreTick, offset: float) -> core.ScoreTick:
    """Moves everything `offset` quarter notes earlier, and a bar later again if that would be before time 0.

    Time signatures stay on the beats: only those after time 0 move, by a whole bar.
    """
    ticks = round(offset * score.ticks_per_quarter)
    first = min((track.notes.numpy()["time"].min() for track in score.tracks if len(track.notes)), default=0)
    bar = _first_bar(score) if first < ticks else 0
    return _shift(score, bar - ticks, bar)


def merge_partial_bars(score: core.ScoreTick) -> tuple[core.ScoreTick, str]:
    """Merges upbeats and ends of repeats that are written as separate, partial bars; returns what replaced what.

    Applies if bars of one time signature, all in phase, cover nearly all the piece, and the others, some of which are
    not of whole quarters, fill at most one such bar at a time: the signature then holds throughout.
    """
    signatures = _signatures(score)
    if all(_bar_quarters(*signature).is_integer() for _, *signature in signatures):
        return score, ""
    times = np.array([time for time, *_ in signatures])
    spans = _spans(signatures, score.end())
    metres = [(numerator, denominator) for _, numerator, denominator in signatures]
    steady = max(dict.fromkeys(metres), key=lambda metre: spans[[metre == other for other in metres]].sum())
    bar = _bar_quarters(*steady) * score.ticks_per_quarter
    same = np.array([metre == steady for metre in metres])
    upbeat = -int(times[same][0]) % bar
    between = np.add.reduceat(np.where(same, 0, spans), np.flatnonzero(np.diff(same, prepend=~same[0])))
    if (
        same.all()
        or bar <= score.ticks_per_quarter
        or spans[same].sum() < MIN_STEADY_SHARE * spans.sum()
        or ((times[same] + upbeat) % bar).any()
        or between.max() > bar
    ):
        return score, ""
    return _replace_signatures(_shift(score, int(upbeat), 0), signatures, steady)


def lengthen_odd_bars(score: core.ScoreTick) -> tuple[core.ScoreTick, str]:
    """Makes bars that are not of whole eighths, which tokens cannot write, last until the next eighth.

    The music after them keeps its beats, that much later; a note held into it is that much longer. Returns what
    replaced what. A piece with more than `MAX_ODD_SHARE` of such bars is written at twice its note values if its beats
    are all of sixteenths (9/16), and else stays as it is.
    """
    signatures = _signatures(score)
    eighths = [8 * numerator / denominator for _, numerator, denominator in signatures]
    odd = np.array([not length.is_integer() for length in eighths], bool)
    if not odd.any():
        return score, ""
    spans = _spans(signatures, score.end())
    if spans[odd].sum() > MAX_ODD_SHARE * spans.sum():
        return _double_note_values(score, signatures)
    eighth = score.ticks_per_quarter / 2
    lines, longer = [-np.inf], [0.0]
    for number in np.flatnonzero(odd).tolist():
        begin, bar = signatures[number][0], eighths[number] * eighth
        begins = np.arange(begin, begin + spans[number], bar)
        ends = np.append(begins[1:], begin + spans[number])
        lines += ends.tolist()
        longer += (-(ends - begins) % eighth).tolist()
    shift = np.cumsum(longer)
    score = _retime(score, lambda when: np.rint(when + shift[np.searchsorted(lines, when, side="right") - 1]))
    written: dict[str, str] = {}
    metres: Any = []
    for tick, numerator, denominator in signatures_in_effect(score):
        if 8 * numerator % denominator:
            old, (numerator, denominator) = f"{numerator}/{denominator}", (8 * numerator // denominator + 1, 8)
            written[old] = f"{numerator}/{denominator}"
        metres.append(core.TimeSignatureTick(tick, numerator, denominator))
    score.time_signatures = metres
    return score, f"{' '.join(written)} -> {' '.join(dict.fromkeys(written.values()))}"


def _double_note_values(score: core.ScoreTick, signatures: Signatures) -> tuple[core.ScoreTick, str]:
    """Makes eighths of sixteenths, and plays them twice as fast, in a piece of which these are the beats."""
    if any(denominator != 16 for *_, denominator in signatures):
        return score, ""
    quarter = score.ticks_per_quarter
    score = score.resample(2 * quarter, 0)
    score.ticks_per_quarter = quarter
    tempos: Any = [core.TempoTick(tempo.time, mspq=tempo.mspq // 2) for tempo in score.tempos]
    tempos = tempos or [core.TempoTick(0, mspq=_DEFAULT_TEMPO // 2)]
    metres: Any = [core.TimeSignatureTick(2 * tick, numerator, 8) for tick, numerator, _ in signatures]
    score.tempos, score.time_signatures = tempos, metres
    old, new = (" ".join(dict.fromkeys(f"{numerator}/{unit}" for _, numerator, _ in signatures)) for unit in (16, 8))
    return score, f"{old} -> {new}"


def replace_metre(score: core.ScoreTick, moved_onto_grid: bool = False) -> tuple[core.ScoreTick, str]:
    """Replaces time signatures that are artefacts of the exporter; returns what replaced what.

    These are signatures that mostly give bars of one beat or less. The new bars have four beats, or three if accents
    recur clearly better at three, and start on the beat with most change of harmony and the longest and lowest notes.

    Args:
        score: a score on the beats of its file.
        moved_onto_grid: the music was offset from these beats, so the bar lines are doubtful too: bars of two beats
            become bars of four or three, bars of four become bars of three if accents recur clearly better so, and bars
            start on another beat if it is clearly stronger.
    """
    signatures = _signatures(score)
    lengths = [_bar_quarters(*signature) for _, *signature in signatures]
    one_beat_bars = _has_one_beat_bars(signatures, score.end())
    in_quarters = all(denominator <= 4 for *_, denominator in signatures)
    plausible = in_quarters and len(set(lengths)) <= 1 and set(lengths) <= set(range(2, MAX_BEATS[4] + 1))
    if not one_beat_bars and not (moved_onto_grid and plausible):
        return score, ""
    sounds = _Sounds.of(score)
    few = len(np.unique(sounds.onset)) < MIN_ONSETS
    if few and not one_beat_bars:
        return score, ""
    beats = int(lengths[0]) if lengths and not one_beat_bars else 4
    numerator, denominator = signatures[0][1:] if signatures and not one_beat_bars else (4, 4)
    if not few and (one_beat_bars or beats in {2, 4}):
        beats = 3 if _triple_metre_score(sounds) > TRIPLE_METRE_MARGIN else 4
        numerator, denominator = beats, 4
    best = 0
    if not few:
        accents = _bar_accents(sounds, beats)
        best = int(np.argmax(accents))
        if not one_beat_bars and accents[best] < accents[0] + BAR_ACCENT_MARGIN:
            best = 0
    score = _shift(score, -best % beats * score.ticks_per_quarter, 0)
    return _replace_signatures(score, signatures, (numerator, denominator))


def retime_to_seconds(score: core.ScoreTick) -> core.ScoreTick:
    """Retimes a score to 120 quarter notes per minute and 4/4 throughout, so that a bar lasts 2 seconds.

    Ticks stay unchanged if the file is at 120 already; otherwise a quarter note has `CLOCK_TICKS`.
    """
    if _tempos(score) == {_DEFAULT_TEMPO}:
        score = score.copy()
    else:
        score = _retime(score, _clock_of_tempos(score))
        score.ticks_per_quarter = CLOCK_TICKS
    tempos: Any = [core.TempoTick(0, mspq=_DEFAULT_TEMPO)]
    score.tempos = tempos
    _set_signature(score, 4, 4)
    return score


def _clock_of_tempos(score: core.ScoreTick) -> Retime:
    """A function from ticks of the score to ticks of `CLOCK_TICKS`, by the tempo map."""
    tempos = score.tempos.numpy()
    order = np.argsort(tempos["time"], kind="stable")
    time, mspq = tempos["time"][order].astype(np.int64), tempos["mspq"][order].astype(np.float64)
    pace = np.append(_DEFAULT_TEMPO, mspq) / _DEFAULT_TEMPO * CLOCK_TICKS / score.ticks_per_quarter
    ticks = np.concatenate([[0], time, [np.iinfo(np.int32).max]])
    clock = np.append(0.0, np.cumsum(np.diff(ticks) * pace))
    return lambda when: np.rint(np.interp(when, ticks, clock))


def _tempos(score: core.ScoreTick) -> set[int]:
    """All tempos of the score, in microseconds per quarter note."""
    tempos = score.tempos
    written = {tempo.mspq for tempo in tempos}
    return written if any(tempo.time <= 0 for tempo in tempos) else written | {_DEFAULT_TEMPO}


def _find_phase(onset: Floats) -> tuple[int, float]:
    """Parts per beat, 4 or 3, of the grid at one phase of which onsets concentrate (0: none); the phase in quarters."""
    four, three = (complex(np.exp(2j * np.pi * parts * onset).mean()) for parts in (4, 3))
    parts, mean = (3, three) if abs(three) > abs(four) + 0.01 else (4, four)  # onsets on both grids count as sixteenths
    if abs(mean) < MIN_RESULTANT_LENGTH:
        return 0, 0.0
    phase = float(np.angle(mean)) / (2 * np.pi * parts)
    distance = (onset - phase) * parts
    distance = (distance - np.rint(distance)) / parts
    near = np.abs(distance) <= 1 / STEPS_PER_QUARTER  # the mean alone is biased by other onsets
    return parts, phase + float(np.median(distance[near])) if near.any() else phase


def _phase_shares(phase: NDArray[np.int64], weight: NDArray[Any], period: int) -> Floats:
    """(period,) share of the total weight at each phase."""
    total = np.bincount(phase, weights=weight, minlength=period)
    share: Floats = total / max(float(total.sum()), 1e-9)
    return share


def _low_durations(sounds: _Sounds) -> Floats:
    """(N,) durations of the lowest 30 % of the notes, 0 for the others."""
    return np.where(sounds.pitch <= np.quantile(sounds.pitch, 0.3), sounds.duration, 0.0)


def _beat_accents(sounds: _Sounds, parts: int) -> Floats:
    """(parts,) accent of each part of the beat: the sum of its shares of onsets, durations and low durations."""
    part = np.rint(sounds.onset * parts).astype(np.int64) % parts
    weights = (np.ones(len(part)), sounds.duration, _low_durations(sounds))
    accents: Floats = np.sum([_phase_shares(part, weight, parts) for weight in weights], axis=0)
    return accents


def _beat_accent_table(sounds: _Sounds) -> Floats:
    """(4, M) accents of each beat from time 0: durations and low durations of notes starting there, and changes of
    harmony over one and two beats.

    Each row sums to 1. Durations count within an eighth before and after the beat.
    """
    beat = np.rint(sounds.onset).astype(np.int64)
    near = np.abs(sounds.onset - beat) <= 0.25
    beats = int(np.ceil((sounds.onset + sounds.duration).max())) + 1
    begun = [np.bincount(beat[near], weight[near], beats) for weight in (sounds.duration, _low_durations(sounds))]
    chroma = _chroma(sounds, beats)
    table: Floats = np.array([*begun, _harmonic_change(chroma, 1), _harmonic_change(chroma, 2)])
    whole: Floats = np.maximum(table.sum(axis=1, keepdims=True), 1e-9)
    return np.divide(table, whole)


def _chroma(sounds: _Sounds, beats: int) -> Floats:
    """(12, beats) sounding time of each pitch class in each beat, in quarter notes."""
    name = sounds.pitch % 12
    sounded = np.zeros((12, beats + 1))
    edges = np.arange(beats + 1)
    # a note has sounded max(0, edge - onset) - max(0, edge - end) before an edge
    for time, sign in ((sounds.onset, 1), (sounds.onset + sounds.duration, -1)):
        place = name * (beats + 2) + np.ceil(time).astype(np.int64)
        count, sums = (
            np.cumsum(np.bincount(place, weights=weight, minlength=12 * (beats + 2)).reshape(12, -1), axis=1)[:, :-1]
            for weight in (np.ones(len(time)), time)
        )
        sounded += sign * (count * edges - sums)
    return np.diff(sounded, axis=1)


def _harmonic_change(chroma: Floats, beats: int) -> Floats:
    """(M,) 1 minus the cosine of the pitch classes in the `beats` before and after each beat; 0 at both ends."""
    change = np.zeros(chroma.shape[1])
    if chroma.shape[1] < 2 * beats:
        return change
    total = np.cumsum(np.pad(chroma, ((0, 0), (1, 0))), axis=1)
    window = total[:, beats:] - total[:, :-beats]
    before, after = window[:, :-beats], window[:, beats:]
    length = np.linalg.norm(before, axis=0) * np.linalg.norm(after, axis=0)
    same = (before * after).sum(axis=0)
    change[beats : beats + len(same)] = np.where(length > 1e-9, 1 - same / np.maximum(length, 1e-9), 0.0)
    return change


def _bar_accents(sounds: _Sounds, beats: int) -> Floats:
    """(beats,) accent of each beat of the bar, the sum of four shares."""
    table = _beat_accent_table(sounds)
    phase = np.arange(table.shape[1]) % beats
    accents: Floats = np.sum([_phase_shares(phase, row, beats) for row in table], axis=0)
    return accents


def _triple_metre_score(sounds: _Sounds) -> float:
    """Autocorrelation of accents at 3, 6 and 9 beats minus that at 4, 8 and 12 beats."""
    curve = _beat_accent_table(sounds).sum(axis=0)
    curve = curve - curve.mean()
    power = float((curve**2).sum())
    if len(curve) < 24 or power < 1e-12:
        return 0.0
    three, four = (
        np.mean([float((curve[lag:] * curve[:-lag]).sum()) for lag in (beats, 2 * beats, 3 * beats)])
        for beats in (3, 4)
    )
    return float(three - four) / power


def _signatures(score: core.ScoreTick) -> Signatures:
    """(tick, numerator, denominator) of the time signatures in effect until the last onset.

    A first signature within the first beat holds from the start; before a later one it is 4/4.
    """
    last = max((int(track.notes.numpy()["time"].max()) for track in score.tracks if len(track.notes)), default=0)
    held = [signature for signature in signatures_in_effect(score) if signature[0] <= last]
    return [(0, 4, 4), *held] if held and held[0][0] > score.ticks_per_quarter else held


def _bar_quarters(numerator: int, denominator: int) -> float:
    """Length of a bar in quarter notes."""
    return 4 * numerator / denominator


def _spans(signatures: Signatures, end: int) -> NDArray[np.int64]:
    """Ticks for which each time signature holds, the last one until tick `end`."""
    return np.diff([time for time, *_ in signatures], append=max(end, signatures[-1][0] + 1))


def _first_bar(score: core.ScoreTick) -> int:
    """Length of the first bar in ticks."""
    signatures = _signatures(score)
    length = _bar_quarters(*signatures[0][1:]) if signatures and signatures[0][0] <= 0 else 4.0
    return round(length * score.ticks_per_quarter)


def _shift(score: core.ScoreTick, ticks: int, bars: int) -> core.ScoreTick:
    """Moves everything `ticks` later, but not before time 0, and time signatures after time 0 `bars` ticks later."""
    signatures: Any = [
        core.TimeSignatureTick(s.time + bars if s.time > 0 else 0, s.numerator, s.denominator)
        for s in score.time_signatures
    ]
    moved = _retime(score, lambda when: np.maximum(when + ticks, 0))
    moved.time_signatures = signatures
    for old, new in zip(score.tempos, moved.tempos, strict=True):
        if old.time <= 0:
            new.time = 0  # the first tempo holds from time 0
    return moved


def _has_one_beat_bars(signatures: Signatures, end: int) -> bool:
    """Whether bars of one beat or less cover most of the time until tick `end`."""
    if not signatures:
        return False
    spans = _spans(signatures, end)
    short = np.array([_bar_quarters(*signature) <= 1 for _, *signature in signatures])
    return bool(2 * spans[short].sum() > spans.sum())


def _accent_margin(signatures: Signatures, end: int) -> float:
    """Entry of `BEAT_ACCENT_MARGINS` for these signatures; infinite if the beat is not a quarter."""
    if _has_one_beat_bars(signatures, end):
        return BEAT_ACCENT_MARGINS[0]
    return BEAT_ACCENT_MARGINS[1] if all(denominator <= 4 for *_, denominator in signatures) else np.inf


def _replace_signatures(
    score: core.ScoreTick, signatures: Signatures, signature: tuple[int, int]
) -> tuple[core.ScoreTick, str]:
    """Sets one time signature, in place, and describes the replacement."""
    _set_signature(score, *signature)
    old = " ".join(dict.fromkeys(f"{numerator}/{denominator}" for _, numerator, denominator in signatures))
    new = "{}/{}".format(*signature)
    return score, "" if old in {"", new} else f"{old} -> {new}"


def _retime(score: core.ScoreTick, at: Retime) -> core.ScoreTick:
    """A copy in which events at tick x are at tick `at(x)`; durations above 0 stay above 0."""
    score = score.copy()
    events: list[Any] = [score.tempos, score.time_signatures, score.key_signatures, score.markers]
    for track in score.tracks:
        columns = track.notes.numpy()
        onset, duration = _retime_notes(at, columns["time"], columns["duration"])
        notes: Any = Note.from_numpy(onset, duration, columns["pitch"], columns["velocity"])
        track.notes = notes
        events += [track.controls, track.pitch_bends, track.pedals, track.lyrics]
    for some in events:
        when = [event.time for event in some]
        length = [getattr(event, "duration", 0) for event in some]
        for event, time, duration in zip(some, *_retime_notes(at, np.array(when), np.array(length)), strict=True):
            event.time = int(time)
            if hasattr(event, "duration"):
                event.duration = int(duration)
    return score


def _retime_notes(
    at: Retime, time: NDArray[Any], duration: NDArray[Any]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Onsets and durations (N,) in new ticks."""
    onset, end = at(time), at(time + duration)
    return onset.astype(np.int32), np.maximum(end - onset, duration > 0).astype(np.int32)


def _set_signature(score: core.ScoreTick, numerator: int, denominator: int) -> None:
    signatures: Any = [core.TimeSignatureTick(0, numerator, denominator)]
    score.time_signatures = signatures
