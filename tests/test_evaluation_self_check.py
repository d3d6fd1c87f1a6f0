from __future__ import annotations

import numpy as np
import pytest
from evaluation_pieces import demo, line, nothing, solos, works
from progress_counts import Counts

from mgen.errors import MgenError
from mgen.evaluation.measure import PieceSet
from mgen.evaluation.self_check import (
    REQUIRED,
    DetectionCheck,
    SelfCheck,
    SplitCheck,
    bar_excerpts,
    halves,
    self_check,
)
from mgen.notes import Notes
from mgen.stats.intervals import Interval
from mgen.stats.two_sample import TwoSample
from mgen.transforms.corruptions import CORRUPTIONS


def test_excerpts_are_whole_bars_of_one_piece():
    # 8 eighths a bar, 20 bars: 20 notes need 3 bars, so 4; five excerpts, of which 2 evenly are the first and the last
    piece = line([20 + i % 100 for i in range(160)], step=12)
    every = bar_excerpts(piece, ["w"], per_work=9, length=20)
    assert every.notes.n_pieces == 5 and every.work.tolist() == ["w"] * 5
    assert every.notes.counts.tolist() == [32] * 5
    assert np.bincount(every.notes.bars.piece).tolist() == [4] * 5
    np.testing.assert_array_equal(every.notes.pitch, piece.pitch)
    np.testing.assert_array_equal(every.notes.onset, np.tile(piece.onset[:32], 5))
    two = bar_excerpts(piece, ["w"], per_work=2, length=20)
    assert two.notes.pitch[[0, 32]].tolist() == [20, 20 + 4 * 32 % 100]


def test_excerpts_begin_with_a_note_and_do_not_overlap():
    notes = Notes.concat([demo("lead_sheets", "pop_takes", works=2), nothing(), solos(3)])
    found = bar_excerpts(notes, works(notes.n_pieces), per_work=50, length=30)
    assert (found.notes.counts >= 30).all()
    assert (np.bincount(found.notes.bars.piece) % 2 == 0).all()
    assert (found.notes.bar[found.notes.starts[:-1]] == 0).all()
    assert (found.notes.position >= 0).all()
    assert "4" not in found.work  # the piece without notes
    for work in np.unique(found.work):
        taken = found.notes.counts[found.work == work].sum()
        assert taken <= notes.counts[int(work)]
    with pytest.raises(MgenError, match=r"excerpts of 999 notes .* give more music"):
        bar_excerpts(notes, works(notes.n_pieces), per_work=4, length=999)


def test_shuffling_an_excerpt_keeps_its_notes():
    found = bar_excerpts(solos(4), works(4), per_work=2, length=40)
    shuffled = CORRUPTIONS["segments_shuffled"](found.notes, np.random.default_rng(0))
    for i in range(found.notes.n_pieces):
        one, other = (side.pieces([i]) for side in (found.notes, shuffled))
        np.testing.assert_array_equal(np.sort(one.pitch), np.sort(other.pitch))


def test_halves_share_no_work():
    real = PieceSet.of_seeds([solos(40)], [works(40, of=4)])
    one, other = halves(real, 100, seed=0)
    assert not set(one.work) & set(other.work)
    assert one.notes.n_pieces == other.notes.n_pieces == 20
    few = halves(real, 7, seed=0)
    assert [side.notes.n_pieces for side in few] == [7, 7]
    with pytest.raises(MgenError, match="at least 4 works"):
        halves(PieceSet.of_seeds([solos(6)], [works(6, of=2)]), 3, seed=0)


def test_what_is_required_is_judged_at_512_pieces_and_a_failure_is_not_hidden():
    def check(value: float, n: int) -> DetectionCheck:
        return DetectionCheck(TwoSample(Interval(value, 0.0, 1.0), None, n, 100.0), 0.75)

    assert [check(0.8, 512).met, check(0.7, 512).met, check(0.9, 511).met] == [True, False, None]
    half, above = Interval(0.5, 0.4, 0.6), Interval(0.7, 0.6, 0.8)
    assert SplitCheck((half,) * 9 + (above,), True).met is True  # 0.9 is enough
    assert SplitCheck((half,) * 8 + (above,) * 2, True).met is False
    assert SplitCheck((), True).met is None and np.isnan(SplitCheck((), True).share)
    good, none = SplitCheck((half,), True), SplitCheck((half,), False)
    for checks, splits, met in (
        ([check(0.8, 512)], [good], True),
        ([check(0.8, 512)], [none], None),
        ([check(0.7, 512)], [none], False),
    ):
        found = SelfCheck(9, 9, dict(enumerate(checks)), dict(enumerate(splits)))  # type: ignore[arg-type]
        assert found.met is met


@pytest.mark.slow
def test_the_complete_check_on_few_pieces():
    real = PieceSet.of_seeds([solos(48, bars=6)], [works(48, of=2)])
    progress = Counts()
    found = self_check(real, n=20, splits=2, sequence_splits=1, progress=progress)
    assert (found.n, found.works) == (20, 24) and set(found.checks) == set(REQUIRED)
    assert [len(part.intervals) for part in found.splits.values()] == [2, 1]
    assert found.met is None and len(progress.lines) == 3
    assert [done for loop, done, *_ in progress.counts if loop.startswith("splits")] == [0, 1, 2]
    facts = found.to_json()
    assert set(facts["checks"]["bars_shuffled"]) == {"c2st_auc", "feature", "sequence", "required", "met"}
    assert facts["real_against_real"]["feature"]["splits"] == 2
