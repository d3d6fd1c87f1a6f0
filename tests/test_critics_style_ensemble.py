"""An ensemble of small networks: that it learns, that nothing but its seed decides, what it says by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from critics_music import STRAIGHT, SWUNG, toy
from sklearn.metrics import roc_auc_score

from critics.style.ensemble import (
    FARTHEST,
    MEMBERS,
    SPREAD,
    Ensemble,
    Material,
    Member,
    feature_table,
    fit_member,
    view_columns,
)
from critics.style.features import VIEWS
from critics.style.feature_training import WAYS
from mgen.notes import Notes
from mgen.transforms.hard_negatives import HARD_NEGATIVES

STYLE = Member("style", "rhythm", (), steps=40)
WHOLE = Member("whole", "joints", ("one_pitch",), share=1.0, steps=40)


def styles(pieces: int, seed: int) -> tuple[Notes, np.ndarray]:
    rng = np.random.default_rng(seed)
    return Notes.concat([toy(SWUNG, pieces, rng), toy(STRAIGHT, pieces, rng)]), np.arange(2 * pieces) < pieces


def material(pieces: int, seed: int) -> Material:
    notes, yes = styles(pieces, seed)
    broken = HARD_NEGATIVES["one_pitch"](notes, np.random.default_rng(seed))
    n = len(yes)
    table = np.concatenate([feature_table(notes), feature_table(broken)])
    return TrainingSet(table, np.tile(yes, 2), np.repeat(["", "one_pitch"], n), np.ones(2 * n))


@pytest.fixture(scope="module")
def lessons():
    return material(24, 0)


@pytest.fixture(scope="module")
def learned(lessons):
    return Ensemble.fit(lessons, (STYLE, replace(STYLE, view="pitch"), WHOLE))


def test_it_learns_what_it_is_asked(learned):
    test = material(16, 1)
    real = test.way == ""
    assert roc_auc_score(test.positive[real], learned.logits(test.table[real], "style")) > 0.95
    assert roc_auc_score(real, learned.logits(test.table, "whole")) > 0.95


def test_its_seed_decides_and_nothing_else(lessons):
    before = torch.get_rng_state()
    first = fit_member(lessons, STYLE)
    assert torch.equal(torch.get_rng_state(), before)  # whoever draws from it afterwards draws the same
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.manual_seed(99)
        np.random.seed(99)  # noqa: NPY002
        again = fit_member(lessons, STYLE)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    for other in (fit_member(lessons, STYLE, seed=1), fit_member(lessons, replace(STYLE, seed=1))):
        assert all(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    assert not first.training


def saying(logit: float, question: str = "style"):
    """A member and a network that always says the same."""
    member = replace(STYLE, question=question)
    table = feature_table(styles(1, 0)[0])
    network = fit_member(
        TrainingSet(table, np.array([True, False]), np.array(["", ""]), np.ones(2)), replace(STYLE, steps=4)
    )
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
        network.body[-1].bias.fill_(logit)
    return member, network


def test_what_counts_is_the_mean_less_some_spread():
    members, networks = zip(saying(1.0), saying(3.0), saying(-100.0, "whole"), strict=True)
    both = Ensemble(members, networks)
    table = feature_table(styles(1, 0)[0])
    assert both.logits(table, "style").tolist() == [2 - SPREAD] * 2  # 1 and 3: mean 2, deviation 1
    assert both.logits(table, "style", spread=1.0).tolist() == [1.0] * 2
    assert both.logits(table, "style", spread=math.inf).tolist() == [1.0] * 2
    assert both.logits(table, "whole").tolist() == [-100.0] * 2


def test_a_network_hears_its_view_and_no_trait_shouts(learned):
    table = feature_table(styles(4, 2)[0])
    own = view_columns("rhythm")
    moved = table.copy()
    moved[:, np.setdiff1d(np.arange(table.shape[1]), own)] += 5
    rhythm = learned.networks[0]
    np.testing.assert_array_equal(rhythm.standard(moved), rhythm.standard(table))
    for shout in (1e3, 1e6):
        moved[:, own[0]] = shout
        assert float(rhythm.standard(moved).abs().max()) == FARTHEST


def test_only_real_music_and_ways_that_it_is_told_are_learned_from(lessons):
    """Rows of another way, and real ones that weigh nothing, may hold anything at all."""
    unknown = np.full((6, lessons.table.shape[1]), np.nan)
    more = TrainingSet(
        np.concatenate([lessons.table, unknown]),
        np.append(lessons.positive, [True, False] * 3),
        np.append(lessons.way, ["two_bar_loop"] * 4 + [""] * 2),
        np.append(lessons.weight, [1.0] * 4 + [0.0] * 2),
    )
    for member in (STYLE, WHOLE):
        found, expected = fit_member(more, member), fit_member(lessons, member)
        assert all(torch.equal(a, b) for a, b in zip(found.parameters(), expected.parameters(), strict=True))


@pytest.mark.parametrize(("member", "kept"), [(STYLE, "positive"), (STYLE, "other"), (WHOLE, "whole"), (WHOLE, "none")])
def test_a_missing_side_is_an_error(member, kept, lessons):
    real = lessons.way == ""
    rows = {
        "positive": real & lessons.positive,
        "other": real & ~lessons.positive,
        "whole": real,
        "none": np.zeros(len(real), bool),
    }[kept]
    part = TrainingSet(lessons.table[rows], lessons.positive[rows], lessons.way[rows], lessons.weight[rows])
    with pytest.raises(ValueError, match=f"{member.question}: expected both a yes and a no"):
        fit_member(part, member)


def test_a_question_that_nobody_answers_is_an_error():
    member, network = saying(0.0)
    with pytest.raises(ValueError, match="no member is asked 'whole'"):
        Ensemble([member], [network]).logits(feature_table(styles(1, 0)[0]), "whole")


def test_saved_and_loaded_it_says_the_same(learned):
    described = json.loads(json.dumps(learned.described()))
    tensors = {name: value.clone() for name, value in learned.tensors().items()}
    loaded = Ensemble.from_tensors(described, tensors)
    assert loaded.members == learned.members
    table = feature_table(styles(6, 3)[0])
    for question in ("style", "whole"):
        np.testing.assert_array_equal(loaded.logits(table, question), learned.logits(table, question))
    with pytest.raises(KeyError):
        Ensemble.from_tensors(described, {name: value for name, value in tensors.items() if name[0] != "1"})


def test_members_are_told_of_ways_and_views_that_there_are():
    for member in MEMBERS:
        assert member.view in VIEWS and set(member.negatives) <= set(WAYS)
    assert {member.question for member in MEMBERS} == {"style", "whole"}
    assert len(set(MEMBERS)) == len(MEMBERS)  # two that are alike in everything would be one
