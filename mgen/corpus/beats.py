"""Beats: a file whose grid lies beside its music gets beats and bars that mean something.

Three repairs, before a score is rounded to the grid: an offset of all onsets is removed, a time signature that only
its exporter wrote is replaced, and a performance that knows no beats gets bars of two seconds. Nothing here knows
styles, instruments or tokens.
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
from mgen.notes import MAX_BEATS, STEPS_PER_QUARTER, Notes

BeatStep = Literal["offset", "metre", "clock"]
BEAT_STEPS: tuple[BeatStep, ...] = get_args(BeatStep)

MIN_GRID_STRENGTH = 0.25
"""Grid strength from which a piece counts as written on the beat grid of its file.

Measured on 5357 files labelled by another method: 99.5 % of quantised files pass, 85 % of loosely played ones, 1.5 %
of free performances; of 353 solos with annotated beats and expressive onsets 93 %. Few onsets gather by chance: 16
free ones pass in 3 files of 10, 64 in 1 of 100.
"""

MIN_RESULTANT_LENGTH = 0.5
"""Resultant length from which onsets count as gathered at one phase of a sixteenth or a triplet eighth.

Measured on 5436 files: of those quantised beside the tick grid 95 % reach 0.81, free performances at most 0.27.
"""

MIN_ONSETS = 16
"""Fewer distinct onsets gather at some phase by chance, so no offset and no bar line is looked for."""

MIN_OFFSET = 0.5 / STEPS_PER_QUARTER
"""Quarter notes; rounding to the grid takes a smaller offset away on its own."""

BEAT_ACCENT_MARGINS = (0.3, 1.0)
"""How much stronger another sixteenth must be accented than the beat, in shares summed over three accents, to be the
beat of a piece whose sixteenths are on the grid: where the file states no bars longer than a beat, and where it does.

