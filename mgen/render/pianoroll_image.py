"""Piano-rolls as pictures, for tools that show no SVG; `pianoroll.py` has the axes and the drawings of a page."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.render.pianoroll import COLOURS, PROMPT_COLOUR, Axes, last_step, one_piece, pitch_room, programs

_PAPER, _PROMPT_PAPER, _INK, _LINE = (252, 251, 248), (236, 233, 226), (90, 87, 80), (222, 219, 212)
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 22, 20  # pixels for note names, nothing, bar numbers, the word `prompt`
_NUMBER_ROOM = 34  # pixels for a bar number
_FAINTEST = 0.45  # share of its colour that the softest note keeps


def pianoroll_image(
    notes: Notes, piece: int, prompt_end: int | None = None, width: int = 1200, height: int = 300
) -> NDArray[np.uint8]:
    """Draws one piece: time to the right with numbered bars, pitch upwards with the Cs named.

    Louder notes are darker, each program has one of five colours, drums lie at their note number. The paper is always
    light.

    Args:
        piece: which of the pieces of `notes`.
        prompt_end: grid step where the prompt ends; it is shaded, and notes that begin in it are grey.

    Returns:
        (height, width, 3) red, green, blue, 0-255.

    Raises:
        MgenError: `piece` is not one of the pieces, or the picture is too small.
    """
    if width < 4 * _LEFT or height < 4 * _TOP:
        raise MgenError(f"piano-roll: {width} x {height} pixels are too few; give at least {4 * _LEFT} x {4 * _TOP}")
    one = one_piece(notes, piece)
    floor, end = height - _BOTTOM, prompt_end or 0
    axes = Axes(_LEFT, width - _RIGHT, _TOP, floor, max(last_step(one, 0), 1), *pitch_room(one.pitch))
    image = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(12)
    edge = _LEFT + end * axes.scale
    if prompt_end:
        draw.rectangle((_LEFT, _TOP, edge, floor), fill=_PROMPT_PAPER)
    for name, y in axes.octaves():
        draw.line((_LEFT, y, axes.right, y), fill=_LINE)
        draw.text((_LEFT - 6, y), name, _INK, font, anchor="rm")
    for x, number in axes.bar_lines(one.bars, _NUMBER_ROOM):
        draw.line((x, _TOP - 4, x, floor), fill=_LINE)
        draw.text((x + 3, _TOP - 6), number, _INK, font, anchor="ls")
    left = _LEFT + one.onset * axes.scale
    right = np.maximum(left + one.duration * axes.scale - 1, left + 1.5)
    top = _TOP + (axes.high - one.pitch) * axes.lane
    for x0, x1, y0, rgb in zip(left.tolist(), right.tolist(), top.tolist(), _colours(one, end).tolist(), strict=True):
        draw.rectangle((x0, y0 + 0.5, x1, y0 + max(axes.lane - 0.5, 1.5)), fill=tuple(rgb))
    if prompt_end:
        for y in range(_TOP - 4, floor, 8):
            draw.line((edge, y, edge, min(y + 4, floor)), fill=_INK, width=2)
        draw.text((max(edge - 5, _LEFT + 48), floor + 3), "prompt", _INK, font, anchor="rt")
    return np.asarray(image, dtype=np.uint8)


def _colours(one: Notes, prompt_end: int) -> NDArray[np.uint8]:
    """(N, 3) colour of each note: of its program, grey in the prompt, paler where it is soft."""
    palette = np.array([ImageColor.getrgb(colour) for colour in (*COLOURS, PROMPT_COLOUR)])
    full = palette[np.where(one.onset < prompt_end, len(COLOURS), programs(one)[1])]
    share = (_FAINTEST + (1 - _FAINTEST) * one.velocity / 127)[:, None]
    mixed: NDArray[np.uint8] = np.rint(share * full + (1 - share) * np.array(_PAPER)).astype(np.uint8)
    return mixed
