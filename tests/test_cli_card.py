"""`mgen card`: from a corpus to cards, a page and bands; the caller's mistakes are one line."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from critics.style import StyleCritic
from mgen.cli import card as command
from mgen.cli.main import run
from mgen.corpus.shards import Corpus
from mgen.corpus.windows import sample_windows
from mgen.errors import MgenError
from mgen.judgement import Judgement
from mgen.notes import Notes
from mgen.transforms.format_augmentations import FORMAT_AUGMENTATIONS
from mgen.transforms.hard_negatives import HARD_NEGATIVES
from mgen.workflows.card import CardConfig, Excerpts, build_judges
from rewards import REWARDS, rules
from rewards.bands import MEASURES, fit_bands, load_bands, save_bands

pytestmark = pytest.mark.slow

CONFIG = CardConfig(corpus="any", tokens=128)
QUICK = ["--tokens", "128", "--n", "24", "--generations", "6", "--seconds", "20"]


class Critic:
    """A judge in place of a style critic: likes low notes.

    Known reward hacking: low notes.
    """

    worst = -9.0

    def __call__(self, notes):
        count = notes.counts
        mean = np.bincount(notes.piece, weights=notes.pitch, minlength=notes.n_pieces) / np.maximum(count, 1)
        return Judgement(np.where(count > 0, -mean / 12, self.worst).astype(np.float32), None, count > 0)


@pytest.fixture
def critic(monkeypatch):
    monkeypatch.setattr(StyleCritic, "from_pretrained", lambda *_: Critic())


@pytest.fixture(scope="module")
def out(small_corpus, tmp_path_factory):
    """Two rules' cards."""
    out = tmp_path_factory.mktemp("runs") / "cards"
    words = ["longest_run", "grammar", "--corpus", str(small_corpus), "--out", str(out), *QUICK]
    assert command.main(words) == 0
    return out


def test_cards_have_every_row_and_a_page(out):
    cards = [json.loads((out / name / "card.json").read_text()) for name in ("longest_run", "grammar")]
    for card in cards:
        kinds = {name: row["kind"] for name, row in card["rows"].items()}
        assert kinds["jazz"] == "real" and kinds["other music"] == "other"
        assert set(HARD_NEGATIVES) == {name for name, kind in kinds.items() if kind == "corrupted"}
        assert set(FORMAT_AUGMENTATIONS) == {name for name, kind in kinds.items() if kind == "format"}
        assert {"empty", "random tokens", "single_note", "random_notes"} <= set(kinds)
        assert all(row["n"] == 24 for row in card["rows"].values())
        assert card["rows"]["empty"]["undefined"] == 1 and card["rows"]["empty"]["mean"]["value"] == card["worst"]
        assert card["exploit"]["evaluated"] > 100 and card["cost"]["us_per_token"] > 0
    runs, gate = cards
    assert runs["unit"] == "band widths" and runs["band"] and gate["unit"] == "nats" and not gate["band"]
    assert gate["rows"]["random tokens"]["as_good_as_real"] == 0 and runs["rows"]["held_note"]["as_good_as_real"] == 0
    text = (out / "cards.md").read_text()
    assert "## longest_run" in text and "## grammar" in text and "embedded demo music" in text


def test_a_card_that_is_made_again_is_the_same_and_joins_the_others(out, small_corpus, tmp_path, capsys):
    again = tmp_path / "cards"
    shutil.copytree(out, again)
    shutil.rmtree(again / "grammar")
    words = ["grammar", "--corpus", str(small_corpus), "--out", str(again), *QUICK, "--json"]
    assert command.main(words) == 0
    found = json.loads(capsys.readouterr().out)["cards"]
    before, after = (json.loads((folder / "grammar" / "card.json").read_text()) for folder in (out, again))
    assert list(found) == ["grammar"] and found["grammar"] == after
    for card in (before, after):
        del card["cost"]
    assert before == after
    for name in ("exploit.mid", "exploit.png"):
        assert (out / "grammar" / name).read_bytes() == (again / "grammar" / name).read_bytes()
    assert "## longest_run" in (again / "cards.md").read_text()


def test_a_critic_has_a_card_and_the_page_may_lie_elsewhere(small_corpus, tmp_path, critic, capsys):
    words = ["style", "--corpus", str(small_corpus), "--critic", "any", "--out", str(tmp_path / "cards"), *QUICK]
    assert command.main([*words, "--page", str(tmp_path / "page.md"), "--start", "corpus"]) == 0
    card = json.loads((tmp_path / "cards" / "style" / "card.json").read_text())
    assert card["expected_exploit"] == "low notes." and card["exploit"]["highest"] >= card["exploit"]["real_median"]
    text = (tmp_path / "page.md").read_text()
    assert "](cards/style/exploit.mid)" in text and "pieces of the corpus" in text
    assert "style" in capsys.readouterr().out


def test_all_are_the_rules_that_the_corpus_has_bands_for_and_the_critic_if_given(small_corpus, critic):
    """Without the cards: they take a while."""
    config = CardConfig(corpus=str(small_corpus), tokens=128, n=24)
    corpus = Corpus.open(config.corpus)
    train = Excerpts.draw(corpus, "train", ["jazz"], 64, CONFIG)
    judges, left_out = build_judges(["all"], config, corpus, train)
    assert list(judges) == list(rules(fit_bands(train.notes, train.on_grid))) and "style" in left_out
    config.critic = "any"
    judges, left_out = build_judges(["all"], config, corpus, train)
    assert list(judges)[-1] == "style" and set(judges) | set(REWARDS) == {*REWARDS, "style"}
    assert all(name in left_out for name in REWARDS if name not in judges)