Measured: of 1427 files that keep to a grid and state bars of quarters, 1.0 moves one.
"""

BAR_ACCENT_MARGIN = 0.35
"""How much stronger another beat must be accented than the first of the bar, in shares summed over four accents, to
begin the bars of a piece that states its bars plausibly.
"""

TRIPLE_METRE_MARGIN = 0.3
"""How much better accents must recur after 3, 6 and 9 beats than after 4, 8 and 12, as a difference of correlations,
for bars of three.
"""

MIN_STEADY_SHARE = 0.7
"""Share of a piece that the bars of one time signature must cover, all in step, for partial bars between them to be
upbeats and ends of repeats.
"""

CLOCK_TICKS = 480
"""Ticks a quarter note of a score that was put on the clock; a tick is about a millisecond."""

_DEFAULT_TEMPO = 500_000  # microseconds a quarter, where a file states none: 120 quarter notes a minute
_MAX_DURATION = 4.0  # quarter notes of a duration that count: a pedal point is no stronger accent than a held chord

Signatures = list[tuple[int, int, int]]
Retime = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class BeatRepair:
    """What `repair_beats` found and did.

    Attributes:
        offset: quarter notes that the music came after the beat, in (-1/2, 1/2]; removed, 0.0 if there were none.
        metre: the time signatures that were replaced, and by what, such as "1/4 -> 4/4"; empty if they stay.
        on_grid: the beats of the score are the music's beats.
        strength: grid strength of the score as it is now.
    """

    offset: float
    metre: str
    on_grid: bool
    strength: float


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
        """The same notes so many quarter notes later."""
        return _Sounds(self.onset + quarters, self.duration, self.pitch)


def repair_beats(score: core.ScoreTick, steps: Collection[str] = BEAT_STEPS) -> tuple[core.ScoreTick, BeatRepair]:
    """One score on its own beats, and what had to be done; repairing it again changes nothing.

    Args:
        score: as the file has it, in its own ticks; it is not changed.
        steps: which repairs to make, of `BEAT_STEPS`. `offset` moves the music so that its beats fall on the
            beats of the file; `metre` replaces time signatures that only the exporter wrote, and moves the music so
            that its bars begin on bar lines; `clock` makes bars of two seconds where there are no beats.

    Returns:
        The score and its `BeatRepair`. Notes keep their order and, but for `clock`, their durations in ticks.

    Raises:
        MgenError: `steps` names no repair.
    """
    unknown = set(steps) - set(BEAT_STEPS)
    if unknown:
        raise MgenError(f"steps names {', '.join(sorted(unknown))}; the repairs are {', '.join(BEAT_STEPS)}.")
    metre = ""
    if "metre" in steps:
        score, metre = merge_partial_bars(score)
    offset = grid_offset(score) if "offset" in steps else 0.0
    if offset:
        score = remove_offset(score, offset)
    strength = _strength(np.rint(_Sounds.of(score).onset * STEPS_PER_QUARTER))
    on_grid = strength >= MIN_GRID_STRENGTH
    if on_grid and "metre" in steps and not metre:
        score, metre = replace_metre(score, moved_onto_grid=offset != 0)
    if on_grid or "clock" not in steps:
        return score, BeatRepair(offset, metre, on_grid, strength)
    retimed = retime_to_seconds(score)
    if _tempos(score) == {_DEFAULT_TEMPO}:
        return retimed, BeatRepair(offset, "", on_grid, strength)
    return repair_beats(retimed, steps)  # some files have beats after all, of half a second


def grid_strength(notes: Notes) -> float:
    """How strongly onsets gather on the beat grid: 1 if all lie on it, about 0 if they know nothing of it.

    The mean cosine of the onsets' phase, for the best of the grids of 1, 2, 3 and 4 parts a beat: free
    playing scores 0 on each, and a constant offset from the grid lowers it, as it should.
    """
    return _strength(notes.onset[notes.program >= 0])


def grid_offset(score: core.ScoreTick) -> float:
    """Quarter notes, in (-1/2, 1/2], by which all onsets come after the beats of the file; 0.0 if they do not.

    Onsets must gather strongly at one phase of a sixteenth or of a triplet eighth. That phase is the middle of those
    near it. Which of the four sixteenths (three triplet eighths) is the beat is told by where most, longest and
    lowest notes begin. Pieces on the grid and free performances have none.
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
    """The score with everything `offset` quarter notes earlier, or, if that were before time 0, a bar later again.

    Time signatures stay on the beats: only a whole bar moves them, but for the first ones.
    """
    ticks = round(offset * score.ticks_per_quarter)
    first = min((track.notes.numpy()["time"].min() for track in score.tracks if len(track.notes)), default=0)
    bar = _first_bar(score) * score.ticks_per_quarter if first < ticks else 0
    return _shift(score, bar - ticks, bar)


def merge_partial_bars(score: core.ScoreTick) -> tuple[core.ScoreTick, str]:
    """The score without upbeats and ends of repeats that are written as bars of their own, and what replaced what.

    Only where such bars are not of whole quarter notes, so that they cannot be written, and where the bars of one
    time signature hold for nearly all the piece and are in step: those bars stay where they are, and become bars
    throughout.
    """
    signatures = _signatures(score)
    lengths = [_bar_quarters(*signature) for _, *signature in signatures]
    if all(length in range(1, MAX_BEATS + 1) for length in lengths) or _has_one_beat_bars(signatures, score.end()):
        return score, ""
    spans = np.diff([time for time, *_ in signatures], append=max(signatures[-1][0] + 1, score.end()))
    best, steady, upbeat = 0.0, (4, 4), 0
    for (time, *signature), length in zip(signatures, lengths, strict=True):
        if length not in range(2, MAX_BEATS + 1):
            continue
        bar = int(length) * score.ticks_per_quarter
        same = [other == signature and (when - time) % bar == 0 for when, *other in signatures]
        share = float(spans[same].sum() / spans.sum())
        if share > best:
            best, steady, upbeat = share, (signature[0], signature[1]), -time % bar
    if best < MIN_STEADY_SHARE:
        return score, ""
    return _replace_signatures(_shift(score, upbeat, 0), signatures, steady)


