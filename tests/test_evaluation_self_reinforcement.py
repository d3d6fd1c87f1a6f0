"""The self-reinforcement curve: of a model without any knowledge by hand, and of real music by counting."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from mgen.corpus.shards import Corpus, TokenTable
from mgen.evaluation.self_reinforcement import (
    COPIES,
    draw_repeated_bars,
    real_repetition,
    repetition_curves,
    self_reinforcement,
)
from mgen.sampling.rollout import completion_logprobs


def table_of(remi, *pieces):
    """Pieces of bars; a bar is the pitches of its quarter notes."""
    ids = {name: i for i, name in enumerate(remi.names)}
    rows = []
    for bars in pieces:
        names = []
        for bar in bars:
            names += ["Bar_None", "TimeSig_4/4"]
            for place, pitch in enumerate(bar):
                names += [f"Position_{24 * place}", f"Pitch_{pitch}", "Velocity_63", "Duration_1.0.24"]
        rows.append([ids[name] for name in names])
    offsets = np.cumsum([0, *map(len, rows)])
    columns = pd.DataFrame({"style": "jazz", "work": [f"work {i}" for i in range(len(rows))]})
    return TokenTable(np.concatenate(rows).astype(np.uint16), offsets, columns)


@pytest.fixture
def table(remi):
    return table_of(remi, [(60, 62), (64,), (65, 67, 69), (), (71,), (72,)], [(50, 52, 53), (55,)])


def test_a_bar_is_repeated_at_the_end_of_real_music(remi, table):
    bars = draw_repeated_bars(table, remi, 12, 80, np.random.default_rng(0))
    assert len(bars.ids) == 12 and set(bars.work) == {"work 0"}  # the only other whole bar has 14 tokens: no room
    pieces = [table[0].tolist(), table[1].tolist()]
    for ids, period in zip(bars.ids, bars.period.tolist(), strict=True):
        assert len(ids) <= 80 and ids[0] == remi.bos_id and ids[1] == remi.style_ids["jazz"] and ids[2] == remi.bar_id
        copies = ids[-period * (COPIES + 1) :].reshape(COPIES + 1, period)
        assert (copies == copies[0]).all() and copies[0, 0] == remi.bar_id and period == 6
        real = ids[2 : len(ids) - period * COPIES].tolist()  # up to the first copy, it is as written
        assert any(real == piece[at : at + len(real)] for piece in pieces for at in range(len(piece)))


def test_a_model_that_knows_nothing_by_hand(remi, table, tiny_policy):
    model = tiny_policy()
    with torch.no_grad():
        model.lm_head.weight.zero_()  # every token has the same probability
    bars = draw_repeated_bars(table, remi, 6, 80, np.random.default_rng(0))
    curve = self_reinforcement(model, remi, bars)
    nats = math.log(remi.vocab_size)
    for copies in range(COPIES + 1):  # a bar of 6 tokens and one note; without its velocity 5 tokens
        assert curve.nats_per_token[copies].value == pytest.approx(-nats)
        assert curve.nats_per_note[copies].value == pytest.approx(-6 * nats)
        assert curve.probability[copies].value == pytest.approx(math.exp(-5 * nats))


def test_the_curve_is_that_of_the_model(remi, table, tiny_policy):
    model = tiny_policy(initializer_range=0.3)
    bars = draw_repeated_bars(table, remi, 1, 80, np.random.default_rng(0))
    logprobs = completion_logprobs(model, torch.from_numpy(bars.ids[0])[None], 6 * (COPIES + 1))[0]
    found = [point.value for point in self_reinforcement(model, remi, bars).nats_per_token]
    assert found == pytest.approx(logprobs.reshape(-1, 6).mean(1).tolist(), rel=1e-5)


def test_how_often_real_music_goes_on_repeating(remi):
    a, b = (60, 62), (64,)
    curve = real_repetition(table_of(remi, [a, a, a, b, b, a], [b, a, a, b]), remi)
    # once in a row: a b a? no: a, b | b, a; of a(yes) b(yes) | b(no) a(yes), and the last bars have no next one
    assert math.isnan(curve[0].value)
    assert curve[1].value == pytest.approx(3 / 4)
    assert curve[2].value == pytest.approx(1 / 3)  # a a (yes), b b (no) | a a (no)
    assert curve[3].value == 0
    assert math.isnan(curve[4].value)


@pytest.mark.slow
def test_an_evaluation_has_the_curves_of_all_models_over_the_same_bars(small_corpus, tiny_policy):
    models = {"one": tiny_policy(0), "two": tiny_policy(1)}
    found = repetition_curves(Corpus.open(small_corpus), models, 8, np.random.default_rng(0)).to_json()
    assert found["bars"] == 8 and len(found["real"]) == COPIES + 1
    assert set(found["models"]) == set(models)
    assert found["models"]["one"] != found["models"]["two"]
