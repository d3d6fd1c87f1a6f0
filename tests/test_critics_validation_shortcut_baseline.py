"""How well format alone separates collections, where it does and where it cannot."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from test_critics_validation_leave_one_out import collections
from test_transforms_format_augmentations import written

from critics.style.excerpts import draw_excerpts
from critics.validation.shortcut_baseline import (
    MARGINALS,
    Stage,
    from_source_files,
    marginals,
    shortcut_baseline,
    summarise,
)
from mgen.corpus.shards import Corpus
from mgen.notes import Notes
from mgen.transforms.format_augmentations import flat_velocities
from mgen.transforms.format_invariant import format_invariant_view


def complete(notes):
    return Stage(notes, np.ones(notes.n_pieces, bool))


def test_marginals_by_hand():
    one = written([0, 0, 0, 6, 24, 48, 99], [60, 64, 67, 61, 62, 63, 65], 6)
    two = Notes.concat([replace(one, velocity=np.array([1, 9, 127, 64, 64, 64, 64], np.int32)), one])
    loud = MARGINALS["loudness"](two)
    assert loud[0, [0, 1, 8, 15]].tolist() == [1 / 7, 1 / 7, 4 / 7, 1 / 7] and loud[:, -1].tolist() == [4, 1]
    phase = MARGINALS["phase"](two)[0]  # onsets 0, 6, 24, 48 and 99
    assert phase[[0, 6, 3]].tolist() == [0.6, 0.2, 0.2] and phase[24:27].tolist() == [0.6, 0.2, 0.2]
    assert MARGINALS["durations"](two)[0, 5] == 1
    assert MARGINALS["density"](two)[0, 0] == pytest.approx(4 / (99 / 24))
    texture = MARGINALS["texture"](two)[0]
    assert texture.tolist() == [0.8, 0, 0.2, 0, 0, 0, 7 / 5]
    assert MARGINALS["length"](two)[:, 0].tolist() == [7, 7]
    empty = two.select(np.zeros(len(two), bool))
    assert np.isfinite(marginals(empty)).all() and len(marginals(empty)) == 2


@pytest.mark.slow
def test_loudness_separates_collections_until_it_is_flat():
    excerpts = collections(n=10, music=False)
    flat = flat_velocities(excerpts.notes, np.random.default_rng(0))
    stages = {"files": complete(excerpts.notes), "view": complete(format_invariant_view(flat, "none"))}
    results = shortcut_baseline(excerpts, stages, min_pieces=10, parts=True)
    assert len(results) == 6
    for result in results:
        files, after = result.auc["files"], result.auc["view"]
        assert files["loudness"].value == files["format"].value == files["all"].value == 1
        assert files["phase"].value == 0.5  # all pieces are of the same rhythm
        assert {name: value.value for name, value in after.items()} == dict.fromkeys(after, 0.5)
        assert result.missing == {"files": 0, "view": 0}
    found = summarise(results)["on grid"]
    assert found["files"]["loudness"] == {"mean": 1.0, "highest": 1.0}
    assert json.loads(json.dumps([result.to_json() for result in results]))[0]["type"] == "on grid"


@pytest.mark.slow
def test_only_pairs_of_one_kind_on_request():
    excerpts = collections(n=10, on_grid=np.repeat([True, False, True, False, False], 10))
    results = shortcut_baseline(excerpts, {"here": complete(excerpts.notes)}, min_pieces=10, same_type=True)
    assert [(result.positive, result.other) for result in results] == [
        ("club", "church"),
        ("hall", "game"),
        ("hall", "school"),
    ]


def test_raw_excerpts_come_from_the_files_and_missing_ones_are_counted(small_corpus):
    excerpts = draw_excerpts(Corpus.open(small_corpus), "jazz", 48, pieces=3)
    gone = excerpts.path.copy()
    gone[1] = "nowhere.mid"
    found = from_source_files(replace(excerpts, path=gone), 48)
    assert found.known.tolist() == [k != 1 for k in range(len(excerpts))]
    assert found.notes.counts.tolist() == [48 if known else 0 for known in found.known]
    assert len(np.unique(found.notes.velocity)) > 1


@pytest.mark.slow
def test_excerpts_of_one_work_are_held_out_together():
    excerpts = collections(n=24, music=False)
    excerpts = excerpts.rows(np.isin(excerpts.collection, ["club", "church"]))
    number = np.arange(48) // 4  # four excerpts a work, as loud as no other work
    loud = (np.random.default_rng(0).permutation(12)[number] * 8 + 20).astype(np.int32)
    notes = replace(excerpts.notes, velocity=loud[excerpts.notes.piece])
    found = []
    for work in (excerpts.work, number.astype(str)):
        (pair,) = shortcut_baseline(replace(excerpts, work=work), {"here": complete(notes)}, min_pieces=24, parts=True)
        found.append(pair.auc["here"]["loudness"].value)
    assert found[0] > 0.9 and found[1] < 0.7
