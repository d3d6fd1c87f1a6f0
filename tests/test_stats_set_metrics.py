from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from evaluation_pieces import line, nothing, solos, works

from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.stats.distributions import FEATURES
from mgen.stats.intervals import centred_interval
from mgen.stats.memorisation import CopyIndex
from mgen.stats.set_metrics import set_metrics, single_set_metrics
from mgen.transforms.corruptions import CORRUPTIONS

PLAIN = {"oa", "kld", "self_bleu", "distinct2", "distinct4", "vendi_ratio", "frechet", "mmd"}
KEYS = PLAIN | {f"{kind}_{name}" for kind in ("oa", "kld") for name in FEATURES}


@pytest.fixture(scope="module")
def index() -> CopyIndex:
    return CopyIndex.of(solos(30, seed=7), solos(60, seed=8))


def test_every_number_of_real_music_against_itself_is_the_best_possible(index):
    real = solos(40)
    cells = set_metrics(real, real, works(40), works(40), train=index)
    assert set(cells) == KEYS | {"copy_rate", "copied_run"}
    assert cells["oa"].value > 0.97 and cells["kld"].value < 0.01
    assert cells["vendi_ratio"].value == pytest.approx(1) and cells["frechet"].value == pytest.approx(1)
    own = single_set_metrics(real, works(40), train=index)
    assert {name: cells[name] for name in own} == own


@pytest.mark.slow
def test_fresh_music_is_nearer_than_broken_music():
    real, fresh = solos(40), solos(40, seed=1)
    good = set_metrics(real, fresh)
    loops, noise = (
        set_metrics(real, CORRUPTIONS[way](fresh, np.random.default_rng(0)))
        for way in ("two_bar_loop", "random_pitches")
    )
    for bad in (loops, noise):
        assert bad["oa"].value < good["oa"].value
        assert bad["kld"].value > good["kld"].value
        assert bad["frechet"].low > good["frechet"].high
    assert loops["distinct4"].high < good["distinct4"].low < noise["distinct4"].low
    assert noise["self_bleu"].high < good["self_bleu"].low


def test_intervals_hold_their_values_and_are_repeatable(index):
    calls = [set_metrics(solos(20), solos(20, seed=1), train=index, seed=3) for _ in range(2)]
    assert calls[0] == calls[1]
    for name, cell in calls[0].items():
        assert cell.low <= cell.value <= cell.high, name
        assert json.dumps(cell.to_json()), name


def test_further_embedders_have_a_name_each():
    def flat(notes: Notes) -> np.ndarray:
        return np.stack([notes.counts, notes.counts**0.5], axis=1).astype(float)

    cells = set_metrics(solos(12), solos(12, seed=1), embedders={"flat": flat})
    assert set(cells) == KEYS | {"frechet_flat"}
    with pytest.raises(MgenError, match=r"embedder 'odd': expected \(12, D\) numbers, found \(3,\)"):
        set_metrics(solos(12), solos(12), embedders={"odd": lambda notes: np.zeros(3)})


def test_pieces_without_notes_are_counted_and_never_taken_for_music():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cells = set_metrics(solos(12), Notes.concat([solos(10, seed=1), nothing(3), line([60])]))
        silent = set_metrics(solos(6), nothing(6))
    for name in PLAIN:
        assert np.isfinite(cells[name].value), name
        assert cells[name].undefined >= 3, name
        assert np.isnan(silent[name].value) and silent[name].undefined == 6, name


@pytest.mark.parametrize(("real", "other", "side"), [(0, 9, "real"), (9, 0, "other"), (9, 1, "other"), (1, 9, "real")])
def test_a_set_of_none_or_one_is_refused(real, other, side):
    with pytest.raises(MgenError, match=f"expected at least 2 {side} pieces, found [01]"):
        set_metrics(solos(9).pieces(range(real)), solos(9).pieces(range(other)))


def test_works_and_pieces_must_pair():
    with pytest.raises(MgenError, match="expected a work for each of 9 other pieces, found 2"):
        set_metrics(solos(9), solos(9), None, ["a", "b"])


def test_nan_draws_and_values():
    assert centred_interval(1.0, [0.0, np.nan, 2.0]).value == 1.0
    assert np.isnan(centred_interval(np.nan, [1.0]).low)
    assert np.isnan(centred_interval(1.0, []).low)
    cell = centred_interval(0.99, np.linspace(0, 1, 101), 2, 0, 1)
    assert cell.high == 1 and cell.undefined == 2
