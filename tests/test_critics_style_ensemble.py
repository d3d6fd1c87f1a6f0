"""An ensemble of small networks: it learns, only its seed decides, its answer by hand."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from critics_music import STRAIGHT, SWUNG, toy
from sklearn.metrics import roc_auc_score

from critics.style.ensemble import (
    CLIP,
    MEMBERS,
    SPREAD,
    Ensemble,
    Member,
    TrainingSet,
    feature_table,
    fit_member,
    view_columns,
)
from critics.style.features import VIEWS
from mgen.notes import Notes
from mgen.transforms.hard_negatives import HARD_NEGATIVES

pytestmark = pytest.mark.slow

STYLE = Member("style", "rhythm", (), steps=40)
INTACT = Member("intact", "transitions", ("one_pitch",), share=1.0, steps=40)


def styles(pieces: int, seed: int) -> tuple[Notes, np.ndarray]:
    rng = np.random.default_rng(seed)
    return Notes.concat([toy(SWUNG, pieces, rng), toy(STRAIGHT, pieces, rng)]), np.arange(2 * pieces) < pieces


def training_set(pieces: int, seed: int) -> TrainingSet:
    notes, yes = styles(pieces, seed)
    corrupted = HARD_NEGATIVES["one_pitch"](notes, np.random.default_rng(seed))
    n = len(yes)
    table = np.concatenate([feature_table(notes), feature_table(corrupted)])
    return TrainingSet(table, np.tile(yes, 2), np.repeat(["", "one_pitch"], n), np.ones(2 * n))


@pytest.fixture(scope="module")
def examples():
    return training_set(24, 0)


@pytest.fixture(scope="module")
def learned(examples):
    return Ensemble.fit(examples, (STYLE, replace(STYLE, view="pitch"), INTACT))


def test_it_learns_its_questions(learned):
    test = training_set(16, 1)
    real = test.corruption == ""
    assert roc_auc_score(test.positive[real], learned.logits(test.table[real], "style")) > 0.95
    assert roc_auc_score(real, learned.logits(test.table, "intact")) > 0.95


def test_only_its_seed_decides(examples):
    before = torch.get_rng_state()
    first = fit_member(examples, STYLE)
    assert torch.equal(torch.get_rng_state(), before)  # the global generator is untouched
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.manual_seed(99)
        np.random.seed(99)  # noqa: NPY002
        again = fit_member(examples, STYLE)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    for other in (fit_member(examples, STYLE, seed=1), fit_member(examples, replace(STYLE, seed=1))):
        assert all(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    assert not first.training


def constant(logit: float, question: str = "style"):
    """A member and a network with a constant logit."""
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


def test_the_answer_is_the_mean_minus_some_spread():
    members, networks = zip(constant(1.0), constant(3.0), constant(-100.0, "intact"), strict=True)
    both = Ensemble(members, networks)
    table = feature_table(styles(1, 0)[0])
    assert both.logits(table, "style").tolist() == [2 - SPREAD] * 2  # 1 and 3: mean 2, deviation 1
    assert both.logits(table, "style", spread=1.0).tolist() == [1.0] * 2
    assert both.logits(table, "style", spread=math.inf).tolist() == [1.0] * 2
    assert both.logits(table, "intact").tolist() == [-100.0] * 2


def test_a_network_reads_its_view_and_clips_features(learned):
    table = feature_table(styles(4, 2)[0])
    own = view_columns("rhythm")
    moved = table.copy()
    moved[:, np.setdiff1d(np.arange(table.shape[1]), own)] += 5
    rhythm = learned.networks[0]
    np.testing.assert_array_equal(rhythm.standard(moved), rhythm.standard(table))
    for extreme in (1e3, 1e6):
        moved[:, own[0]] = extreme
        assert float(rhythm.standard(moved).abs().max()) == CLIP


def test_it_learns_from_real_music_and_its_own_negatives_only(examples):
    """Rows of other corruptions, and real ones of weight 0, may hold any values."""
    unknown = np.full((6, examples.table.shape[1]), np.nan)
    more = TrainingSet(
        np.concatenate([examples.table, unknown]),
        np.append(examples.positive, [True, False] * 3),
        np.append(examples.corruption, ["two_bar_loop"] * 4 + [""] * 2),
        np.append(examples.weight, [1.0] * 4 + [0.0] * 2),
    )
    for member in (STYLE, INTACT):
        found, expected = fit_member(more, member), fit_member(examples, member)
        assert all(torch.equal(a, b) for a, b in zip(found.parameters(), expected.parameters(), strict=True))


@pytest.mark.parametrize(
    ("member", "kept"), [(STYLE, "positive"), (STYLE, "other"), (INTACT, "intact"), (INTACT, "none")]
)
def test_a_missing_side_is_an_error(member, kept, examples):
    real = examples.corruption == ""
    rows = {
        "positive": real & examples.positive,
        "other": real & ~examples.positive,
        "intact": real,
        "none": np.zeros(len(real), bool),
    }[kept]
    part = TrainingSet(examples.table[rows], examples.positive[rows], examples.corruption[rows], examples.weight[rows])
    with pytest.raises(ValueError, match=f"{member.question}: expected examples of both classes"):
        fit_member(part, member)


def test_a_question_that_nobody_answers_is_an_error():
    member, network = constant(0.0)
    with pytest.raises(ValueError, match="no member has the question 'intact'"):
        Ensemble([member], [network]).logits(feature_table(styles(1, 0)[0]), "intact")


def test_saved_and_loaded_its_logits_are_the_same(learned):
    members = json.loads(json.dumps([asdict(member) for member in learned.members]))
    tensors = {name: value.clone() for name, value in learned.tensors().items()}
    loaded = Ensemble.from_tensors(members, tensors)
    assert loaded.members == learned.members
    table = feature_table(styles(6, 3)[0])
    for question in ("style", "intact"):
        np.testing.assert_array_equal(loaded.logits(table, question), learned.logits(table, question))
    with pytest.raises(KeyError):
        Ensemble.from_tensors(members, {name: value for name, value in tensors.items() if name[0] != "1"})


def test_members_have_known_negatives_and_views():
    for member in MEMBERS:
        assert member.view in VIEWS and set(member.negatives) <= set(HARD_NEGATIVES)
    assert {member.question for member in MEMBERS} == {"style", "intact"}
    assert len(set(MEMBERS)) == len(MEMBERS)  # two that are alike in everything would be one
