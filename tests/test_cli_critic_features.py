"""`mgen critic` by default: a critic of features, from a corpus to a card and to the judges of other commands."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from safetensors.torch import load_file

from critics.style import StyleCritic
from critics.style.feature_model import WEIGHTS
from critics.style.feature_training import excerpts_of_lengths
from mgen.cli import critic as command
from mgen.corpus.shards import Corpus
from mgen.errors import MgenError
from mgen.runs.checkpoints import check_manifest
from mgen.runs.judges import judges_of_options
from mgen.transforms.corruptions import CORRUPTIONS
from mgen.workflows import critic as workflow
from mgen.workflows.judges import JUDGES

pytestmark = pytest.mark.slow

LENGTHS = (24, 60)


def words(corpus, out, **changes):
    options = {"corpus": corpus, "out": out, "pieces": 6, "report_to": "none", **changes}
    lengths = ["--notes", *map(str, options.pop("notes", LENGTHS))]
    return [word for key, value in options.items() for word in (f"--{key}", str(value))] + lengths


@pytest.fixture(scope="module")
def run(small_corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "critic"
    assert command.main(words(small_corpus, out)) == 0
    return out


@pytest.fixture(scope="module")
def card(run):
    return json.loads((run / "card.json").read_text())


def test_its_card_measures_it(card, run, small_corpus):
    assert (card["input"], card["positive"], card["prior"], card["min_notes"]) == ("features", "jazz", 0.5, 16)
    test = card["test"]
    assert test["auc"]["low"] <= test["auc"]["value"] <= test["auc"]["high"] and test["auc"]["value"] > 0.8
    assert set(test["corrupted"]) == {"straight_eighths", *CORRUPTIONS} and "reliability" in test
    # features contain neither loudness nor key
    for change in ("flat_velocities", "tritone_away"):
        assert test["format"][change]["value"] == pytest.approx(0, abs=1e-6)
    assert test["corrupted"]["one_pitch"]["high"] < test["corrupted"]["bars_shuffled"]["value"] < 0
    # each length by itself, of the excerpts that all together are the test
    assert list(card["by_length"]) == ["24", "60"]
    assert sum(part["n"] for part in card["by_length"].values()) == test["n"]
    assert "pairs" not in card["by_length"]["24"] and "degenerate_inputs" not in card
    critic = StyleCritic.from_pretrained(run / "model")
    assert card["parameters"] == critic.model.parameters
    music = excerpts_of_lengths(Corpus.open(small_corpus), "jazz", "test", LENGTHS, 6, 2, 42)
    judged = critic(music.notes)
    assert test["n"] == len(music)
    assert test["score"]["positive"]["value"] == pytest.approx(judged.score[music.positive].mean(), abs=1e-5)
    assert test["abstained"]["other"] == pytest.approx(1 - judged.defined[~music.positive].mean())


def test_it_states_what_it_was_trained_on(run, small_corpus):
    check_manifest(run / "model")
    corpus = Corpus.open(small_corpus)
    about = json.loads((run / "model" / "critic.json").read_text())["trained_on"]
    assert about["data"] == corpus.fingerprint and about["lengths"] == [24, 60]
    styles = corpus.pieces.groupby("style")["collection"].unique()
    assert {style: sorted(names) for style, names in about["collections"].items()} == {
        style: sorted(names) for style, names in styles.items()
    }
    works = corpus.pieces.loc[corpus.pieces["split"] == "train", "group"].nunique()
    assert 0 < about["works"] <= works and about["excerpts"] > about["works"]


def test_the_reliability_diagram_has_a_dot_for_each_bin(run, card):
    drawing = ElementTree.parse(run / "reliability.svg").getroot()
    dots = drawing.findall(".//{http://www.w3.org/2000/svg}circle")
    bins = card["test"]["reliability"]
    assert len(dots) == len(bins) and sum(part["n"] for part in bins) == card["test"]["n"]
    # a dot lies on the diagonal where both values are equal
    left, bottom = 42.0, 10 + 280 - 52.0
    for dot, part in zip(dots, bins, strict=True):
        assert float(dot.get("cx")) == pytest.approx(left + part["predicted"] * 228, abs=0.06)
        assert float(dot.get("cy")) == pytest.approx(bottom - part["observed"] * 228, abs=0.06)
    assert f"{bins[0]['n']} pieces" in drawing.get("aria-label")


def test_other_commands_judge_by_it(run, small_corpus):
    corpus = Corpus.open(small_corpus)
    music = excerpts_of_lengths(corpus, "jazz", "test", LENGTHS, 6, 2, 42)
    notes = music.notes
    judges = judges_of_options(["style=2"], JUDGES, corpus.remi, str(run / "model"), "")
    critic = StyleCritic.from_pretrained(run / "model", corpus.remi, scale="log_odds")
    judged = critic(notes)
    np.testing.assert_allclose(judges(notes), 2 * judged.score, rtol=1e-6)
    assert (judged.score > 0).any() and (judged.score >= np.float32(critic.worst)).all()
    assert judged.score[music.positive].mean() > judged.score[~music.positive].mean() + 1


def test_a_finished_run_is_not_trained_again(run, small_corpus, capsys):
    before = (run / "model" / WEIGHTS).stat().st_mtime_ns
    assert command.main(words(small_corpus, run)) == 0
    assert "was finished before" in re.sub(r"\s+", " ", capsys.readouterr().out)
    assert command.main([*words(small_corpus, run), "--json", "true"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((run / "card.json").read_text())
    assert (run / "model" / WEIGHTS).stat().st_mtime_ns == before
    with pytest.raises(MgenError, match="each") as caught:
        command.main(words(small_corpus, run, each=1))
    assert "\n" not in str(caught.value)


def test_a_run_interrupted_after_its_weights_starts_again_and_ends_the_same(
    small_corpus, tmp_path, monkeypatch, quick_critic
):
    def cut(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(workflow, "style_card", cut)
        with pytest.raises(KeyboardInterrupt):
            command.main(words(small_corpus, tmp_path / "cut"))
    assert (tmp_path / "cut" / "model").is_dir() and not (tmp_path / "cut" / "card.json").exists()
    for name in ("cut", "complete"):
        assert command.main(words(small_corpus, tmp_path / name)) == 0
    first, again = (load_file(tmp_path / name / "model" / WEIGHTS) for name in ("complete", "cut"))
    assert first.keys() == again.keys() and all((first[name] == again[name]).all() for name in first)
    one, other = (json.loads((tmp_path / name / "card.json").read_text()) for name in ("complete", "cut"))
    assert one == other


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "polka"}, "target: style 'polka': the corpus has jazz, other"),
        ({"input": "audio"}, "input 'audio': expected one of features, tokens"),
        ({"hears": "tokens"}, "option 'hears' is now 'input'"),
        ({"wrong_way": "true"}, "option 'wrong_way' is now 'degenerate_inputs'"),
        ({"init": "runs/base/model"}, "init is for a critic of tokens"),
        ({"max_steps": 5}, "max_steps is for a critic of tokens"),
        ({"notes": (10, 60)}, r"notes \(10\) must be at least min_notes \(16\)"),
        ({"notes": (100_000,)}, "no piece .* has 100000 notes"),
        ({"each": 0}, r"each \(0\) must be at least 1"),
        ({"pieces": -1}, r"pieces \(-1\) must be at least 0"),
        ({"worst": -0.1}, r"worst \(-0.1\) must be below log 1/2"),
        ({"corpus": "nowhere"}, "nowhere"),
        ({"out": ""}, "expected --out"),
    ],
)
def test_the_callers_mistakes_are_one_line_and_leave_nothing(small_corpus, tmp_path, changes, message):
    with pytest.raises(MgenError, match=message) as caught:
        command.main(words(**{"corpus": small_corpus, "out": tmp_path / "out", **changes}))
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_the_parts_are_judges_with_weights(run, small_corpus):
    """The judge style is the sum of its two parts in capped log odds; as words and as a mapping with arguments."""
    corpus = Corpus.open(small_corpus)
    folder = str(run / "model")
    notes = excerpts_of_lengths(corpus, "jazz", "test", LENGTHS, 6, 2, 42).notes
    known = np.flatnonzero(
        StyleCritic.from_pretrained(folder).model.penalty(notes) == 0
    )  # of the others, each part loses
    notes = notes.pieces(known)
    assert len(known) > 10  # what is unlike real music loses twice when the parts are apart

    def score(*entries):
        return judges_of_options(list(entries), JUDGES, corpus.remi, folder, "")(notes)

    style = {"judge": "style", "weight": 1, "arguments": {"part": "style"}}
    np.testing.assert_allclose(score("style=1"), score(style) + score("intact=1"), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(score(style, "intact=.5"), score(style) + score("intact=.5"), rtol=1e-6)
    flat = {"judge": "style", "weight": 1, "arguments": {"scale": "log_probability"}}
    np.testing.assert_allclose(score(flat), StyleCritic.from_pretrained(folder)(notes).score, rtol=1e-6)
    for name, value in (("part", "whole"), ("scale", "odds")):
        with pytest.raises(MgenError, match=f"style critic: {name} '{value}': expected one of"):
            score({"judge": "style", "weight": 1, "arguments": {name: value}})
