"""Files of a card, and the page: they hold what was measured."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import symusic
from critics_music import STRAIGHT, SWUNG, toy
from PIL import Image

from mgen.cards import page
from mgen.cards.page import DEMO, markdown, read_cards, write_page
from mgen.cards.reward_card import CardSetup, docstring_parts, measure_card, number, save_card, save_piece
from mgen.cards.reward_hacking import FeatureDistance, SearchReference, initial_pieces
from mgen.cards.scores import CardRow
from mgen.cards.search import SearchBudget
from mgen.errors import MgenError
from mgen.judgement import Judgement
from mgen.notes import Notes
from mgen.transforms.degenerate import DEGENERATE_INPUTS
from mgen.transforms.edits import SizeLimits


class LowNotes:
    """Minus the mean pitch beyond
    middle C.

    Known reward hacking: anything below
    middle C.
    Source: planted.
    """

    worst = -99.0

    def __call__(self, notes):
        count = notes.counts
        high = np.bincount(notes.piece, weights=np.maximum(notes.pitch - 60, 0), minlength=notes.n_pieces)
        score = np.where(count > 0, -high / np.maximum(count, 1), self.worst).astype(np.float32)
        return Judgement(score, (score / np.maximum(count, 1))[notes.piece].astype(np.float32), count > 0)


@pytest.fixture(scope="module")
def card_setup(remi):
    rng = np.random.default_rng(0)
    real, train, other = (toy(style, 24, rng, 4) for style in (SWUNG, SWUNG, STRAIGHT))
    works = np.arange(24).astype(str)
    lower = Notes.concat([real]).select(np.ones(len(real), bool))
    rows = {
        "jazz": CardRow(real, works, False, "real"),
        "other music": CardRow(other, works, False, "other"),
        "as it was": CardRow(lower, works, True, "format"),
        "empty": CardRow(DEGENERATE_INPUTS["empty"](real, rng), None, False, "degenerate"),
    }
    reference = SearchReference(real, FeatureDistance.of(train), remi, 160)
    measured = {"description": "24 toys", "style": "jazz", "initial_pieces": "of toys"}
    ids = remi.encode(real)
    return CardSetup(rows, ids, reference, initial_pieces(train, SizeLimits.of(real), 0), real.pieces([0]), measured)


@pytest.fixture(scope="module")
def folder(card_setup, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cards")
    for name in ("low_notes", "low_again"):
        save_card(measure_card(name, LowNotes(), card_setup, SearchBudget(12, 30), 0), folder)
    save_piece(card_setup.demo, folder, DEMO)
    write_page(read_cards(folder), folder, folder / "cards.md")
    return folder


def test_a_card_holds_the_judges_docstring_and_scores(folder, card_setup):
    card = json.loads((folder / "low_notes" / "card.json").read_text())
    assert card["about"] == "Minus the mean pitch beyond middle C." and card["worst"] == -99
    assert card["expected_exploit"] == "anything below middle C." and card["credit"] and card["unit"] == "nats"
    rows, score = card["rows"], LowNotes()(card_setup.rows["jazz"].notes).score
    assert rows["jazz"]["median"] == pytest.approx(np.median(score), abs=1e-5)
    assert rows["as it was"]["effect"] == "none" and rows["empty"]["undefined"] == 1
    assert card["exploit"]["reached_median"] and card["exploit"]["score"] >= card["exploit"]["real_median"] - 1e-6
    assert card["exploit"]["demo_score"] == pytest.approx(float(score[0]), abs=1e-5)


def test_the_exploit_is_kept_as_midi_picture_and_audio(folder):
    place = folder / "low_notes"
    card = json.loads((place / "card.json").read_text())
    notes = Notes.from_scores([symusic.Score(str(place / "exploit.mid"))])
    assert len(notes) == card["exploit"]["features"]["notes"]["value"]
    assert float(LowNotes()(notes).score[0]) == pytest.approx(card["exploit"]["score"], abs=1e-5)
    assert Image.open(place / "exploit.png").size == (900, 220)
    sound, rate = soundfile.read(io.BytesIO((place / "exploit.ogg").read_bytes()))
    assert 1 < len(sound) / rate < 13 and np.abs(sound).max() > 0.01
    assert sum(path.stat().st_size for path in place.iterdir()) < 120_000


def test_the_page_has_every_card_and_every_link_exists(folder):
    text = (folder / "cards.md").read_text()
    assert "## low_notes" in text and "## low_again" in text and "Measured on 24 toys." in text
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert len(links) == 2 * 3 + 3 and all((folder / link).is_file() for link in links)
    assert all(len(re.findall(r"(?<!\\)\|", line)) in (9, 13) for line in text.splitlines() if line.startswith("|"))
    assert "nan" not in text and "None" not in text
    assert text == markdown(
        read_cards(folder),
        "",
    ), "the page is made of the cards alone"


def test_a_page_elsewhere_links_to_the_folder(folder, tmp_path):
    place = folder.parent / "page_of_cards.md"
    write_page(read_cards(folder), folder, place)
    links = re.findall(r"\]\(([^)#]+)\)", place.read_text())
    assert links and all(link.startswith(f"{folder.name}/") and (place.parent / link).is_file() for link in links)


def test_an_earlier_card_is_replaced_and_a_damaged_one_is_named(folder, card_setup, tmp_path):
    card = measure_card("low_notes", LowNotes(), card_setup, SearchBudget(2, 30), 0)
    (tmp_path / "low_notes").mkdir()
    (tmp_path / "low_notes" / "old").write_text("")
    save_card(card, tmp_path)
    names = ["card.json", "exploit.mid", "exploit.ogg", "exploit.png"]
    assert sorted(path.name for path in (tmp_path / "low_notes").iterdir()) == names
    assert [path.name for path in tmp_path.iterdir()] == ["low_notes"]
    (tmp_path / "low_notes" / "card.json").write_text("{")
    with pytest.raises(MgenError, match="cannot be read"):
        read_cards(tmp_path)


def test_effects_are_listed_in_sentences():
    def row(kind, effect=None, as_good=0.0):
        return {"kind": kind, "effect": effect, "as_good_as_real": as_good}

    rows = {
        "jazz": row("real", "", 0.5),
        "one_pitch": row("corrupted", "lower"),
        "in_major": row("corrupted", "none"),
        "bars_of_others": row("corrupted", "higher"),
        "retimed": row("format", "lower"),
        "skyline": row("format", "higher"),
        "humanised": row("format", "none"),
        "empty": row("degenerate", None, 0.01),
        "held_note": row("degenerate", None, 0.02),
    }
    assert page._effects({"rows": rows}) == (
        "Corruptions that lower its score: one pitch. Corruptions without effect: in major. Corruptions that raise it: "
        "bars of others. Changes of format that move it: retimed, skyline. Degenerate inputs as good as real music in "
        "more than 1% of cases: held note."
    )


def test_a_card_with_old_keys_is_one_line(folder, tmp_path):
    card = json.loads((folder / "low_notes" / "card.json").read_text())
    card["exploit"]["median"] = card["exploit"].pop("real_median")
    (tmp_path / "low_notes").mkdir()
    (tmp_path / "low_notes" / "card.json").write_text(json.dumps(card))
    with pytest.raises(MgenError, match=r"a card of an older mgen; measure it again with mgen card"):
        read_cards(tmp_path)


def test_the_published_page_is_written_from_the_published_cards():
    docs = Path(__file__).resolve().parents[1] / "docs"
    assert (docs / "cards" / "cards.md").read_text() == markdown(read_cards(docs / "cards"), "")


def test_docstrings_are_taken_apart():
    text = "What it is.\n\nMore.\n\nKnown reward hacking: this,\nand that.\nSource: a book.\n\nArgs:\n    x: y."
    assert docstring_parts(text) == ("What it is. More.", "this, and that.")
    assert docstring_parts("Only this.") == ("Only this.", "")
    assert docstring_parts("") == ("", "")


def test_numbers_have_three_digits_that_count():
    shown = [number(x) for x in (0, -0.0, 1, 0.12345, -0.02741, 1234.6, 56.78, 1e-7, float("nan"), None)]
    assert shown == ["0", "0", "1", "0.123", "-0.0274", "1230", "56.8", "1e-07", "-", "-"]
