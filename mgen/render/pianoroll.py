"""Piano-rolls as inline SVG.

A drawing carries classes and `currentColor` only: it follows the page it stands in, dark or light, and is
legible with no style sheet at all. `PIANOROLL_CSS` gives it its colours.
"""

from __future__ import annotations

from html import escape

import numpy as np
from numpy.typing import NDArray
from pretty_midi import program_to_instrument_name

from mgen.errors import MgenError
from mgen.notes import STEPS_PER_QUARTER, Bars, Notes

PIANOROLL_CSS = """
.pr { display: block; width: 100%; height: auto; color: inherit; --pr-given: #7d7a72;
  --pr-0: #0b6e75; --pr-1: #b4531f; --pr-2: #6b4aa0; --pr-3: #8a6d00; --pr-4: #a8316e; }
@media screen and (prefers-color-scheme: dark) {
  .pr { --pr-given: #a5a29a;
    --pr-0: #57c4c9; --pr-1: #f09a62; --pr-2: #b79cf0; --pr-3: #dcbc4c; --pr-4: #f08abb; }
}
.pr text { font: 10.5px/1 system-ui, sans-serif; fill: currentColor; fill-opacity: .75; }
.pr tspan { fill-opacity: 1; }
.pr .pr-given { fill: var(--pr-given); }
.pr .pr-p0 { fill: var(--pr-0); }
.pr .pr-p1 { fill: var(--pr-1); }
.pr .pr-p2 { fill: var(--pr-2); }
.pr .pr-p3 { fill: var(--pr-3); }
.pr .pr-p4 { fill: var(--pr-4); }
"""

_LEFT, _RIGHT, _TOP, _BOTTOM = 34.0, 6.0, 18.0, 18.0  # room for note names, nothing, bar numbers, the legend
_FEWEST_SEMITONES = 24
_DRUM_LANE, _DRUM_SHARE = 7.0, 0.35  # height of a lane, and the most of the drawing that all may take
_NUMBER_ROOM = 24.0  # a bar's number
_COLOURS = 5
_DRUMS = 128  # a program after all others
_NAMES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")


def note_name(pitch: int) -> str:
    """Name and octave of a MIDI note number; 60 is C4."""
    return f"{_NAMES[pitch % 12]}{pitch // 12 - 1}"


def last_step(notes: Notes, piece: int) -> int:
    """Grid step at which the piece's last note and last bar have ended."""
    one = notes.pieces([piece])
    bar_ends = one.bars.onset + one.bars.beats * STEPS_PER_QUARTER
    return max(int((one.onset + one.duration).max(initial=0)), int(bar_ends.max()))


def pianoroll_svg(
    notes: Notes,
    piece: int,
    prompt_end: int | None = None,
    title: str = "",
    width: int = 960,
    height: int = 220,
    steps: int | None = None,
    pitches: tuple[int, int] | None = None,
) -> str:
    """Draw one piece: time to the right with numbered bars, pitch upwards with the Cs named, drums in lanes.

    Args:
        piece: which of the pieces of `notes`.
        prompt_end: grid step where the given part ends; it is shaded, and notes that begin in it look given.
        title: what a screen reader calls the drawing.
        width: of the drawing's own coordinates; it scales to its container.
        height: likewise.
        steps: grid steps to make room for, so that several drawings share an axis; default: the piece's own.
        pitches: lowest and highest pitch to make room for, likewise.

    Returns:
        One `<svg>` element with one `<rect class="pr-note ...">` a note; more opaque is louder. `data-left`
        and `data-step` (drawing units; units a grid step) place the line of class `pr-head`, which is hidden.

    Raises:
        MgenError: `piece` is not one of the pieces.
    """
    if not 0 <= piece < notes.n_pieces:
        raise MgenError(f"piano-roll: piece {piece} of {notes.n_pieces}; pieces are numbered from 0")
    one = notes.pieces([piece])
    steps = max(steps or 0, last_step(one, 0), 1)
    scale = (width - _LEFT - _RIGHT) / steps
    end = min(prompt_end or 0, steps)
    edge = _LEFT + end * scale
    bottom = height - _BOTTOM
    drum = one.program < 0
    kit = np.unique(one.pitch[drum])
    drum_lane = min(_DRUM_LANE, _DRUM_SHARE * (bottom - _TOP) / max(len(kit), 1))
    floor = bottom - len(kit) * drum_lane
    low, high = _pitch_room(one.pitch[~drum], pitches)
    lane = (floor - _TOP) / (high - low + 1)

    program = np.where(drum, _DRUMS, one.program)
    players = np.unique(program)
    colour = np.searchsorted(players, program) % _COLOURS
    given = one.onset < end
    x = _LEFT + one.onset * scale
    across = np.maximum(np.where(drum, np.minimum(one.duration * scale, 4), one.duration * scale) - 0.6, 1.2)
    y = np.where(drum, floor + np.searchsorted(kit, one.pitch) * drum_lane, _TOP + (high - one.pitch) * lane)
    tall = np.maximum(np.where(drum, drum_lane, lane) - 0.6, 1.2)
    opacity = 0.4 + 0.6 * one.velocity / 127
    rects = [
        f'<rect class="pr-note {"pr-given" if is_given else f"pr-p{c}"}" x="{a:.1f}" y="{b:.1f}" '
        f'width="{w:.1f}" height="{h:.1f}" rx="1" fill-opacity="{o:.2f}"/>'
        for a, b, w, h, o, c, is_given in zip(x, y, across, tall, opacity, colour, given, strict=True)
    ]
    prompt = (
        f'<rect class="pr-prompt" x="{_LEFT}" y="{_TOP}" width="{end * scale:.1f}" height="{bottom - _TOP}" '
        f'fill-opacity=".1"/>{_line("pr-edge", edge, edge, _TOP, bottom, "4 3")}'
        f"{_text(max(edge - 4, _LEFT + 36), height - 5, 'prompt', 'end')}"
    )
    parts = [
        prompt if end else "",
        _pitch_axis(low, high, lane, width),
        _bar_axis(one.bars, scale, width, bottom),
        *rects,
        _legend(players, width, height) if len(players) > 1 else "",
        _line("pr-head", _LEFT, _LEFT, _TOP, bottom).replace("/>", ' visibility="hidden"/>'),
    ]
    return (
        f'<svg class="pr" viewBox="0 0 {width} {height}" role="img" fill="currentColor" stroke-width="1.2" '
        f'aria-label="{escape(_described(one, given, title))}" data-left="{_LEFT}" data-step="{scale:.4f}">'
        f"{''.join(parts)}</svg>"
    )


