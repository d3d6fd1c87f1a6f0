"""What to listen for in a piece, from the numbers of that piece alone."""

from __future__ import annotations

import numpy as np

from mgen.music.metrics import METRICS
from mgen.notes import Notes

_LOOP, _SILENT = 0.3, 0.2  # shares of notes in one loop and of silent beats that are worth a word


def describe_piece(notes: Notes, style: str = "", probability: float | None = None, ends: bool = False) -> str:
    """Words on one piece: the judge's probability, repetition, silence, its end.

    Args:
        notes: one piece, without its prompt.
        style: of the judge.
        probability: of the style, by the evaluation's judge; None without a judge.
        ends: whether the piece ends by itself.
    """
    if not len(notes):
        return "no notes"
    value = {name: float(METRICS[name](notes)[0]) for name in ("rep4", "longest_loop", "empty_beats", "valid")}
    times = most_repeated_bar(notes)
    parts = [f"{style} probability {probability:.2f} by the judge"] if probability is not None else []
    if value["longest_loop"] > _LOOP:
        parts.append(f"{_percent(value['longest_loop'])} of the notes are one figure again and again")
    parts.append(f"one bar {times} times" if times > 1 else "no bar twice")
    if np.isfinite(value["rep4"]):
        parts.append(f"{_percent(value['rep4'])} of four-note figures return")
    if value["empty_beats"] > _SILENT:
        parts.append(f"{_percent(value['empty_beats'])} of the beats are silent")
    if value["valid"] == 0:
        parts.append("breaks the grammar")
    parts.append("ends" if ends else f"{len(notes)} notes, then cut")
    return "; ".join(parts)


def most_repeated_bar(notes: Notes) -> int:
    """How often the most frequent bar with notes occurs in one piece: the same onsets, pitches and instruments."""
    bars: dict[int, list[tuple[int, int, int]]] = {}
    columns = (notes.bar, notes.position, notes.program, notes.pitch)
    for bar, *note in zip(*(column.tolist() for column in columns), strict=True):
        bars.setdefault(bar, []).append((note[0], note[1], note[2]))
    contents = [tuple(bar) for bar in bars.values()]
    return max(map(contents.count, contents), default=0)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
