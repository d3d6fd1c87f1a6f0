"""Rules of harmony: chords, scales, pitch entropy and voice leading.

Every band has two sides: too far from a key is noise, too close to it is a nursery tune.
"""

from __future__ import annotations

import numpy as np

from mgen.arrays import entropy
from mgen.music.metrics import SCALE
from rewards.batch import BatchFeatures
from rewards.rule import BandRule, Measurement

SCALES = (np.add.outer(np.arange(12), SCALE) % 12).astype(np.int64)
"""(12, 7) pitch classes of the major scales, which are those of the natural minor ones."""


class ChordTones(BandRule):
    """Distance of the share of chord notes on strong beats from that of real music.

    Strong beats are those on which a half bar begins. The chord is that of the half bar (`BatchFeatures.chords`).
    Credit falls, above the band, on the chord notes of strong beats, and below it on the other notes there.
    Undefined: no note on a strong beat.

    Known reward hacking: plain triads on strong beats and any notes between them; pair with `scale_fit`.
    Source: chord-tone ratio as in Yeh et al. 2021 (arXiv:2001.02360), on chords inferred from the notes; the band is
    measured on the training corpus (`fit_bands`), not chosen.
    """

    beat_bound = True

    def measure(self, music: BatchFeatures) -> Measurement:
        inside, outside = music.strong & music.in_chord, music.strong & ~music.in_chord
        return Measurement(music.share(inside, music.strong), music.to_notes(inside), music.to_notes(outside))


class ScaleFit(BandRule):
    """Distance of the share of notes in the nearest major scale from that of real music.

    The scale of each window of 32 notes is the one of twelve that contains most of them; the share is of all notes.
    Random notes fit badly and nursery tunes completely: both lie outside the band of jazz. Credit falls, below the
    band, on the notes outside the scale of their window, and above it on all notes equally. Undefined: no pitched
    notes.

    Known reward hacking: a scale up and down with a few notes outside it; pair with `repetition_interval`.
    Source: scale consistency, Mogren 2016, arXiv:1611.09904, in windows and as a band; the band is measured on
    the training corpus (`fit_bands`), not chosen.
    """

    def measure(self, music: BatchFeatures) -> Measurement:
        window, owner = music.window
        fit = music.window_classes[:, SCALES].sum(axis=2)
        lowest = np.full(len(owner), 1 << 20)
        np.minimum.at(lowest, window, music.pitch)
        # a tie goes to the scale whose root is the fewest semitones above the lowest note, in every key
        best = (12 * fit - (np.arange(12) - lowest[:, None]) % 12).argmax(axis=1)
        inside = (SCALES[best[window]] == music.pitch[:, None] % 12).any(axis=1)
        return Measurement(music.mean(inside, music.piece), lack=music.to_notes(~inside))


class PitchEntropy(BandRule):
    """Distance of the entropy of pitch classes, in bits, from that of real music.

    Of the twelve pitch classes in windows of 32 notes, mean over windows: 0 (one pitch class) to 3.58 (uniform).
    Credit falls on all notes equally. Undefined: no pitched notes.

    Known reward hacking: notes drawn from the right number of pitch classes in any order; pair with `voice_leading`.
    Source: pitch-class histogram entropy, Wu and Yang 2020, arXiv:2008.01307, in windows of notes; the band is
    measured on the training corpus (`fit_bands`), not chosen.
    """

    def measure(self, music: BatchFeatures) -> Measurement:
        return Measurement(music.mean(entropy(music.window_classes), music.window[1]))


class VoiceLeading(BandRule):
    """Distance of the mean leap of the voices, in semitones, from that of real music.

    Each note continues the earlier note that is nearest in pitch and, with less weight, in time (`voices.leaders`), so
    chords are followed voice by voice. Credit falls, above the band, on the notes with wider leaps than the band, and
    below it on those with narrower leaps. Undefined: no note continues another.

    Known reward hacking: scales, or one chord repeated; pair with the rules of repetition.
    Source: ours, after the principle of the nearest way; the band is measured on the training corpus (`fit_bands`).
    """

    bar_lines_only = False

    def measure(self, music: BatchFeatures) -> Measurement:
        led, leap, over = music.leap
        led = led & over if self.bar_lines_only else led
        wide, narrow = led & (leap > self.band.high), led & (leap < self.band.low)
        return Measurement(music.mean(leap[led], music.piece[led]), music.to_notes(wide), music.to_notes(narrow))


class BarLines(VoiceLeading):
    """Distance of the mean leap of the voices over bar lines, in semitones, from that of real music.

    As `VoiceLeading`, but only of notes whose leader lies in an earlier bar: bars in the wrong order leap where they
    meet. Undefined: no voice continues over a bar line.

    Known reward hacking: a held chord or a scale over every bar line; pair with `repetition_pitch`.
    Source: ours; the band is measured on the training corpus (`fit_bands`), not chosen.
    """

    beat_bound, bar_lines_only = True, True