def replace_metre(score: core.ScoreTick, moved_onto_grid: bool = False) -> tuple[core.ScoreTick, str]:
    """The score in bars of its own, if those it states only come from an exporter, and what was replaced by what.

    Replaced are time signatures that mostly make bars of one beat or less, or of no possible length: the new bars
    have four beats, or three if accents recur clearly better so, and begin where most change of harmony and the
    longest and lowest notes fall.

    Args:
        score: a score on the beats of its file.
        restless: its music lay beside these beats, so the bar lines that it states are doubtful: bars of two beats
            become bars of four or three, bars of four become bars of three where accents recur clearly better so,
            and bars begin on another beat where it is clearly stronger.
    """
    signatures = _signatures(score)
    lengths = [_bar_quarters(*signature) for _, *signature in signatures]
    one_beat_bars = _has_one_beat_bars(signatures, score.end())
    plausible = len(set(lengths)) <= 1 and set(lengths) <= set(range(2, MAX_BEATS + 1))
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
    """The score in seconds: 120 quarter notes a minute and 4/4 throughout, so that a bar means 2 seconds.

    Ticks stay as they are where the file is at 120 already; otherwise a quarter note has `CLOCK_TICKS`.
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
    """Ticks of the score to ticks of the clock, by the tempo map."""
    tempos = score.tempos.numpy()
    order = np.argsort(tempos["time"], kind="stable")
    time, mspq = tempos["time"][order].astype(np.int64), tempos["mspq"][order].astype(np.float64)
    pace = np.append(_DEFAULT_TEMPO, mspq) / _DEFAULT_TEMPO * CLOCK_TICKS / score.ticks_per_quarter
    ticks = np.concatenate([[0], time, [np.iinfo(np.int32).max]])
    clock = np.append(0.0, np.cumsum(np.diff(ticks) * pace))
    return lambda when: np.rint(np.interp(when, ticks, clock))


def _strength(step: NDArray[Any]) -> float:
    """Grid strength of onsets (N,) in whole grid steps."""
    turns = 2 * np.pi / STEPS_PER_QUARTER * np.arange(1, 5)[:, None] * step
    return float(np.cos(turns).mean(axis=1).max()) if len(step) else 0.0


def _tempos(score: core.ScoreTick) -> set[int]:
    """Microseconds a quarter note that hold somewhere."""
    tempos = score.tempos
    written = {tempo.mspq for tempo in tempos}
    return written if any(tempo.time <= 0 for tempo in tempos) else written | {_DEFAULT_TEMPO}


def _find_phase(onset: Floats) -> tuple[int, float]:
    """Parts of a beat, 4 or 3, at one phase of which onsets gather (0 if none), and that phase in quarter notes."""
    four, three = (complex(np.exp(2j * np.pi * parts * onset).mean()) for parts in (4, 3))
    parts, mean = (3, three) if abs(three) > abs(four) + 0.01 else (4, four)  # what is on both is on sixteenths
    if abs(mean) < MIN_RESULTANT_LENGTH:
        return 0, 0.0
    phase = float(np.angle(mean)) / (2 * np.pi * parts)
    distance = (onset - phase) * parts
    distance = (distance - np.rint(distance)) / parts
    near = np.abs(distance) <= 1 / STEPS_PER_QUARTER  # the mean alone is drawn aside by what is played elsewhere
    return parts, phase + float(np.median(distance[near])) if near.any() else phase


def _phase_shares(phase: NDArray[np.int64], weight: NDArray[Any], period: int) -> Floats:
    """(period,) share of all weight at each phase."""
    total = np.bincount(phase, weights=weight, minlength=period)
    share: Floats = total / max(float(total.sum()), 1e-9)
    return share


def _low_durations(sounds: _Sounds) -> Floats:
    """(N,) durations of the lowest three notes of ten, 0 for the others."""
    return np.where(sounds.pitch <= np.quantile(sounds.pitch, 0.3), sounds.duration, 0.0)


def _beat_accents(sounds: _Sounds, parts: int) -> Floats:
    """(parts,) how strongly each part of the beat is accented: shares of onsets, of durations and of low durations."""
    part = np.rint(sounds.onset * parts).astype(np.int64) % parts
    weights = (np.ones(len(part)), sounds.duration, _low_durations(sounds))
    accents: Floats = np.sum([_phase_shares(part, weight, parts) for weight in weights], axis=0)
    return accents


def _beat_accent_table(sounds: _Sounds) -> Floats:
    """(4, M) of each beat from time 0: durations and low durations that begin, changes of harmony by one and two beats.

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
    """(12, beats) quarter notes that each pitch class sounds in each beat."""
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
    """(beats,) how strongly each beat of the bar is accented, the sum of four shares."""
    table = _beat_accent_table(sounds)
    phase = np.arange(table.shape[1]) % beats
    accents: Floats = np.sum([_phase_shares(phase, row, beats) for row in table], axis=0)
    return accents


