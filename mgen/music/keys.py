"""Keys of pieces, found by comparing their pitch classes with profiles of major and minor keys."""

from __future__ import annotations

import numpy as np

from mgen.arrays import Longs, Mask
from mgen.music.metrics import SCALE
from mgen.notes import Notes

KEYS = 24  # 0-11 major from C upwards, 12-23 minor
UNKNOWN_KEY = KEYS

_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)
_PROFILES = np.array([np.roll(profile, tonic) for profile in (_MAJOR, _MINOR) for tonic in range(12)])
_STANDARD = (_PROFILES - _PROFILES.mean(axis=1, keepdims=True)) / _PROFILES.std(axis=1, keepdims=True)


def key_of(notes: Notes) -> Longs:
    """(B,) key of each piece: the one whose profile correlates best with the time that each pitch class sounds.

    `UNKNOWN_KEY` for a piece without pitched notes, or with all pitch classes alike. Of equal ones the lowest number.

    Source: Krumhansl and Kessler 1982 (profiles), Krumhansl and Schmuckler (correlation), in Krumhansl 1990.
    """
    pitched = notes.pitched()
    bins = pitched.piece.astype(np.int64) * 12 + pitched.pitch % 12
    seconds = np.bincount(bins, pitched.duration, minlength=12 * notes.n_pieces).reshape(-1, 12)
    centred = seconds - seconds.mean(axis=1, keepdims=True)
    flat = np.abs(centred).max(axis=1, initial=0) < 1e-9
    return np.where(flat, UNKNOWN_KEY, np.round(centred @ _STANDARD.T, 6).argmax(axis=1))


def scale_of(key: Longs) -> Mask:
    """(..., 12) pitch classes of the major or natural minor scale of each key; none for `UNKNOWN_KEY`."""
    table = np.zeros((KEYS + 1, 12), np.bool_)
    for number in range(KEYS):
        table[number, (np.array(SCALE) + number + 3 * (number >= 12)) % 12] = True
    return table[key]


def tonic_of(key: Longs) -> Longs:
    """(...) pitch class of each key's tonic; 0, C, for `UNKNOWN_KEY`."""
    return np.asarray(key, np.int64) % 12


def semitones_to_c(key: Longs) -> Longs:
    """(...) semitones, -6..5, that move each key to C major or A minor; 0 for `UNKNOWN_KEY`."""
    number = np.asarray(key, np.int64)
    to = np.where(number == UNKNOWN_KEY, 0, np.where(number < 12, -number, 9 - number % 12))
    moved: Longs = (to + 6) % 12 - 6
    return moved
