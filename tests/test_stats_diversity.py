from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from evaluation_pieces import line, nothing, piece, solos, works

from mgen.notes import Notes
from mgen.stats.diversity import bleu_of_each, distinct, letters, self_bleu, standardise, vendi, vendi_ratio


def words(notes: Notes) -> list[list[int]]:
    owner, letter = letters(notes)
    return [letter[owner == i].tolist() for i in range(notes.n_pieces)]


def grams(text: list[int], n: int) -> Counter[tuple[int, ...]]:
    return Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1))


def bleu(text: list[int], references: list[list[int]]) -> float:
    """BLEU-4 as its authors define it; a share of nothing counts as half an n-gram."""
    logs = []
    for n in range(1, 5):
        own = grams(text, n)
        if not own:
            continue
        theirs = [grams(other, n) for other in references]
        hits = sum(min(count, max(other[gram] for other in theirs)) for gram, count in own.items())
        logs.append(np.log(max(hits, 0.5) / sum(own.values())))
    near = min((abs(len(other) - len(text)), len(other)) for other in references)[1]
    return float(np.exp(np.mean(logs) + min(1 - near / len(text), 0)))


def test_a_letter_is_an_interval_and_a_time():
    # up a third after a quarter, as a chord with it, and the same again a fifth higher at half the speed
    first = piece((0, 6, 60), (24, 6, 64), (24, 6, 68))
    higher, slower = (
        piece((0, 6, 67), (24, 6, 71), (24, 6, 75)),
        piece((0, 6, 60), (48, 6, 64), (48, 6, 68)),
    )
    assert words(first) == words(higher)
    assert [a == b for a, b in zip(*words(Notes.concat([first, slower])), strict=True)] == [False, True]


def test_bleu_is_its_definition():
    notes = Notes.concat([solos(6, bars=4), line([60, 62, 64]), line([60, 62]), solos(3, seed=2, bars=2)])
    names = np.array(list("abcdefgaabb"))
    texts = words(notes)
    others = [[texts[j] for j in range(11) if names[j] != names[i]] for i in range(11)]
    expected = [bleu(text, theirs) for text, theirs in zip(texts, others, strict=True)]
    np.testing.assert_allclose(bleu_of_each(notes, names), expected)


def test_self_bleu_of_copies_is_one_and_of_one_work_undefined():
    copies = Notes.concat([solos(1)] * 3)
    assert self_bleu(copies).value == pytest.approx(1)
    assert np.isnan(self_bleu(copies, ["a"] * 3).value)
    assert np.isnan(self_bleu(solos(1)).value)
    assert self_bleu(Notes.concat([solos(5), nothing(2), line([60])])).undefined == 3


def test_distinct_counts_different_ngrams():
    notes = Notes.concat([line([60, 62, 64, 62, 64]), line([50, 52, 54]), nothing()])
    # intervals 2 2 -2 2 and 2 2: pairs (2,2) twice, (2,-2), (-2,2)
    cell = distinct(notes, 2)
    assert cell.value == pytest.approx(3 / 4)
    assert cell.undefined == 1
    assert 0 <= cell.low <= cell.value <= cell.high <= 1
    assert np.isnan(distinct(nothing(3), 2).value) and distinct(nothing(3), 2).undefined == 3
    texts = words(solos(12))
    every = [gram for text in texts for gram in grams(text, 4).elements()]
    assert distinct(solos(12), 4).value == pytest.approx(len(set(every)) / len(every))


def test_vendi_of_equal_and_of_orthogonal_pieces():
    assert vendi(np.tile([[1.0, 0, 0]], (7, 1)), np.ones(7)) == pytest.approx(1)
    assert vendi(np.eye(5), np.ones(5)) == pytest.approx(5)
    # two kinds at right angles, three pieces of one and one of the other: exp of the entropy of 3/4, 1/4
    unit = np.eye(6)[[0, 0, 0, 1]]
    expected = np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    assert vendi(unit, np.ones(4)) == pytest.approx(expected)
    assert vendi(np.eye(6)[:2], np.array([3.0, 1.0])) == pytest.approx(expected)


def test_vendi_is_the_entropy_of_the_similarities():
    rng = np.random.default_rng(0)
    for rows in (4, 30):
        unit = rng.normal(size=(rows, 8))
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        values = np.linalg.eigvalsh(unit @ unit.T / rows)
        values = values[values > 1e-12]
        assert vendi(unit, np.ones(rows)) == pytest.approx(np.exp(-(values * np.log(values)).sum()))


def test_vendi_ratio():
    rng = np.random.default_rng(1)
    real = rng.normal(size=(60, 10))
    assert vendi_ratio(real, real, replicates=10).value == pytest.approx(1)
    fresh = vendi_ratio(real, rng.normal(size=(60, 10)), replicates=40)
    assert fresh.value == pytest.approx(1, abs=0.05)
    few = vendi_ratio(real, np.tile(rng.normal(size=(2, 10)), (30, 1)), replicates=10)
    assert few.value < 0.4 and few.low <= few.value <= few.high
    more = vendi_ratio(real, rng.normal(size=(400, 10)), replicates=10)  # as many of them as there are real ones
    assert more.value == pytest.approx(1, abs=0.1)
    holes = real.copy()
    holes[:5, 3] = np.nan
    assert vendi_ratio(real, holes, replicates=10).undefined == 5
    assert np.isnan(vendi_ratio(real, holes[:5], replicates=10).value)
    assert np.isnan(vendi_ratio(real[:1], real, replicates=10).value)


def test_standardising_is_real_musics_and_nothing_explodes():
    real = np.array([[0.0, 5, 1], [2.0, 5, 1]])
    first, second = standardise(real, np.array([[1.0, 6, 1], [1000.0, 5, 1]]))
    np.testing.assert_allclose(first, [[-1, 0, 0], [1, 0, 0]])
    assert second[0, 0] == 0 and second[1, 0] == 8  # CLIP
    assert second[0, 1] > 0 and not second[:, 2].any()


def test_works_are_resampled_whole():
    notes = Notes.concat([solos(1, seed=s) for s in range(8) for _ in range(5)])
    noisy = self_bleu(notes, works(40, 5))
    assert noisy.high - noisy.low > 0
    assert distinct(notes, 2, works(40, 5)).high > distinct(notes, 2, works(40, 5)).low