def _triple_metre_score(sounds: _Sounds) -> float:
    """How much better accents recur after 3, 6 and 9 beats than after 4, 8 and 12, as a difference of correlations."""
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
    """(tick, numerator, denominator) of the time signatures that hold somewhere; of those at one tick the last.

    What comes within the first beat was meant for the beginning; before a later one it is 4/4.
    """
    last = max((int(track.notes.numpy()["time"].max()) for track in score.tracks if len(track.notes)), default=0)
    ordered = sorted(score.time_signatures, key=lambda signature: signature.time)
    held = {s.time: (s.time, s.numerator, s.denominator) for s in ordered if s.time <= last}
    if held and min(held) > score.ticks_per_quarter:
        held = {0: (0, 4, 4), **held}
    return list(held.values())


def _bar_quarters(numerator: int, denominator: int) -> float:
    """Length of a bar in quarter notes, 0.0 for a time signature that cannot be."""
    possible = numerator > 0 and denominator > 0 and denominator & (denominator - 1) == 0
    return 4 * numerator / denominator if possible else 0.0


def _first_bar(score: core.ScoreTick) -> int:
    """Whole quarter notes of the first bar, 4 where it is not of whole quarter notes."""
    signatures = _signatures(score)
    length = _bar_quarters(*signatures[0][1:]) if signatures and signatures[0][0] <= 0 else 4.0
    return int(length) if length in range(1, MAX_BEATS + 1) else 4


def _shift(score: core.ScoreTick, ticks: int, bars: int) -> core.ScoreTick:
    """All so many ticks later, but none before time 0; time signatures that come after time 0 `bars` ticks later."""
    signatures: Any = [
        core.TimeSignatureTick(s.time + bars if s.time > 0 else 0, s.numerator, s.denominator)
        for s in score.time_signatures
    ]
    moved = _retime(score, lambda when: np.maximum(when + ticks, 0))
    moved.time_signatures = signatures
    for old, new in zip(score.tempos, moved.tempos, strict=True):
        if old.time <= 0:
            new.time = 0  # what held at the beginning holds before it, too
    return moved


def _has_one_beat_bars(signatures: Signatures, end: int) -> bool:
    """Whether bars of one beat or less, or of no possible length, take up most of the time until tick `end`."""
    if not signatures:
        return False
    spans = np.diff([time for time, *_ in signatures], append=max(end, signatures[-1][0] + 1))
    short = np.array([_bar_quarters(*signature) <= 1 for _, *signature in signatures])
    return bool(2 * spans[short].sum() > spans.sum())


def _accent_margin(signatures: Signatures, end: int) -> float:
    """How much stronger another sixteenth must be accented than the stated beat; infinite where that is no quarter."""
    if _has_one_beat_bars(signatures, end):
        return BEAT_ACCENT_MARGINS[0]
    return BEAT_ACCENT_MARGINS[1] if all(denominator <= 4 for *_, denominator in signatures) else np.inf


def _replace_signatures(
    score: core.ScoreTick, signatures: Signatures, signature: tuple[int, int]
) -> tuple[core.ScoreTick, str]:
    """The score with one time signature, which is not copied, and what it replaces."""
    _set_signature(score, *signature)
    old = " ".join(dict.fromkeys(f"{numerator}/{denominator}" for _, numerator, denominator in signatures))
    new = "{}/{}".format(*signature)
    return score, "" if old in {"", new} else f"{old} -> {new}"


def _retime(score: core.ScoreTick, at: Retime) -> core.ScoreTick:
    """A copy in which what came at tick x comes at tick `at(x)`; what had a duration keeps one."""
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
