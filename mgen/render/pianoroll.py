"""Piano-rolls as inline SVG, and the axes that `mgen.render.pianoroll_image` shares.

A drawing carries classes and `currentColor` only: it follows the page that shows it, dark or light, and is legible
without a style sheet. `PIANOROLL_CSS` gives it its colours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray
from pretty_midi import program_to_instrument_name

from mgen.errors import MgenError
from mgen.notes import Bars, Ints, Notes

COLOURS = ("#0b6e75", "#b4531f", "#6b4aa0", "#8a6d00", "#a8316e")
"""Of programs, in turn, on light paper."""

PROMPT_COLOUR = "#7d7a72"

PIANOROLL_CSS = f"""
.pr {{ display: block; width: 100%; height: auto; color: inherit; --pr-given: {PROMPT_COLOUR};
  {" ".join(f"--pr-{k}: {colour};" for k, colour in enumerate(COLOURS))} }}
@media screen and (prefers-color-scheme: dark) {{
  .pr {{ --pr-given: #a5a29a;
    --pr-0: #57c4c9; --pr-1: #f09a62; --pr-2: #b79cf0; --pr-3: #dcbc4c; --pr-4: #f08abb; }}
}}
.pr text {{ font: 10.5px/1 system-ui, sans-serif; fill: currentColor; fill-opacity: .75; }}
.pr tspan {{ fill-opacity: 1; }}
.pr .pr-given {{ fill: var(--pr-given); }}
{"".join(f".pr .pr-p{k} {{ fill: var(--pr-{k}); }}" + chr(10) for k in range(len(COLOURS)))}"""

_LEFT, _RIGHT, _TOP, _BOTTOM = 34.0, 6.0, 18.0, 18.0  # room for note names, nothing, bar numbers, the legend
_FEWEST_SEMITONES = 24
_DRUM_LANE, _DRUM_SHARE = 7.0, 0.35  # height of a lane, and the most of the drawing that all may take
_NUMBER_ROOM = 24.0  # for a bar number
_DRUMS = 128  # a program after all others
_PAPER, _INK = "#fcfbf8", "#2b2a27"  # of a drawing in a file
_NAMES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")


def note_name(pitch: int) -> str:
    """Name and octave of a MIDI note number; 60 is C4."""
    return f"{_NAMES[pitch % 12]}{pitch // 12 - 1}"


def last_step(notes: Notes, piece: int) -> int:
    """Grid step at which the piece's last note and last bar have ended."""
    one = notes.pieces([piece])
    bar_ends = one.bars.onset + one.bars.length
    return max(int((one.onset + one.duration).max(initial=0)), int(bar_ends.max()))


def one_piece(notes: Notes, piece: int) -> Notes:
    """The piece to draw.

    Raises:
        MgenError: `piece` is not one of the pieces.
    """
    if not 0 <= piece < notes.n_pieces:
        raise MgenError(f"piano-roll: piece {piece} of {notes.n_pieces}; pieces are numbered from 0")
    return notes.pieces([piece])


def programs(one: Notes) -> tuple[Ints, NDArray[np.int64]]:
    """The programs of a piece, drums last as 128, and (N,) the number of each note's colour."""
    program = np.where(one.program < 0, np.int32(_DRUMS), one.program)
    different = np.unique(program)
    return different, np.searchsorted(different, program) % len(COLOURS)


@dataclass(frozen=True, slots=True)
class Axes:
    """Where time and pitch lie in a drawing."""

    left: float  # the first four are the edges of the area of pitched notes
    right: float
    top: float
    bottom: float
    steps: int  # grid steps from left to right
    low: int  # lowest pitch with a lane
    high: int  # highest pitch with a lane

    @property
    def scale(self) -> float:
        """Units per grid step."""
        return (self.right - self.left) / self.steps

    @property
    def lane(self) -> float:
        """Height of one pitch."""
        return (self.bottom - self.top) / (self.high - self.low + 1)

    def octaves(self) -> Iterator[tuple[str, float]]:
        """Name of every C, and the middle of its lane."""
        for pitch in range(self.low + -self.low % 12, self.high + 1, 12):
            yield note_name(pitch), self.top + (self.high - pitch + 0.5) * self.lane

    def bar_lines(self, bars: Bars, room: float) -> Iterator[tuple[float, str]]:
        """Place of every bar line, and its number where there is `room`: at every bar, or every 2nd, 4th, ..."""
        apart = float(bars.length.mean()) * self.scale
        every = 2 ** max(0, int(np.ceil(np.log2(room / apart))))
        for number, onset in enumerate(bars.onset.tolist()):
            x = self.left + onset * self.scale
            yield x, str(number + 1) if number % every == 0 and x < self.right - 10 else ""


def pitch_room(pitch: Ints, asked: tuple[int, int] | None = None) -> tuple[int, int]:
    """Lowest and highest pitch to draw: those of the notes and `asked`, with a margin; at least two octaves."""
    shown = [*(asked or ()), *pitch.tolist()] or [60]
    low, high = min(shown), max(shown)
    spare = max(_FEWEST_SEMITONES - (high - low), 2)
    return low - spare // 2, high + spare - spare // 2


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
    """Draws one piece: time to the right with numbered bars, pitch upwards with the Cs named, drums in lanes.

    Args:
        piece: which of the pieces of `notes`.
        prompt_end: grid step where the prompt ends; it is shaded, and notes that begin in it are grey.
        title: name of the drawing for a screen reader.
        width, height: in the drawing's own units; it scales to its container.
        steps: grid steps to make room for, so that several drawings share an axis; default: those of the piece.
        pitches: lowest and highest pitch to make room for, likewise.

    Returns:
        One `<svg>` element with one `<rect class="pr-note ...">` per note; more opaque is louder. `data-left`
        and `data-step` (drawing units; units per grid step) place the line of class `pr-head`, which is hidden.

    Raises:
        MgenError: `piece` is not one of the pieces.
    """
    one = one_piece(notes, piece)
    bottom = height - _BOTTOM
    drum = one.program < 0
    kit = np.unique(one.pitch[drum])
    drum_lane = min(_DRUM_LANE, _DRUM_SHARE * (bottom - _TOP) / max(len(kit), 1))
    floor = bottom - len(kit) * drum_lane
    steps = max(steps or 0, last_step(one, 0), 1)
    axes = Axes(_LEFT, width - _RIGHT, _TOP, floor, steps, *pitch_room(one.pitch[~drum], pitches))
    scale, lane = axes.scale, axes.lane
    end = min(prompt_end or 0, steps)
    edge = _LEFT + end * scale

    different, colour = programs(one)
    given = one.onset < end
    x = _LEFT + one.onset * scale
    across = np.maximum(np.where(drum, np.minimum(one.duration * scale, 4), one.duration * scale) - 0.6, 1.2)
    y = np.where(drum, floor + np.searchsorted(kit, one.pitch) * drum_lane, _TOP + (axes.high - one.pitch) * lane)
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
    octaves = (
        _line("pr-c", _LEFT, axes.right, y, y, "1 3", 0.4) + _text(_LEFT - 5, y + 3.5, name, "end")
        for name, y in axes.octaves()
    )
    bar_lines = (
        _line("pr-bar", x, x, _TOP - 4, bottom, opacity=0.2) + (_text(x + 3, _TOP - 6, number) if number else "")
        for x, number in axes.bar_lines(one.bars, _NUMBER_ROOM)
    )
    parts = [
        prompt if end else "",
        *octaves,
        *bar_lines,
        *rects,
        _legend(different, width, height) if len(different) > 1 else "",
        _line("pr-head", _LEFT, _LEFT, _TOP, bottom).replace("/>", ' visibility="hidden"/>'),
    ]
    return (
        f'<svg class="pr" viewBox="0 0 {width} {height}" role="img" fill="currentColor" stroke-width="1.2" '
        f'aria-label="{escape(_description(one, given, title))}" data-left="{_LEFT}" data-step="{scale:.4f}">'
        f"{''.join(parts)}</svg>"
    )


def pianoroll_file(
    notes: Notes, piece: int, prompt_end: int | None = None, title: str = "", width: int = 960, height: int = 260
) -> str:
    """The drawing of `pianoroll_svg` as the content of a file: on light paper, with its colours written out, because
    viewers of pictures know neither a page's colours nor variables.
    """
    drawing = pianoroll_svg(notes, piece, prompt_end, title, width, height)
    fills = [(f"pr-p{k}", colour) for k, colour in enumerate(COLOURS)] + [("pr-given", PROMPT_COLOUR)]
    style = "".join(f".{name}{{fill:{colour}}}" for name, colour in fills)
    size = (
        f'xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" color="{_INK}"'
    )
    opened, rest = drawing.replace("<svg ", f"<svg {size} ", 1).split(">", 1)
    return f'{opened}><style>{style}</style><rect width="100%" height="100%" fill="{_PAPER}"/>{rest}\n'


def _line(name: str, x1: float, x2: float, y1: float, y2: float, dashes: str = "", opacity: float = 1) -> str:
    return (
        f'<line class="{name}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}" stroke="currentColor" '
        f'stroke-opacity="{opacity}" stroke-dasharray="{dashes or "none"}"/>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="10.5">{text}</text>'


def _legend(different: Ints, width: int, height: int) -> str:
    """A coloured square and a name for each instrument."""
    names = ["drums" if p == _DRUMS else program_to_instrument_name(p).lower() for p in different.tolist()]
    spans = (f'<tspan class="pr-p{i % len(COLOURS)}">■</tspan> {name}' for i, name in enumerate(names))
    return _text(width - _RIGHT, height - 5, "&#160;&#160; ".join(spans), "end")


def _description(one: Notes, given: NDArray[np.bool_], title: str) -> str:
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
