"""Credit by bars: by hand, with judges that only count."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from evaluation_pieces import demo, each, nothing, piece
from hypothesis import given
from hypothesis import strategies as st

from critics.style import StyleCritic
from critics.style import prefix_credit as credit
from critics.style.prefix_credit import prefix_credit
from mgen.notes import Notes


def fewer(notes: Notes) -> np.ndarray:
    """Minus the number of notes."""
    return -notes.counts.astype(float)


def squared(notes: Notes) -> np.ndarray:
    return -(notes.counts.astype(float) ** 2)


def bars(*counts: int) -> Notes:
    """One piece with so many notes in each bar."""
    return piece(*((96 * bar + 6 * k, 6, 60 + k) for bar, count in enumerate(counts) for k in range(count)))


def test_a_judge_that_counts_notes_gives_each_note_its_own():
    notes = bars(2, 3, 1)
    assert prefix_credit(fewer, notes, fewer(notes)).tolist() == [-1.0] * 6


def test_a_bar_has_what_it_changed_and_its_notes_share_it():
    notes = bars(2, 1, 3)
    # scores -4, -9, -36: the bars change -4, -5, -27
    found = prefix_credit(squared, notes, squared(notes))
    assert found.dtype == np.float32 and found.tolist() == [-2, -2, -5, -9, -9, -9]


def test_bars_without_notes_change_nothing():
    late = bars(0, 2, 0, 0, 1, 0)
    assert prefix_credit(squared, late, squared(late)).tolist() == [-2, -2, -5]


def test_the_last_bar_answers_for_the_piece_itself():
    """The score of the piece itself is not computed again; it may have a floor that beginnings do not have."""
    notes = bars(2, 1, 3)
    asked: list[list[int]] = []

    def score(some: Notes) -> np.ndarray:
        asked.append(some.counts.tolist())
        return squared(some)

    assert prefix_credit(score, notes, np.array([-10.0])).tolist() == pytest.approx([-2, -2, -5, *[-1 / 3] * 3])
    assert asked == [[2, 3]]


def test_beginnings_are_pieces_with_their_bars_and_no_later_notes():
    notes = Notes.concat([bars(1, 0, 2, 1), nothing(), bars(3), bars(1, 1)])
    received: list[Notes] = []

    def score(some: Notes) -> np.ndarray:
        received.append(some)
        return fewer(some)

    prefix_credit(score, notes, fewer(notes))
    (some,) = received
    assert some.n_pieces == 3 and some.counts.tolist() == [1, 3, 1]
    assert np.diff(some.bar_starts).tolist() == [1, 3, 1]
    first = notes.pieces([0]).select(notes.pieces([0]).bar <= 2)
    np.testing.assert_array_equal(some.pieces([1]).pitch, first.pitch)
    np.testing.assert_array_equal(some.pieces([1]).onset, first.onset)


@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=5), min_size=1, max_size=4))
def test_credit_sums_to_the_score_and_each_piece_is_judged_alone(pieces):
    notes = Notes.concat([bars(*counts) for counts in pieces])
    whole = squared(notes)
    found = prefix_credit(squared, notes, whole)
    np.testing.assert_allclose(np.bincount(notes.piece, found, minlength=len(pieces)), whole, rtol=1e-5)
    alone = [prefix_credit(squared, one, squared(one)) for one in each(notes)]
    np.testing.assert_array_equal(np.concatenate(alone), found)


def test_later_bars_do_not_change_the_credit_of_a_bar():
    longer, shorter = bars(2, 1, 3, 4), bars(2, 1, 3)
    found = prefix_credit(squared, longer, squared(longer))
    np.testing.assert_array_equal(found[:6], prefix_credit(squared, shorter, squared(shorter)))


def test_beginnings_are_judged_some_at_a_time(monkeypatch):
    notes = Notes.concat([bars(1, 2, 3, 4), bars(2, 2), bars(5, 1, 1)])
    expected = prefix_credit(squared, notes, squared(notes))
    monkeypatch.setattr(credit, "BATCH", 2)
    sizes: list[int] = []

    def score(some: Notes) -> np.ndarray:
        sizes.append(some.n_pieces)
        return squared(some)

    np.testing.assert_array_equal(prefix_credit(score, notes, squared(notes)), expected)
    assert sizes == [2, 2, 2]  # 3 beginnings, and 1, and 2


def test_pieces_without_notes_have_no_credit():
    assert prefix_credit(fewer, nothing(3), np.zeros(3)).shape == (0,)
    assert prefix_credit(fewer, Notes.concat([]), np.zeros(0)).shape == (0,)


class Counts:
    """A model for the style critic: -0.1 for each note; one of more than 40 notes loses all."""

    input = "notes"

    prior: ClassVar = {"style": 0.0}

    def log_odds(self, notes: Notes, question: str) -> np.ndarray:
        nats = -0.1 * np.maximum(notes.counts, 1)
        return nats - np.log1p(-np.exp(nats))

    def penalty(self, notes: Notes) -> np.ndarray:
        return np.where(notes.counts > 40, 100.0, 0.0)

    def save(self, folder):
        return {}


def test_a_style_critic_gives_credit_that_sums_to_its_score():
    critic = StyleCritic(Counts(), "jazz", min_notes=4, credit=True)
    notes = Notes.concat([bars(3, 2, 4), bars(2, 1), bars(30, 15), nothing(), demo("lead_sheets", works=1)])
    judged = critic(notes)
    assert judged.defined.tolist() == [True, False, True, False, True]
    np.testing.assert_allclose(
        np.bincount(notes.piece, judged.credit, minlength=5)[[0, 1, 2, 4]], judged.score[[0, 1, 2, 4]], rtol=1e-5
    )
    # 3 notes are too few and have the prior; then -0.5, then -0.9
    prior = np.log(0.5)
    expected = [prior / 3] * 3 + [(-0.5 - prior) / 2] * 2 + [-0.4 / 4] * 4
    np.testing.assert_allclose(judged.credit[:9], expected, rtol=1e-5)
    assert judged.credit.dtype == np.float32 and np.isfinite(judged.credit).all()
    without = StyleCritic(Counts(), "jazz", min_notes=4)(notes)
    assert without.credit is None
    np.testing.assert_array_equal(without.score, judged.score)


def test_a_note_past_the_end_of_its_bar_is_in_a_prefix_with_its_bar(remi):
    """Sampled music may write a position that its bar does not have; the note then sounds in a later bar."""
    names = {name: i for i, name in enumerate(remi.names)}

    def note(position):
        return [names[f"Position_{position}"], names["Pitch_60"], names["Velocity_63"], names["Duration_0.6.24"]]

    short_bar = [names["Bar_None"], names["TimeSig_1/4"]]
    notes = Notes.from_ids([[*short_bar, *note(0), *note(90), *[*short_bar, *note(0)] * 4]], remi)
    assert notes.bar.tolist() == [0, 1, 2, 3, 0, 4]
    lengths = []

    def score(some: Notes) -> np.ndarray:
        lengths.extend(len(row) for row in remi.encode(some)[: some.n_pieces])  # reads the bars of every note
        return squared(some)

    found = prefix_credit(score, notes, squared(notes))
    assert found.sum() == pytest.approx(-36) and lengths == sorted(lengths)