def _line(name: str, x1: float, x2: float, y1: float, y2: float, dashes: str = "", opacity: float = 1) -> str:
    return (
        f'<line class="{name}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}" stroke="currentColor" '
        f'stroke-opacity="{opacity}" stroke-dasharray="{dashes or "none"}"/>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="10.5">{text}</text>'


def _pitch_room(pitch: NDArray[np.int32], asked: tuple[int, int] | None) -> tuple[int, int]:
    """Lowest and highest pitch drawn: what is there and asked for, with a margin; at least two octaves."""
    heard = [*(asked or ()), *pitch.tolist()] or [60]
    low, high = min(heard), max(heard)
    spare = max(_FEWEST_SEMITONES - (high - low), 2)
    return low - spare // 2, high + spare - spare // 2


def _pitch_axis(low: int, high: int, lane: float, width: int) -> str:
    """A dotted line through every C, with its name."""
    lines = []
    for pitch in range(low + -low % 12, high + 1, 12):
        y = _TOP + (high - pitch + 0.5) * lane
        lines.append(_line("pr-c", _LEFT, width - _RIGHT, y, y, "1 3", 0.4))
        lines.append(_text(_LEFT - 5, y + 3.5, note_name(pitch), "end"))
    return "".join(lines)


def _bar_axis(bars: Bars, scale: float, width: int, bottom: float) -> str:
    """A line a bar, and a number at every bar, or every 2nd, 4th, ..., as there is room."""
    apart = float(bars.beats.mean()) * STEPS_PER_QUARTER * scale
    every = 2 ** max(0, int(np.ceil(np.log2(_NUMBER_ROOM / apart))))
    lines = []
    for number, onset in enumerate(bars.onset.tolist()):
        x = _LEFT + onset * scale
        lines.append(_line("pr-bar", x, x, _TOP - 4, bottom, opacity=0.2))
        if number % every == 0 and x < width - 16:
            lines.append(_text(x + 3, _TOP - 6, str(number + 1)))
    return "".join(lines)


def _legend(players: NDArray[np.int64], width: int, height: int) -> str:
    """A coloured square and a name for each instrument."""
    names = ["drums" if p == _DRUMS else program_to_instrument_name(p).lower() for p in players.tolist()]
    spans = (f'<tspan class="pr-p{i % _COLOURS}">■</tspan> {name}' for i, name in enumerate(names))
    return _text(width - _RIGHT, height - 5, "&#160;&#160; ".join(spans), "end")


def _described(one: Notes, given: NDArray[np.bool_], title: str) -> str:
    """The drawing in words."""
    pitched = one.pitch[one.program >= 0]
    words = [_count(len(one), "note")]
    if len(pitched):
        words.append(f"from {note_name(int(pitched.min()))} to {note_name(int(pitched.max()))}")
    words.append(_count(len(one.bars.onset), "bar"))
    if given.any():
        words.append(f"the first {_count(int(given.sum()), 'note')} given as the prompt")
    return f"Piano-roll{f' of {title}' if title else ''}: {', '.join(words)}"


def _count(n: int, thing: str) -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"
