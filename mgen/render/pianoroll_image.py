"""Piano-rolls as pictures, for tools that show pictures and no SVG; `pianoroll.py` draws those of a page."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.render.pianoroll import last_step, note_name

Colour = tuple[int, int, int]

_PAPER, _GIVEN_PAPER, _INK, _LINE = (252, 251, 248), (236, 233, 226), (90, 87, 80), (222, 219, 212)
_GIVEN: Colour = (125, 122, 114)
_PLAYERS: tuple[Colour, ...] = ((11, 110, 117), (180, 83, 31), (107, 74, 160), (138, 109, 0), (168, 49, 110))
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 22, 20  # pixels for note names, nothing, bar numbers, the word `prompt`
_FEWEST_SEMITONES = 24
_NUMBER_ROOM = 34  # pixels for a bar's number
_FAINTEST = 0.45  # share of its colour that the softest note keeps


def pianoroll_image(
    notes: Notes, piece: int, prompt_end: int | None = None, width: int = 1200, height: int = 300
) -> NDArray[np.uint8]:
    """Draw one piece: time to the right with numbered bars, pitch upwards with the Cs named.

    Louder notes are darker, each program has a colour of five, drums stand at their number as if it were a pitch. The
    picture is on light paper whatever shows it.

    Args:
        piece: which of the pieces of `notes`.
        prompt_end: grid step where the given part ends; it is shaded, and notes that begin in it are grey.

    Returns:
        (height, width, 3) red, green, blue, 0-255.

    Raises:
        MgenError: `piece` is not one of the pieces, or there is no room to draw in.
    """
    if not 0 <= piece < notes.n_pieces:
        raise MgenError(f"piano-roll: piece {piece} of {notes.n_pieces}; pieces are numbered from 0")
    if width < 4 * _LEFT or height < 4 * _TOP:
        raise MgenError(f"piano-roll: {width} x {height} pixels are too few; give at least {4 * _LEFT} x {4 * _TOP}")
    one = notes.pieces([piece])
    scale = (width - _LEFT - _RIGHT) / max(last_step(one, 0), 1)
    floor = height - _BOTTOM
    low, high = _pitch_room(one.pitch)
    lane = (floor - _TOP) / (high - low + 1)
    image = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(12)
    edge = _LEFT + (prompt_end or 0) * scale
    if prompt_end:
        draw.rectangle((_LEFT, _TOP, edge, floor), fill=_GIVEN_PAPER)
    for pitch in range(low + -low % 12, high + 1, 12):
        y = _TOP + (high - pitch + 0.5) * lane
        draw.line((_LEFT, y, width - _RIGHT, y), fill=_LINE)
        draw.text((_LEFT - 6, y), note_name(pitch), _INK, font, anchor="rm")
    _bars(draw, font, one, scale, width, floor)
    colour = _colours(one, prompt_end or 0)
    left = _LEFT + one.onset * scale
    right = np.maximum(left + one.duration * scale - 1, left + 1.5)
    top = _TOP + (high - one.pitch) * lane
    for x0, x1, y0, rgb in zip(left.tolist(), right.tolist(), top.tolist(), colour.tolist(), strict=True):
        draw.rectangle((x0, y0 + 0.5, x1, y0 + max(lane - 0.5, 1.5)), fill=tuple(rgb))
    if prompt_end:
        for y in range(_TOP - 4, floor, 8):
            draw.line((edge, y, edge, min(y + 4, floor)), fill=_INK, width=2)
        draw.text((max(edge - 5, _LEFT + 48), floor + 3), "prompt", _INK, font, anchor="rt")
    return np.asarray(image, dtype=np.uint8)


def _pitch_room(pitch: NDArray[np.int32]) -> tuple[int, int]:
    """Lowest and highest pitch drawn: what is there with a margin, at least two octaves."""
    low, high = (int(pitch.min()), int(pitch.max())) if len(pitch) else (60, 60)
    spare = max(_FEWEST_SEMITONES - (high - low), 2)
    return low - spare // 2, high + spare - spare // 2


def _bars(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    one: Notes,
    scale: float,
    width: int,
    floor: int,
) -> None:
    """A line a bar, and a number at every bar, or every 2nd, 4th, ..., as there is room."""
    x = _LEFT + one.bars.onset * scale
    apart = float(np.diff(x, append=width - _RIGHT).mean())
    every = 2 ** max(0, int(np.ceil(np.log2(_NUMBER_ROOM / max(apart, 1e-6)))))
    for number, at in enumerate(x.tolist()):
        draw.line((at, _TOP - 4, at, floor), fill=_LINE)
        if number % every == 0 and at < width - 20:
            draw.text((at + 3, _TOP - 6), str(number + 1), _INK, font, anchor="ls")


def _colours(one: Notes, prompt_end: int) -> NDArray[np.uint8]:
    """(N, 3) colour of each note: of its program, grey where it was given, paler where it is soft."""
    player = np.searchsorted(np.unique(one.program), one.program) % len(_PLAYERS)
    full = np.where((one.onset < prompt_end)[:, None], _GIVEN, np.array(_PLAYERS)[player])
    share = (_FAINTEST + (1 - _FAINTEST) * one.velocity / 127)[:, None]
    mixed: NDArray[np.uint8] = np.rint(share * full + (1 - share) * np.array(_PAPER)).astype(np.uint8)
    return mixed
