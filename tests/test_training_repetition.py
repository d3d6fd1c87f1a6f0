"""Pseudo-repetitions and their loss, by hand; the share of real music that goes on repeating."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mgen.corpus.repetition import ItemShare, PseudoRepetitions, copies_at_end, pitch_tokens, repeat_bars, runs_of_bars
from mgen.corpus.windows import Windows, collate
from mgen.encoding.remi import Kind
from mgen.training.repetition import OwnPenalty, copy_loss, repeated_pitches, unlikelihood_loss

EVERY = torch.ones(4, dtype=torch.bool)


def bar(remi, *pitches, metre="4/4"):
    ids = {name: i for i, name in enumerate(remi.names)}
    names = ["Bar_None", f"TimeSig_{metre}"]
    for place, pitch in enumerate(pitches):
        names += [f"Position_{24 * place}", f"Pitch_{pitch}", "Velocity_63", "Duration_1.0.24"]
    return [ids[name] for name in names]


def music(remi, *bars):
    return np.array([id_ for pitches in bars for id_ in bar(remi, *pitches)])


def toy(*probabilities, ids):
    """(1, T, 4) logits that give the token after each place its probability, the rest even."""
    logits = torch.zeros(1, len(ids), 4)
    for place, p in enumerate(probabilities):
        logits[0, place] = math.log((1 - p) / 3)
        logits[0, place, ids[place + 1]] = math.log(p)
    return logits.requires_grad_()


def loss_of(logits, ids, copies, free=1, ratio=0.5, judged=EVERY):
    return copy_loss(
        logits, torch.tensor([ids]), torch.tensor([copies]), torch.tensor([2]), judged, free=free, ratio=ratio
    )


def test_the_loss_of_two_copies_by_hand():
    ids, copies = [0, 1, 2, 1, 2], [0, 1, 1, 2, 2]
    logits = toy(0.4, 0.8, 0.9, 0.1, ids=ids)
    # token 1: aimed at 0.2, has 0.9; token 2: aimed at 0.4, has 0.1
    assert loss_of(logits, ids, copies).item() == pytest.approx(-math.log(1 - 0.7) - math.log(1 - 0.3))
    assert loss_of(logits, ids, copies, ratio=0.0).item() == pytest.approx(-math.log(1 - 0.9) - math.log(1 - 0.1))
    only = torch.tensor([False, False, True, False])
    assert loss_of(logits, ids, copies, judged=only).item() == pytest.approx(-math.log(1 - 0.3))
    assert loss_of(logits, ids, copies, free=2).item() == 0


def test_a_certain_copy_has_a_finite_loss():
    ids = [0, 1, 2, 1, 2]
    logits = 100 * torch.nn.functional.one_hot(torch.tensor([[1, 2, 1, 2, 0]]), 4).float()
    assert 0 < loss_of(logits, ids, [0, 1, 1, 2, 2], ratio=0.0).item() < 50


def test_a_step_brings_a_copy_to_its_target_from_both_sides_and_leaves_the_copy_before():
    ids, copies = [0, 1, 2, 1, 2], [0, 1, 1, 2, 2]
    logits = toy(0.4, 0.8, 0.9, 0.1, ids=ids)
    loss_of(logits, ids, copies).backward()
    at = torch.arange(4)
    change = -logits.grad[0, at, torch.tensor(ids[1:])]
    assert change[0] == change[1] == 0  # the first copy is only a target
    assert change[2] < 0 < change[3]  # 0.9 is above 0.2, 0.1 below 0.4


def test_bars_are_repeated_to_the_end_and_copies_are_found_again(remi):
    piece = music(remi, [60, 62], [64], [65, 67, 69], [71])
    seen = set()
    for seed in range(40):
        ids = repeat_bars(piece, 90, 2, remi, np.random.default_rng(seed))
        assert len(ids) == 90
        copies, period = copies_at_end(ids, 2, remi)
        begin = int(np.flatnonzero(copies == 1)[0])
        assert begin <= 45 and ids[begin] == remi.bar_id and (ids[:begin] == piece[:begin]).all()
        assert (copies[begin:] == np.arange(90 - begin) // period + 1).all() and copies.max() >= 4
        assert (ids[begin + period :] == ids[begin:-period]).all()
        seen.add((begin, period))
    assert seen == {(0, 10), (10, 6), (0, 16), (10, 20), (16, 14)}


def test_without_room_for_four_copies_or_a_note_nothing_is_repeated(remi):
    rng = np.random.default_rng(0)
    assert not len(repeat_bars(music(remi, [60], [60]), 20, 1, remi, rng))  # a bar has 6 tokens
    assert len(repeat_bars(music(remi, [60], [60]), 24, 1, remi, rng)) == 24
    assert not len(repeat_bars(music(remi, [], [60]), 24, 1, remi, rng))


def test_real_music_has_no_copies_at_its_end(remi):
    assert copies_at_end(music(remi, [60], [62], [64]), 2, remi) == (pytest.approx(0), 0)
    copies, period = copies_at_end(music(remi, [64], [62], [60], [62], [60]), 2, remi)
    assert (copies.tolist(), period) == ([0] * 6 + [1] * 12 + [2] * 12, 12)


def test_each_batch_has_its_share_from_the_first_item_on():
    repetitions = PseudoRepetitions(share=0.125, begin=64, bars=2)
    chosen = [repetitions.bars_of(i) for i in range(128)]
    assert chosen[:64] == [0] * 64
    assert [sum(chosen[i : i + 16]) for i in range(64, 128, 16)] == [4, 4, 4, 4]  # 2 of 16 items, 2 bars each
    blocks = ItemShare(share=0.25, begin=8, block=4)
    assert [i for i in range(48) if blocks.has(i)] == [12, 13, 14, 15, 28, 29, 30, 31, 44, 45, 46, 47]


def test_items_of_a_training_set_repeat_their_bars_and_others_stay_as_they_are(remi, table_of_bars):
    plain = Windows(table_of_bars, remi, 64, 32)
    windows = Windows(table_of_bars, remi, 64, 32, repetitions=PseudoRepetitions(0.25, 16, bars=2))
    for i in range(32):
        item, ids = windows[i], plain[i]["input_ids"]
        if i < 16 or i % 4 != 3:
            assert (item["input_ids"] == ids).all() and not item["copies"].any()
            continue
        assert item["copies"].max() >= 4
        batch = collate([plain[0] | {"copies": np.zeros(64), "period": 0}, item], remi.pad_id)
        trained = batch["labels"][1] != -100
        assert (trained == ((batch["copies"][1] <= 1) & (torch.arange(len(trained)) < len(item["copies"])))).all()
        assert batch["period"].tolist() == [0, item["period"]]


@pytest.fixture
def table_of_bars(remi):
    import pandas as pd

    from mgen.corpus.shards import TokenTable

    ids = music(remi, *([50 + place, 51 + place] for place in range(20))).astype(np.uint16)
    return TokenTable(ids, np.array([0, len(ids)]), pd.DataFrame({"style": ["jazz"]}))


def test_how_often_bars_are_played_in_a_row_by_hand(remi):
    run, again = runs_of_bars(music(remi, [60], [60], [60], [62], [], [62], [60], [60]), remi)
    assert run.tolist() == [1, 2, 3, 1, 1, 1] and again.tolist() == [True, True, False, False, False, True]


def test_only_tokens_with_a_pitch_are_judged(remi):
    assert (pitch_tokens(remi) == (remi.kind == Kind.PITCH)).all()


def test_unlikelihood_by_hand():
    ids = [0, 1, 2, 1]
    logits = toy(0.4, 0.8, 0.9, ids=ids)
    loss = unlikelihood_loss(logits, torch.tensor([ids]), torch.tensor([[False, True, False, True]]))
    assert loss.item() == pytest.approx(-math.log(0.6) - math.log(0.1))
    loss.backward()
    change = -logits.grad[0, torch.arange(3), torch.tensor(ids[1:])]
    assert change[0] < 0 and change[1] == 0 and change[2] < 0


def test_the_fourth_pitch_of_a_repeated_4_gram_is_penalised(remi):
    ids = music(remi, [60, 62, 64, 65], [60, 62], [64, 65], [60, 62, 64, 65, 67])
    pitches = np.flatnonzero(remi.kind[ids] == Kind.PITCH)
    # from the fourth on: 2345 3456 ... of 60 62 64 65 60 62 64 65 60 62 64 65 67
    assert np.isin(pitches, np.flatnonzero(repeated_pitches(ids, remi, free=1))).tolist() == [False] * 7 + [
        True
    ] * 5 + [False]
    assert np.flatnonzero(repeated_pitches(ids, remi, free=2)).tolist() == [pitches[11]]


def test_own_completions_are_the_end_of_some_rows(remi, tiny_policy):
    policy = tiny_policy(initializer_range=0.3)
    ids = music(remi, [60], [62], [64], [65])
    own = OwnPenalty(1.0, remi, 1, ItemShare(0.5, 6), prompt=6, new=20)
    items = [{"input_ids": ids, "index": np.array(index)} for index in range(4, 8)]
    batch = own.collate(items, partial(collate, pad_id=remi.pad_id))
    assert (batch["labels"] != -100).sum(1).tolist() == [24, 24, 24, 6]
    own.prepare(policy, batch)
    assert batch["input_ids"].shape == batch["labels"].shape == (4, 26)
    assert (batch["input_ids"][:3, :24].numpy() == ids).all() and (batch["labels"] != -100).sum() == 3 * 24 + 6
    completed = batch["input_ids"][3]
    assert (completed[:6].numpy() == ids[:6]).all()
    with torch.no_grad():
        logits = policy(input_ids=batch["input_ids"]).logits
    assert (logits[3, 5:25].argmax(-1) == completed[6:]).all()


def test_repetitions_in_a_completion_are_penalised(remi, tiny_policy, monkeypatch):
    ids = torch.from_numpy(music(remi, *[[60, 62]] * 4))  # 8 pitches, 10 tokens a bar
    drawn = SimpleNamespace(token_ids=ids[None, 10:])
    monkeypatch.setattr("mgen.training.repetition.sample", lambda *_, **__: drawn)
    policy, own = tiny_policy(), OwnPenalty(1.0, remi, 1, ItemShare(1.0, 0), prompt=10, new=30)
    items = [{"input_ids": ids.numpy(), "index": np.array(0)}]
    penalty = own.prepare(policy, own.collate(items, partial(collate, pad_id=remi.pad_id)))
    logits = policy(input_ids=ids[None]).logits
    places = np.flatnonzero(remi.kind[ids] == Kind.PITCH)[5:]  # 60 62 60 62 | 60 62: the sixth ends a repeated 4-gram
    expected = [-math.log(1 - logits[0, place - 1].softmax(-1)[ids[place]].item()) for place in places]
    assert penalty(logits).item() == pytest.approx(sum(expected), rel=1e-5)