def test_a_policy_is_a_row_and_a_start(small_corpus, tiny_policy, tmp_path):
    tiny_policy().save_pretrained(tmp_path / "policy")
    Corpus.open(small_corpus).remi.save_pretrained(tmp_path / "policy")
    words = ["longest_run", "--corpus", str(small_corpus), "--policy", str(tmp_path / "policy"), "--start", "policy"]
    assert command.main([*words, "--out", str(tmp_path / "cards"), *QUICK]) == 0
    card = json.loads((tmp_path / "cards" / "longest_run" / "card.json").read_text())
    assert card["rows"]["policy"]["kind"] == "policy" and card["rows"]["policy"]["n"] == 24
    auc = card["rows"]["policy"]["auc"]
    assert 0 <= auc["low"] <= auc["value"] <= auc["high"] <= 1
    text = (tmp_path / "cards" / "cards.md").read_text()
    assert f"{auc['value']:.2f} [{auc['low']:.2f}, {auc['high']:.2f}]" in text and "of the same prompts" in text
    assert card["measured_on"]["initial_pieces"] == "of the policy"


def test_fit_measures_the_bands_of_all_rules_on_the_style(small_corpus, tmp_path, capsys):
    path = tmp_path / "bands.json"
    words = ["--fit", "--corpus", str(small_corpus), "--tokens", "128", "--out", str(path)]
    assert command.main(words) == 0
    bands = load_bands(path)
    assert set(bands) <= set(MEASURES) and {"longest_run", "n_notes"} <= set(bands)
    assert "longest_run" in capsys.readouterr().out
    corpus = Corpus.open(small_corpus)
    windows, _ = sample_windows(corpus.table("train", "jazz"), corpus.remi, 400, 128, np.random.default_rng(5))
    counts = Notes.from_ids(list(windows), corpus.remi).counts
    middle = np.quantile(counts, (0.1, 0.9))
    assert abs(np.array([bands["n_notes"].low, bands["n_notes"].high]) - middle).max() <= 2
    other = tmp_path / "other.json"
    assert command.main([*words[:-1], str(other), "--style", "other", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["bands"]
    assert found["n_notes"]["low"] == load_bands(other)["n_notes"].low != bands["n_notes"].low


def test_given_bands_are_used(small_corpus, tmp_path):
    path = tmp_path / "bands.json"
    corpus = Corpus.open(small_corpus)
    train = Excerpts.draw(corpus, "train", ["jazz"], 64, CONFIG).notes
    bands = fit_bands(train)
    bands["longest_run"] = type(bands["longest_run"])(40.0, 41.0)
    save_bands(bands, path)
    words = ["longest_run", "--corpus", str(small_corpus), "--bands", str(path), "--out", str(tmp_path / "cards")]
    assert command.main([*words, *QUICK]) == 0
    card = json.loads((tmp_path / "cards" / "longest_run" / "card.json").read_text())
    assert card["band"] == [40, 41] and card["rows"]["jazz"]["median"] == -3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected the names of judges"),
        (["longest_rum"], "no judge is called 'longest_rum'; did you mean 'longest_run'?"),
        (["all", "longest_rum"], "did you mean 'longest_run'"),
        (["realism"], "expected --realism RUN/realism of a run of mgen finetune"),
        (["realism", "--realism", "nowhere"], "nowhere"),
        (["style"], "expected --critic FOLDER"),
        (["style", "--critic", "nowhere"], "nowhere"),
        (["grammar", "--bands", "nowhere.json"], "nowhere.json: expected a file with a JSON object"),
        (["grammar", "--style", "polka"], "style 'polka': the corpus has jazz, other"),
        (["grammar", "--split", "tset"], "split 'tset'"),
        (["grammar", "--tokens", "100000"], "choose shorter windows"),
        (["grammar", "--seconds", "600"], "at most 120"),
        (["grammar", "--start", "policy"], "expected --policy"),
        (["grammar", "--start", "noise"], "expected one of demo, corpus, policy"),
        (["grammar", "--corpus", "nowhere"], "nowhere"),
        (["grammar", "--corpus", ""], "expected --corpus"),
        (["grammar", "--policy", "nowhere"], "nowhere"),
        (["--fit"], "expected --out FILE"),
        (["grammar", "--fit", "--out", "bands.json"], "got the name 'grammar'"),
        (["--fit", "--out", "no/folder/bands.json"], "in a folder that exists"),
    ],
)
def test_the_callers_mistakes_are_one_line_and_exit_code_2(small_corpus, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    given = [] if "--corpus" in words else ["--corpus", str(small_corpus)]
    assert run(command.main, [*words, *given, "--n", "24", *([] if "--tokens" in words else ["--tokens", "128"])]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_a_file_is_refused(small_corpus, tmp_path):
    (tmp_path / "cards").write_text("mine")
    with pytest.raises(MgenError, match="expected a folder, found a file"):
        command.main(["grammar", "--corpus", str(small_corpus), "--out", str(tmp_path / "cards")])
    assert (tmp_path / "cards").read_text() == "mine"
