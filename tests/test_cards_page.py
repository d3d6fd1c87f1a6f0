"""A card's files and the page: what is measured is what is told."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
import soundfile
import symusic
from critics_music import STRAIGHT, SWUNG, toy
from PIL import Image

from mgen.cards import page
from mgen.cards.card import Subject, docstring_parts, measure_card, number, save_card, save_piece
from mgen.cards.page import DEMO, markdown, read_cards, write_page
from mgen.cards.reward_hacking import Reference, Strangeness, starts
from mgen.cards.scores import Row
from mgen.cards.search import Budget
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
def subject(remi):
    rng = np.random.default_rng(0)
    real, train, other = (toy(style, 24, rng, 4) for style in (SWUNG, SWUNG, STRAIGHT))
    works = np.arange(24).astype(str)
    lower = Notes.concat([real]).select(np.ones(len(real), bool))
    rows = {
        "jazz": Row(real, works, False, "real"),
        "other music": Row(other, works, False, "other"),
        "as it was": Row(lower, works, True, "format"),
        "empty": Row(DEGENERATE_INPUTS["empty"](real, rng), None, False, "senseless"),
    }
    reference = Reference(real, Strangeness.of(train), remi, 160)
    measured = {"words": "24 toys", "style": "jazz", "start": "of toys"}
    ids = remi.encode(real)
    return Subject(rows, ids, reference, starts(train, SizeLimits.of(real), 0), real.pieces([0]), measured)


@pytest.fixture(scope="module")
def folder(subject, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cards")
    for name in ("low_notes", "low_again"):
        save_card(measure_card(name, LowNotes(), subject, Budget(12, 30), 0), folder)
    save_piece(subject.demo, folder, DEMO)
    write_page(read_cards(folder), folder, folder / "cards.md")
    return folder


def test_a_card_says_what_the_judge_is_and_what_it_said(folder, subject):
    card = json.loads((folder / "low_notes" / "card.json").read_text())
    assert card["about"] == "Minus the mean pitch beyond middle C." and card["worst"] == -99
    assert card["expected_exploit"] == "anything below middle C." and card["credit"] and card["unit"] == "nats"
    rows, score = card["rows"], LowNotes()(subject.rows["jazz"].notes).score
    assert rows["jazz"]["median"] == pytest.approx(np.median(score), abs=1e-5)
    assert rows["as it was"]["heard"] == "not heard" and rows["empty"]["undefined"] == 1
    assert card["exploit"]["reached"] and card["exploit"]["score"] >= card["exploit"]["median"] - 1e-6
    assert card["exploit"]["demo"] == pytest.approx(float(score[0]), abs=1e-5)


def test_the_winner_is_kept_as_midi_picture_and_sound(folder):
    place = folder / "low_notes"
    card = json.loads((place / "card.json").read_text())
    notes = Notes.from_scores([symusic.Score(str(place / "exploit.mid"))])
    assert len(notes) == card["exploit"]["traits"]["notes"]["value"]
    assert float(LowNotes()(notes).score[0]) == pytest.approx(card["exploit"]["score"], abs=1e-5)
    assert Image.open(place / "exploit.png").size == (900, 220)
    sound, rate = soundfile.read(io.BytesIO((place / "exploit.ogg").read_bytes()))
    assert 1 < len(sound) / rate < 13 and np.abs(sound).max() > 0.01
    assert sum(path.stat().st_size for path in place.iterdir()) < 120_000


def test_the_page_tells_every_card_and_every_link_leads_somewhere(folder):
    text = (folder / "cards.md").read_text()
    assert "## low_notes" in text and "## low_again" in text and "Measured on 24 toys." in text
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert len(links) == 2 * 3 + 3 and all((folder / link).is_file() for link in links)
    assert all(len(re.findall(r"(?<!\\)\|", line)) in (8, 11) for line in text.splitlines() if line.startswith("|"))
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


def test_a_card_that_was_there_is_replaced_and_a_broken_one_is_named(folder, subject, tmp_path):
    card = measure_card("low_notes", LowNotes(), subject, Budget(2, 30), 0)
    (tmp_path / "low_notes").mkdir()
    (tmp_path / "low_notes" / "old").write_text("")
    save_card(card, tmp_path)
    names = ["card.json", "exploit.mid", "exploit.ogg", "exploit.png"]
    assert sorted(path.name for path in (tmp_path / "low_notes").iterdir()) == names
    assert [path.name for path in tmp_path.iterdir()] == ["low_notes"]
    (tmp_path / "low_notes" / "card.json").write_text("{")
    with pytest.raises(MgenError, match="not a card"):
        read_cards(tmp_path)


def test_what_a_judge_hears_is_told_in_words():
    def row(kind, heard=None, good=0.0):
        return {"kind": kind, "heard": heard, "good": good}

    rows = {
        "jazz": row("real", "", 0.5),
        "one_pitch": row("broken", "heard, lower"),
        "in_major": row("broken", "not heard"),
        "bars_of_others": row("broken", "heard, higher"),
        "retimed": row("format", "heard, lower"),
        "skyline": row("format", "heard, higher"),
        "humanised": row("format", "not heard"),
        "empty": row("senseless", None, 0.01),
        "held_note": row("senseless", None, 0.02),
    }
    assert page._told({"rows": rows}) == (
        "Of broken music it hears: one pitch. It does not hear: in major. It likes better than real music: bars of "
        "others. Of what only the format changed it hears: retimed, skyline. As good as real music, in more than one "
        "of a hundred: held note."
    )


def test_docstrings_are_taken_apart():
    text = "What it is.\n\nMore.\n\nKnown reward hacking: this,\nand that.\nSource: a book.\n\nArgs:\n    x: y."
    assert docstring_parts(text) == ("What it is. More.", "this, and that.")
    assert docstring_parts("Only this.") == ("Only this.", "")
    assert docstring_parts("") == ("", "")


def test_numbers_have_three_digits_that_count():
    shown = [number(x) for x in (0, -0.0, 1, 0.12345, -0.02741, 1234.6, 56.78, 1e-7, float("nan"), None)]
    assert shown == ["0", "0", "1", "0.123", "-0.0274", "1230", "56.8", "1e-07", "-", "-"]
