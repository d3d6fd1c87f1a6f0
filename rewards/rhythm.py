"""Does it move as real music does? Swing, syncopation, groove, rests and density, each as a band.

OnsetClusters are heard, not notes: a chord strikes once. Beats are those of the grid; in a free performance they are
not the music's, and the bands measured there are wide.
"""

from __future__ import annotations

import numpy as np

from mgen.arrays import Floats, Mask, entropy
from mgen.music.onset_clusters import TOGETHER
from mgen.notes import STEPS_PER_QUARTER
from rewards.batch import GAPS, BatchFeatures
from rewards.rule import BandRule

EARLIEST, LATEST = 8, 20
"""Steps of a beat between which its second onset makes a pair of eighths."""

REST = 10
"""Grid steps of the shortest silence that is a rest."""


class Swing(BandRule):
    """Distance of the swing ratio from that of real music: 1 straight, 2 triplet swing.

    Mean, over the beats of two moments, the first on the beat and the second, s, at 8 to 20 of its 24 steps, of
    s / (24 - s). Credit falls on the second moments that are later than the band, or earlier. Undefined: no such
    beat.

    Known reward hacking: one well-swung pair and no other; pair with `density` and `onset_variety`.
    Source: beat-upbeat ratio, Dittmar et al. 2015; the band is measured on the training corpus (`fit_bands`).
    """

    least = 2 / 11  # a step of the grid beside straight eighths: 13 / 11 - 1

    def _masks(self, music: BatchFeatures) -> tuple[Mask, Floats]:
        number, step = music.beat
        same = music.follows & (np.diff(number, prepend=np.int32(-1)) == 0)  # the moment before is of this beat
        goes_on = np.append(same[1:], False)
        on_beat = np.append(False, np.abs(step[:-1]) <= TOGETHER)[: len(step)]
        third = np.append(False, same[:-1])[: len(step)]
        pair = same & ~third & ~goes_on & on_beat & (step >= EARLIEST) & (step <= LATEST)
        return pair, step / (STEPS_PER_QUARTER - step)

    def value(self, music: BatchFeatures) -> Floats:
        pair, ratio = self._masks(music)
        return music.mean(ratio[pair], music.cluster_piece[pair])

    def blame(self, music: BatchFeatures) -> tuple[Mask | None, Mask | None]:
        pair, ratio = self._masks(music)
        return music.clusters_to_notes(pair & (ratio > self.band.high)), music.clusters_to_notes(
            pair & (ratio < self.band.low)
        )


class Syncopation(BandRule):
    """Distance of the share of syncopated moments from that of real music.

    Syncopated is a moment off the beat after which the next beat strikes nothing. The last moment of a piece is not
    counted. Distances are in square roots. Credit falls, above the band, on syncopated moments, and below it on the
    others. Undefined: fewer than two moments.

    Known reward hacking: every note an eighth late; pair with `groove`.
    Source: after Longuet-Higgins and Lee 1984, without weights; the band is measured on the training corpus.
    """

    root = True

    def _masks(self, music: BatchFeatures) -> tuple[Mask, Mask]:
        number, step = music.beat
        known = np.append(music.follows[1:], False)[: len(step)]
        beats = np.append(number[1:], 0)[: len(step)] - number
        late = (beats > 1) | ((beats == 1) & (np.append(step[1:], 0)[: len(step)] > TOGETHER))
        return known & (step > TOGETHER) & late, known

    def value(self, music: BatchFeatures) -> Floats:
        late, known = self._masks(music)
        return music.mean(late[known], music.cluster_piece[known])

    def blame(self, music: BatchFeatures) -> tuple[Mask | None, Mask | None]:
        late, known = self._masks(music)
        return music.clusters_to_notes(late), music.clusters_to_notes(known & ~late)


class Groove(BandRule):
    """Distance of the likeness of neighbouring bars' rhythms from that of real music, 0..1.

    2 |a & b| / (|a| + |b|) (Dice) of the sixteenths that two neighbouring bars strike, mean over the pairs of bars that
    both strike any. Credit falls on all notes alike. Undefined: no such pair.

    Known reward hacking: one rhythm in every other bar; pair with `repetition_rhythm`.
    Source: ours, after grooving pattern similarity (Wu and Yang 2020, arXiv:2008.01307), of neighbours only.
    """

    def value(self, music: BatchFeatures) -> Floats:
        bar, struck = music.bar_patterns
        owner = music.notes.bars.piece[bar]
        beside = np.flatnonzero((np.diff(bar) == 1) & (np.diff(owner) == 0))
        both = np.bitwise_count(struck[beside] & struck[beside + 1])
        either = np.bitwise_count(struck[beside]) + np.bitwise_count(struck[beside + 1])
        return music.mean(2 * both / np.maximum(either, 1), owner[beside])


class Rests(BandRule):
    """Distance of the share of rests, between a piece's first note and its last, from that of real music, 0..1.

    A rest is a silence of about an eighth or more (10 steps of 24 a quarter); a shorter one is how a note was played.
    Distances are in square roots. Credit falls, above the band, on the notes that end a rest, and below it on all notes
    alike. Undefined: fewer than two moments.

    Known reward hacking: one long rest; pair with `groove` and `density`. In music under a held pedal it hears little.
    Source: ours; the band is measured on the training corpus (`fit_bands`), not chosen.
    """

    root = True

    def value(self, music: BatchFeatures) -> Floats:
        first, last = music.ends
        silent = np.bincount(music.piece, weights=np.where(music.rest >= REST, music.rest, 0), minlength=music.n)
        return np.where(last > first, silent / np.maximum(last - first, 1), np.nan)

    def blame(self, music: BatchFeatures) -> tuple[Mask | None, Mask | None]:
        return music.to_notes(music.rest >= REST), None


class Density(BandRule):
    """Distance of the number of notes a quarter, in octaves (log2), from that of real music.

    From the first note to the last. Credit falls on all notes alike. Undefined: fewer than two moments.

    Known reward hacking: clusters; pair with `onset_variety`.
    Source: ours; the band is measured on the training corpus (`fit_bands`), not chosen.
    """

    def value(self, music: BatchFeatures) -> Floats:
        first, last = music.ends
        quarters = np.maximum(last - first, 1) / STEPS_PER_QUARTER
        return np.where(last > first, np.log2(np.maximum(music.count, 1) / quarters), np.nan)


class OnsetVariety(BandRule):
    """Distance of the entropy of the gaps between moments, in bits, from that of real music.

    Gaps are told as in `BatchFeatures.gap_class`. Credit falls on all notes alike. Undefined: fewer than two moments.

    Known reward hacking: gaps drawn at random; pair with `repetition_rhythm`.
    Source: inter-onset interval entropy, as in mgeval (Yang and Lerch 2020); the band is measured on the training
    corpus (`fit_bands`), not chosen.
    """

    def value(self, music: BatchFeatures) -> Floats:
        at = music.follows
        slot = music.cluster_piece[at] * GAPS + music.gap_class[at]
        return entropy(np.bincount(slot, minlength=GAPS * music.n).reshape(-1, GAPS))
