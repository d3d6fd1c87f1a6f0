from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from evaluation_pieces import line, nothing, same, solos, works

from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.evaluation.corruption_table import corruption_table
from mgen.music.metrics import METRICS
from mgen.notes import Notes
from mgen.stats.intervals import bootstrap
from mgen.transforms.corruptions import CORRUPTIONS, EXTRA_CORRUPTIONS, drop_notes, insert_invalid_tokens


def test_cells_are_means_and_paired_changes_by_work():
    real = solos(30)
    names = works(30, 3)
    table = corruption_table(real, names, {"rep4": METRICS["rep4"], "GS": METRICS["GS"]}, CORRUPTIONS, seed=2)
    corrupted = CORRUPTIONS["bars_shuffled"](real, np.random.default_rng(2))
    before, after = METRICS["rep4"](real), METRICS["rep4"](corrupted)
    cell = table.cells["rep4"]["bars_shuffled"]
    for found, values in ((cell.mean, after), (cell.change, after - before)):
        expected = bootstrap(values, names, seed=2)
        np.testing.assert_allclose([found.value, found.low, found.high], [expected.value, expected.low, expected.high])
    assert table.detected("rep4")["bars_shuffled"] == "-" and table.detected("rep4")["two_bar_loop"] == "+"
    assert "bars_shuffled" in table.undetected("GS")  # its bars are the same ones
    assert table.n == 30 and table.works == 10


def test_what_is_undefined_is_neither_detected_nor_zero():
    def long_only(notes: Notes) -> np.ndarray:
        return np.where(notes.counts > 50, 1.0, np.nan)

    table = corruption_table(
        Notes.concat([line(range(40, 100)), line([60, 62])]),
        ["a", "b"],
        {"long": long_only, "never": lambda notes: np.full(notes.n_pieces, np.nan)},
        {"same": lambda notes, rng: notes, "none": lambda notes, rng: nothing(notes.n_pieces)},
    )
    assert table.cells["long"]["real"].mean.undefined == 1
    assert table.cells["long"]["same"].sign == "="
    assert table.cells["long"]["none"].sign == "?" == table.cells["never"]["same"].sign
    assert table.undetected("long") == ["same", "none"]
    found = json.loads(json.dumps(table.to_json()))
    assert found["rows"]["none"]["long"]["value"] is None
    assert found["undetected"]["never"] == ["same", "none"]


def test_the_csv_has_a_line_for_each_cell():
    table = corruption_table(solos(8), works(8), {"H1": METRICS["H1"], "valid": METRICS["valid"]}, CORRUPTIONS)
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert len(rows) == 2 * (1 + len(CORRUPTIONS))
    one = next(row for row in rows if row["measure"] == "H1" and row["row"] == "one_pitch")
    assert float(one["value"]) == 0 and one["sign"] == "-"
    assert {row["value"] for row in rows if row["measure"] == "valid"} == {""}


def test_bad_input():
    with pytest.raises(MgenError, match="expected real pieces, found none"):
        corruption_table(Notes.concat([]), [], {}, CORRUPTIONS)
    with pytest.raises(MgenError, match=r"measure 'odd': expected \(8,\) numbers, found \(3,\)"):
        corruption_table(solos(8), works(8), {"odd": lambda notes: np.zeros(3)}, CORRUPTIONS)
    with pytest.raises(MgenError, match="expected a work for each of 8 real pieces, found 1"):
        corruption_table(solos(8), ["a"], METRICS, CORRUPTIONS)


def test_thinned_music_lost_a_third_of_its_notes():
    real = Notes.concat([solos(10), nothing(), line([60])])
    thin = drop_notes(real, np.random.default_rng(0))
    assert thin.n_pieces == 12 and thin.counts.tolist()[10:] == [0, 1]
    assert len(thin) / len(real) == pytest.approx(2 / 3, abs=0.05)
    pairs = set(zip(real.piece.tolist(), real.onset.tolist(), real.pitch.tolist(), strict=True))
    assert set(zip(thin.piece.tolist(), thin.onset.tolist(), thin.pitch.tolist(), strict=True)) <= pairs


def test_misspelt_music_is_the_same_music_with_broken_tokens():
    remi = Remi.build(("jazz", "other"))
    real = Notes.from_ids(remi.encode(solos(5)), remi)
    wrong = insert_invalid_tokens(real, np.random.default_rng(0))
    assert same(real, wrong)
    assert (wrong.n_broken >= 1).all() and not real.n_broken.any()
    np.testing.assert_array_equal(np.bincount(wrong.piece, wrong.broken), wrong.n_broken)
    np.testing.assert_array_equal(wrong.n_tokens - real.n_tokens, wrong.n_broken)
    assert (METRICS["valid"](wrong) == 0).all()
    from_files = insert_invalid_tokens(solos(3), np.random.default_rng(0))
    assert not from_files.n_broken.any() and not from_files.broken.any()
    assert np.isnan(METRICS["valid"](from_files)).all()


@pytest.mark.parametrize("way", EXTRA_CORRUPTIONS)
def test_further_ways_leave_the_bars(way):
    real = solos(4)
    broken = EXTRA_CORRUPTIONS[way](real, np.random.default_rng(1))
    np.testing.assert_array_equal(broken.bars.onset, real.bars.onset)
