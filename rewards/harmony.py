"""Do the notes belong together? Chords, scales and the way from one note to the next, each as a band.

Every rule has two sides: too far from a key is noise, too near to it is a nursery tune.
"""

from __future__ import annotations

import numpy as np

from mgen.arrays import Floats, Longs, Mask, entropy
from mgen.music.metrics import SCALE
from rewards.batch import BatchFeatures
from rewards.rule import BandRule

SCALES = (np.add.outer(np.arange(12), SCALE) % 12).astype(np.int64)
"""(12, 7) pitch classes of the major scales, which are those of the natural minor ones."""


class ChordTones(BandRule):
    """Distance of the share of chord notes on strong beats from that of real music.

    Strong beats are those on which a half bar begins. The chord is that of the half bar (`BatchFeatures.chords`).
    Credit falls, above the band, on the chord notes of strong beats, and below it on the others there.
    Undefined: no note on a strong beat.

    Known reward hacking: plain triads on strong beats with anything between them; pair with `scale_fit`.
    Source: chord-tone ratio as in Yeh et al. 2021 (arXiv:2001.02360), on chords inferred from the notes; the band is
    measured on the training corpus (`fit_bands`), not chosen.
    """

    def _masks(self, music: BatchFeatures) -> tuple[Mask, Mask]:
        strong = music.strong
        return strong & music.in_chord, strong

    def value(self, music: BatchFeatures) -> Floats:
        return music.share(*self._masks(music))

    def blame(self, music: BatchFeatures) -> tuple[Mask | None, Mask | None]:
        inside, strong = self._masks(music)
        return music.to_notes(inside), music.to_notes(strong & ~inside)


class ScaleFit(BandRule):
    """Distance of the share of notes in the nearest major scale from that of real music.

    The scale, one of twelve, is that with most of the notes of a window of 32; the share is of all windows together.
    Random notes fit badly and nursery tunes wholly: both lie outside the band of jazz. Credit falls, below the band,
    on the notes outside the scale of their window, and above it on all notes alike. Undefined: no pitched notes.

    Known reward hacking: a scale up and down with now and then a note from outside; pair with `repetition_interval`.
    Source: scale consistency, Mogren 2016, arXiv:1611.09904, in windows and as a band; the band is measured on
    the training corpus (`fit_bands`), not chosen.
    """

    def _outside(self, music: BatchFeatures) -> Mask:
        window, owner = music.window
        fit = music.window_classes[:, SCALES].sum(axis=2)
        lowest = np.full(len(owner), 1 << 20)
        np.minimum.at(lowest, window, music.pitch)
        # of equals the scale whose root is the fewest semitones above the lowest note, whatever the key
        best = (12 * fit - (np.arange(12) - lowest[:, None]) % 12).argmax(axis=1)
        outside = np.ones((12, 12), bool)
        outside[np.arange(12)[:, None], SCALES] = False
        out: Mask = outside[best[window], music.pitch % 12]
        return out

    def value(self, music: BatchFeatures) -> Floats:
        return music.mean(~self._outside(music), music.piece)

    def blame(self, music: BatchFeatures) -> tuple[Mask | None, Mask | None]:
        return None, music.to_notes(self._outside(music))


class PitchEntropy(BandRule):
    """Distance of the entropy of pitch classes, in bits, from that of real music.

    Of the twelve pitch classes in windows of 32 notes, mean over windows: 0 (one pitch class) to 3.58 (all alike).
    Credit falls on all notes alike. Undefined: no pitched notes.

    Known reward hacking: notes drawn from the right number of pitch classes in any order; pair with `voice_leading`.
    Source: pitch-class histogram entropy, Wu and Yang 2020, arXiv:2008.01307, in windows of notes; the band is
    measured on the training corpus (`fit_bands`), not chosen.
    """

    def value(self, music: BatchFeatures) -> Floats:
        return music.mean(entropy(music.window_classes), music.window[1])


class VoiceLeading(BandRule):
    """Distance of the mean leap of the voices, in semitones, from that of real music.

    Each note goes on from the note before that is nearest to it in pitch and, less, in time (`voices.leaders`), so
    chords are followed voice by voice. Credit falls, above the band, on the notes whose leap is wider than it, and
    below it on those whose leap is narrower. Undefined: no note goes on from another.

    Known reward hacking: scales, or a chord that is held on and struck again; pair with the rules of repetition.
    Source: ours, after the rule of the nearest way; the band is measured on the training corpus (`fit_bands`).
    """

    def _masks(self, music: BatchFeatures) -> tuple[Mask, Longs]:
        led, leap, _ = music.leap
        return led, leap

    def value(self, music: BatchFeatures) -> Floats:
        led, leap = self._masks(music)
        return music.mean(leap[led], music.piece[led])

    def blame(self, music: BatchFeatures) -> tuple[Mask | None, Mask | None]:
        led, leap = self._masks(music)
        return music.to_notes(led & (leap > self.band.high)), music.to_notes(led & (leap < self.band.low))


class BarLines(VoiceLeading):
    """Distance of the mean leap of the voices over bar lines, in semitones, from that of real music.

    As `VoiceLeading`, of the notes alone whose leader lies in an earlier bar: music in the wrong order leaps where its
    parts were put together. Undefined: no voice goes on over a bar line.

    Known reward hacking: a held chord or a scale over every bar line; pair with `repetition_pitch`.
    Source: ours; the band is measured on the training corpus (`fit_bands`), not chosen.
    """

    def _masks(self, music: BatchFeatures) -> tuple[Mask, Longs]:
        led, leap, over = music.leap
        return led & over, leap
