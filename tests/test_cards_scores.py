"""Rows of a card by paper and pencil, and the clock of its cost."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from critics_music import SWUNG, toy

from mgen.cards.scores import CardRow, judge_cost, score_rows
from mgen.judgement import Judgement
from mgen.transforms.degenerate import DEGENERATE_INPUTS, random_tokens
from mgen.transforms.edits import notes_from_arrays


def mean_pitch(notes):
    """A judge: mean pitch; a piece without notes is not defined and gets -1."""
    count = notes.counts
    total = np.bincount(notes.piece, weights=notes.pitch, minlength=notes.n_pieces)
    score = np.where(count > 0, total / np.maximum(count, 1), -1.0)
    return Judgement(score.astype(np.float32), None, count > 0)


def held(*pitches):
    return notes_from_arrays(
        [np.array([[0, pitch, 24, 80]] if pitch else np.zeros((0, 4)), np.int64) for pitch in pitches]
    )


def test_rows_are_counted_as_by_hand():
    works = np.array(["a", "b", "c", "d"])
    real = held(60, 62, 64, 66)
    rows = {
        "real": CardRow(real, works, False, "real"),
        "up": CardRow(replace(real, pitch=real.pitch + 2), works, True, "corrupted"),
        "down": CardRow(replace(real, pitch=real.pitch - 2), works, True, "corrupted"),
        "same": CardRow(real, works, True, "format"),
        "mixed": CardRow(held(61, 61, 65, 65), works, True, "format"),
        "half empty": CardRow(held(0, 0, 63, 80), None, False, "degenerate"),
    }
    scores = score_rows(mean_pitch, rows)
    assert (scores["real"].mean.value, scores["real"].median, scores["real"].as_good_as_real) == (63, 63, 0.5)
    assert scores["real"].change is None and scores["real"].effect == ""
    assert scores["up"].change.value == 2 and scores["up"].effect == "higher" and scores["up"].share_changed == 1
    assert scores["down"].effect == "lower" and scores["down"].as_good_as_real == 0.25
    assert scores["same"].change.value == 0 and scores["same"].share_changed == 0 and scores["same"].effect == "none"
    assert scores["mixed"].change.value == 0 and scores["mixed"].effect == "none"  # 1, -1, 1, -1
    senseless = scores["half empty"]
    assert (senseless.undefined, senseless.as_good_as_real, senseless.mean.value) == (0.5, 0.5, (63 + 80 - 2) / 4)
    assert "change" not in senseless.to_json() and senseless.change is None
    assert scores["real"].auc is None and "auc" not in scores["real"].to_json()
    # 62, 64, 66, 68: of 16 pairs the real piece is higher in 0 + 0 + 1 + 2 and equal in 0 + 1 + 1 + 1
    assert scores["up"].auc.value == 4.5 / 16 and scores["same"].auc.value == 0.5
    assert senseless.auc.value == 10 / 16  # 8 above -1, 2 above 63, none above 80


def test_a_row_may_be_compared_with_other_real_pieces():
    works = np.array(["a", "b"])
    sampled = CardRow(held(50, 60), works, False, "policy", real=held(55, 61))
    scores = score_rows(mean_pitch, {"real": CardRow(held(0, 0), works, False, "real"), "policy": sampled})
    assert scores["policy"].auc.value == 3 / 4


def test_the_interval_of_a_change_is_by_work():
    real = held(*range(40, 80))
    changed = replace(real, pitch=real.pitch + np.where(real.pitch < 60, 3, -1))
    few, many = np.repeat(["a", "b"], 20), np.arange(40).astype(str)
    by_work, by_piece = (
        score_rows(
            mean_pitch, {"real": CardRow(real, works, False, "real"), "odd": CardRow(changed, works, True, "corrupted")}
        )["odd"]
        for works in (few, many)
    )
    assert by_work.change.value == by_piece.change.value == 1
    assert by_work.effect == "none" and by_piece.effect == "higher"


def test_cost_per_note_and_token_and_ratio_to_decoding(remi):
    notes = toy(SWUNG, 4, np.random.default_rng(0), 3)
    ids = remi.encode(notes)
    tokens = sum(len(row) for row in ids)
    ticks = itertools.cycle([0, 3, 3 + 1])  # the judge takes 3 seconds, decoding 1
    seen = []
    found = judge_cost(lambda pieces: seen.append(pieces) or mean_pitch(pieces), ids, remi, lambda: float(next(ticks)))
    assert found.us_per_note == pytest.approx(3e6 / len(notes)) and found.us_per_token == pytest.approx(3e6 / tokens)
    assert found.decoding_us_per_token == pytest.approx(1e6 / tokens) and found.ratio == pytest.approx(3)
    assert len({id(pieces) for pieces in seen}) == len(seen), "a judge may remember the last batch"
    timed = judge_cost(mean_pitch, ids, remi)
    assert timed.us_per_note > 0 and timed.ratio > 0


@pytest.mark.parametrize("name", DEGENERATE_INPUTS)
def test_degenerate_inputs_are_as_many_pieces_and_no_longer(name):
    real = toy(SWUNG, 6, np.random.default_rng(0), 3)
    notes = DEGENERATE_INPUTS[name](real, np.random.default_rng(1))
    assert notes.n_pieces == 6 and (notes.counts <= real.counts.max()).all()
    expected = {"empty": 0, "single_note": 1, "cut_short": 16, "held_note": 24}
    if name in expected:
        assert (notes.counts == expected[name]).all()
    pitches = [len(np.unique(notes.pitch[notes.piece == piece])) for piece in range(6)]
    most = {"held_note": 1, "alternating": 2}
    assert name not in most or pitches == [most[name]] * 6
    again = DEGENERATE_INPUTS[name](real, np.random.default_rng(1))
    np.testing.assert_array_equal(notes.pitch, again.pitch)


def test_random_tokens_break_the_grammar(remi):
    real = toy(SWUNG, 3, np.random.default_rng(0), 3)
    notes = random_tokens(real, np.random.default_rng(0), remi, 64)
    assert notes.n_tokens.tolist() == [64] * 3 and (notes.n_broken > 16).all()
