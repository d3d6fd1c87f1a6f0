"""Rules of rhythm: swing, syncopation, groove, rests and variety of onsets.

They read onset clusters, not notes: a chord counts once. Beats are those of the grid; in a free performance they are
not the music's, so rules of beats are for music on the grid only (`beat_bound`).
"""

from __future__ import annotations

import numpy as np

from mgen.arrays import entropy
from mgen.music.onset_clusters import TOGETHER
from mgen.notes import STEPS_PER_QUARTER
from rewards.batch import GAPS, BatchFeatures
from rewards.rule import BandRule, Measurement

EARLIEST, LATEST = 8, 20  # range, in steps of a beat, of the second onset of a pair of eighths
REST = 10  # grid steps of the shortest silence that is a rest


class Swing(BandRule):
    """Distance of the swing ratio from that of real music: 1 straight, 2 triplet swing.

    Mean of s / (24 - s) over the beats of two onset clusters, the first on the beat and the second at step s of 24,
    8 to 20. Credit falls on the second clusters that are later than the band, or earlier. Undefined: no such beat.

    Known reward hacking: one well-swung pair and no other; pair with `onset_variety`.
    Source: beat-upbeat ratio, Dittmar et al. 2015; the band is measured on the training corpus (`fit_bands`).
    """

    beat_bound = True
    least = 2 / 11  # one grid step from straight eighths: 13 / 11 - 1

    def measure(self, music: BatchFeatures) -> Measurement:
        number, step = music.beat
        same = music.follows & (np.diff(number, prepend=np.int32(-1)) == 0)  # the cluster before is in this beat
        goes_on = np.append(same[1:], False)
        on_beat = np.append(False, np.abs(step[:-1]) <= TOGETHER)[: len(step)]
        third = np.append(False, same[:-1])[: len(step)]
        pair = same & ~third & ~goes_on & on_beat & (step >= EARLIEST) & (step <= LATEST)
        ratio = step / (STEPS_PER_QUARTER - step)
        late, early = pair & (ratio > self.band.high), pair & (ratio < self.band.low)
        value = music.mean(ratio[pair], music.cluster_piece[pair])
        return Measurement(value, music.clusters_to_notes(late), music.clusters_to_notes(early))


class Syncopation(BandRule):
    """Distance of the share of syncopated onset clusters from that of real music.

    A cluster is syncopated if it lies off the beat and no cluster lies on the next beat. The last cluster of a piece is
    not counted. Distances are in square roots. Credit falls, above the band, on syncopated clusters, and below it on
    the others. Undefined: fewer than two clusters.

    Known reward hacking: every note an eighth late; pair with `groove`.
    Source: after Longuet-Higgins and Lee 1984, without weights; the band is measured on the training corpus.
    """

    beat_bound, root = True, True

    def measure(self, music: BatchFeatures) -> Measurement:
        number, step = music.beat
        known = np.append(music.follows[1:], False)[: len(step)]
        beats = np.append(number[1:], 0)[: len(step)] - number
        late = (beats > 1) | ((beats == 1) & (np.append(step[1:], 0)[: len(step)] > TOGETHER))
        late &= known & (step > TOGETHER)
        share = music.mean(late[known], music.cluster_piece[known])
        return Measurement(share, music.clusters_to_notes(late), music.clusters_to_notes(known & ~late))


class Groove(BandRule):
    """Distance of the similarity of neighbouring bars' rhythms from that of real music, 0..1.

    2 |a & b| / (|a| + |b|) (Dice) of the sixteenths with onsets of two neighbouring bars, mean over the pairs of bars
    that both have any. Credit falls on all notes equally. Undefined: no such pair.

    Known reward hacking: one rhythm in every other bar; pair with `repetition_rhythm`.
    Source: ours, after grooving pattern similarity (Wu and Yang 2020, arXiv:2008.01307), of neighbours only.
    """

    beat_bound = True

    def measure(self, music: BatchFeatures) -> Measurement:
        bar, struck = music.bar_patterns
        owner = music.notes.bars.piece[bar]
        first = np.flatnonzero((np.diff(bar) == 1) & (np.diff(owner) == 0))
        both = np.bitwise_count(struck[first] & struck[first + 1])
        either = np.bitwise_count(struck[first]) + np.bitwise_count(struck[first + 1])
        return Measurement(music.mean(2 * both / np.maximum(either, 1), owner[first]))


class Rests(BandRule):
    """Distance of the share of rests, between a piece's first note and its last, from that of real music, 0..1.

    A rest is a silence of about an eighth or more (10 of 24 steps per quarter); shorter silences are articulation.
    Distances are in square roots. Credit falls, above the band, on the notes that end a rest, and below it on all notes
    equally. Undefined: fewer than two clusters.

    Known reward hacking: one long rest; pair with `groove`. Under a held pedal there are few rests.
    Source: ours; the band is measured on the training corpus (`fit_bands`), not chosen.
    """

    root = True

    def measure(self, music: BatchFeatures) -> Measurement:
        first, last = music.ends
        silent = np.bincount(music.piece, weights=np.where(music.rest >= REST, music.rest, 0), minlength=music.n)
        share = np.where(last > first, silent / np.maximum(last - first, 1), np.nan)
        return Measurement(share, music.to_notes(music.rest >= REST))


class OnsetVariety(BandRule):
    """Distance of the entropy of the gaps between onset clusters, in bits, from that of real music.

    Gaps are in the classes of `BatchFeatures.gap_class`. Credit falls on all notes equally. Undefined: fewer than two
    clusters.

    Known reward hacking: gaps drawn at random; pair with `repetition_rhythm`.
    Source: inter-onset interval entropy, as in mgeval (Yang and Lerch 2020); the band is measured on the training
    corpus (`fit_bands`), not chosen.
    """

    def measure(self, music: BatchFeatures) -> Measurement:
        at = music.follows
        slot = music.cluster_piece[at] * GAPS + music.gap_class[at]
        return Measurement(entropy(np.bincount(slot, minlength=GAPS * music.n).reshape(-1, GAPS)))
