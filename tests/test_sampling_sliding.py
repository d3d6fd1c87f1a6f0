"""Continuing a piece beyond the context: windows of its last bars, and lengths in tokens, notes and bars."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from progress_counts import Counts

from mgen.corpus.clean import normalise
from mgen.encoding.remi import Kind
from mgen.notes import Notes
from mgen.sampling.decoding import Decoding
from mgen.sampling.sliding import Continuation, Length, extend, last_part
from mgen.sampling.systems import ModelSystem

CONTEXT = 64


@pytest.fixture(scope="module")
def music(remi, demo_pieces):
    return remi.encode(normalise(demo_pieces[0], "piano"))[0].tolist()


@pytest.fixture
def head(remi):
    return [remi.bos_id, remi.style_ids["jazz"]]


@pytest.fixture
def system(tiny_policy, remi):
    """A policy with a short context, and the windows that it is given to read."""

    class Watched(ModelSystem):
        windows = []

        def roll_out(self, rows, length, generator, **more):
            self.windows.extend(rows)
            assert all(len(row) + length <= CONTEXT for row in rows)
            return super().roll_out(rows, length, generator, **more)

    model = tiny_policy(seed=1, initializer_range=0.3, max_position_embeddings=CONTEXT)
    Watched.windows = []
    return Watched(model, remi, Decoding(), grammar=True)


def metre_at(ids, remi):
    return next(token for token in reversed(ids) if remi.kind[token] == Kind.TIME_SIGNATURE)


def test_a_row_that_fits_is_read_whole(music, head, remi):
    row = [*head, *music[:40]]
    assert last_part(row, 2, 42, remi) == row


@pytest.mark.parametrize("most", [30, 48, 100, 200])
def test_a_window_has_the_head_and_begins_with_a_bar(music, head, remi, most):
    row = [*head, *music]
    found = last_part(row, 2, most, remi)
    assert found[:2] == head and most / 2 - 2 < len(found) <= most
    assert found[2] == remi.bar_id and remi.kind[found[3]] == Kind.TIME_SIGNATURE
    assert found[4:] == row[len(row) - len(found) + 4 :]
    assert found[3] == metre_at(row[: len(row) - len(found) + 4], remi)
    notes = Notes.from_ids([found], remi)
    assert notes.n_broken[0] == 0 and len(notes)


def test_a_window_inside_a_long_bar_keeps_its_metre(head, remi):
    names = {name: id_ for id_, name in enumerate(remi.names)}
    bar = [remi.bar_id, names["TimeSig_7/4"]]
    for position in range(0, 150, 6):
        bar += [names[f"Position_{position}"], names["Pitch_60"], names["Velocity_63"], names["Duration_0.6.24"]]
    found = last_part([*head, *bar], 2, 40, remi)
    assert found[:4] == [*head, *bar[:2]] and remi.kind[found[4]] == Kind.POSITION and len(found) == 40
    assert found[4:] == bar[-36:]


def test_lengths_are_cut_where_they_are_reached(music, remi):
    bars = [i for i, token in enumerate(music) if token == remi.bar_id]
    ends = [i for i, token in enumerate(music) if remi.kind[token] == Kind.DURATION]
    assert Length(50).cut(music, remi) == 50 and Length(50).cut(music[:49], remi) is None
    assert Length(10_000, bars=2).cut(music, remi) == bars[2]
    assert Length(10_000, bars=2).cut(music[: bars[2]], remi) is None  # the second bar may go on
    assert Length(10_000, notes=5).cut(music, remi) == ends[4] + 1
    assert Length(10_000, notes=5, bars=1).cut(music, remi) == min(ends[4] + 1, bars[1])


@pytest.mark.parametrize("limit", [Length(200), Length(5000, bars=6), Length(5000, notes=60)])
def test_a_piece_goes_on_beyond_the_context(system, music, head, remi, limit):
    pieces = [Continuation([*head, *music[:200]]) for _ in range(3)]
    extend(system, pieces, limit, torch.Generator().manual_seed(0), 2, may_end=False)
    rows = [[*piece.prompt, *piece.completion] for piece in pieces]
    notes = Notes.from_ids(rows, remi, start=202)
    assert (notes.n_broken == 0).all() and not any(remi.eos_id in row for row in rows)
    for piece in pieces:
        new = np.array(piece.completion)
        assert len(new) == len(piece.logprobs) == len(piece.removed)
        if limit.bars:
            assert remi.opens_bar[new].sum() == limit.bars
        elif limit.notes:
            assert remi.notes_in[new].sum() == limit.notes
        else:
            assert len(new) == 200
    assert len(system.windows) > 3 and all(window[:2] == head for window in system.windows)
    assert all(window[2] == remi.bar_id for window in system.windows)


def test_pieces_and_windows_are_counted(system, head, remi):
    progress = Counts()
    pieces = [Continuation(list(head)) for _ in range(2)]
    extend(system, pieces, Length(150), torch.Generator().manual_seed(0), 2, may_end=False, progress=progress)
    assert progress.counts[0] == ("pieces", 0, 2, "window 1") and progress.counts[-1] == ("pieces", 2, 2, "")
    notes = [note for *_, note in progress.counts[:-1]]
    assert notes == [f"window {i + 1}" for i in range(len(notes))] and len(notes) > 2


def test_within_the_context_it_is_one_sample(system, head, remi):
    piece = Continuation(head)
    extend(system, [piece], Length(50), torch.Generator().manual_seed(3), 2)
    rollout = system.roll_out([head], 50, torch.Generator().manual_seed(3))
    assert piece.completion == rollout.lists()[0][0]


def test_what_has_ended_is_left_alone(system, head, remi):
    piece = Continuation(head, [remi.bar_id, remi.common_time, remi.eos_id])
    extend(system, [piece], Length(50), torch.Generator(), 2)
    assert len(piece.completion) == 3 and system.windows == []
