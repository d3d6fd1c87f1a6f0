"""Merged tokens: the same music as their base tokens, whatever the encoding, the key, and the order of the tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from miditok import REMI

from mgen.corpus.clean import normalise
from mgen.corpus.demo import COLLECTIONS, compose
from mgen.encoding import remi as remi_module
from mgen.encoding.remi import Kind, Remi
from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.rl.rewards import CLOSINGS, beginnings

ENCODINGS = {
    f"{recipe}{' with velocity' * velocity}": (recipe == "band", velocity)
    for recipe in ("piano", "band")
    for velocity in (False, True)
}
COLUMNS = ("piece", "onset", "duration", "bar", "pitch", "velocity", "program")


@pytest.fixture(scope="module", params=ENCODINGS)
def merged(request):
    """A vocabulary with merges and the base tokens of a piece of each collection."""
    multi, velocity = ENCODINGS[request.param]
    base = Remi.build(("jazz", "other"), multi, velocity)
    scores = [compose(name, 0) for name in COLLECTIONS]
    pieces = [base.encode(normalise(score, "band" if multi else "piano"))[0] for score in scores]
    return base.learn_merges(pieces, 200), pieces


def rows_of(remi, pieces):
    return [remi.merge(piece) for piece in pieces]


def assert_same_notes(first, second, columns=COLUMNS):
    for name in columns:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), name)


def test_merging_shortens_music_and_changes_no_note(merged):
    remi, pieces = merged
    rows = rows_of(remi, pieces)
    assert remi.merges == 200 and remi.vocab_size == remi.base_size + 200
    assert sum(map(len, rows)) < 0.75 * sum(map(len, pieces))
    notes = Notes.from_ids(rows, remi)
    assert_same_notes(notes, Notes.from_ids(pieces, remi.base))
    assert notes.n_broken.sum() == 0
    for again, row in zip(remi.encode(notes), rows, strict=True):
        np.testing.assert_array_equal(again, row)
    np.testing.assert_array_equal(remi.notes_in[np.concatenate(rows)].sum(), len(notes))


def test_expanding_undoes_merging(merged):
    remi, pieces = merged
    for piece in pieces:
        row = remi.merge(piece)
        base, owner = remi.expand(row)
        np.testing.assert_array_equal(base, piece)
        np.testing.assert_array_equal(owner, np.repeat(np.arange(len(row)), [len(remi.parts[id_]) for id_ in row]))
        np.testing.assert_array_equal(remi.merge(base), row)


def test_no_merge_reaches_over_the_start_of_a_word(merged):
    remi, pieces = merged
    for part in remi.parts[remi.base_size :]:
        kinds = remi.kind[list(part)]
        assert not np.isin(kinds[1:], (Kind.BAR, Kind.POSITION)).any()
        assert not np.isin(kinds, (Kind.SPECIAL, Kind.END)).any()
    piece = pieces[0]
    for cut in np.flatnonzero(remi.opens_word[piece])[1:20]:
        np.testing.assert_array_equal(
            np.concatenate([remi.merge(piece[:cut]), remi.merge(piece[cut:])]), remi.merge(piece)
        )


def test_merges_are_learned_in_all_keys(merged):
    remi, pieces = merged
    if remi.multi:
        assert list(remi.keys(pieces[0])) == [0]
        return
    lengths = [len(remi.merge(remi.transpose(pieces[0], shift))) for shift in remi.keys(pieces[0])]
    assert len(lengths) > 6
    assert max(lengths) < 1.25 * min(lengths)  # learned in one key: 1.4


def test_a_transposed_row_has_the_tokens_of_the_transposed_music(merged):
    remi, pieces = merged
    if remi.multi:
        pytest.skip("music with drums is not transposed")
    for shift in (-2, 3):
        moved = remi.merge(remi.transpose(remi.expand(remi.merge(pieces[1]))[0], shift))
        notes = Notes.from_ids([pieces[1]], remi.base)
        (direct,) = remi.encode(replace(notes, pitch=notes.pitch + np.int32(shift)))
        np.testing.assert_array_equal(moved, direct)


def test_random_tokens_are_read_as_their_base_tokens(merged):
    remi, _ = merged
    rng = np.random.default_rng(5)
    rows = [rng.integers(remi.vocab_size, size=rng.integers(0, 60)) for _ in range(200)]
    start = [int(rng.integers(len(row) + 1)) for row in rows]
    expanded = [remi.expand(row) for row in rows]
    notes = Notes.from_ids(rows, remi, start)
    # a prompt of whole tokens is a prompt of whole base tokens
    base_start = [int((owner < first).sum()) for (_, owner), first in zip(expanded, start, strict=True)]
    base = Notes.from_ids([ids for ids, _ in expanded], remi.base, base_start)
    assert len(notes) > 100
    assert_same_notes(notes, base)
    assert notes.n_tokens.tolist() == [len(row) - first for row, first in zip(rows, start, strict=True)]
    owner_of = [
        owner[first:] - start[i] for i, ((_, owner), first) in enumerate(zip(expanded, base_start, strict=True))
    ]
    np.testing.assert_array_equal(
        notes.token, [owner_of[piece][token] for piece, token in zip(base.piece, base.token, strict=True)]
    )
    assert (notes.n_broken <= base.n_broken).all() and ((notes.n_broken > 0) == (base.n_broken > 0)).all()
    has_notes = notes.counts > 0
    broken = np.bincount(notes.piece, notes.broken, notes.n_pieces)
    np.testing.assert_array_equal(broken[has_notes], notes.n_broken[has_notes])


def test_a_beginning_has_the_notes_completed_before_a_bar_line(merged):
    """As decoding the tokens before the bar line gives them, up to four bar lines a piece."""
    remi, pieces = merged
    rows = rows_of(remi, pieces)
    notes = Notes.from_ids(rows, remi)
    closes = np.zeros((len(rows), max(map(len, rows))), bool)
    for piece, row in enumerate(rows):
        closes[piece, : len(row)] = remi.count_in(Kind.BAR)[np.asarray(row)] > 0
    begun = beginnings(notes, closes)
    lines = closes.sum(axis=1)
    np.testing.assert_array_equal(np.bincount(begun.piece, minlength=len(rows)), np.minimum(lines, CLOSINGS))
    cut = Notes.from_ids([rows[piece][:token] for piece, token in zip(begun.piece, begun.token, strict=True)], remi)
    for column in ("piece", "onset", "duration", "bar", "pitch", "token"):
        np.testing.assert_array_equal(getattr(begun.notes, column), getattr(cut, column))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=5, deadline=None)
def test_texts_are_read_and_written_by_the_hugging_face_tokenizer(merged, seed):
    remi, pieces = merged
    rng = np.random.default_rng(seed)
    begin = int(rng.integers(100))
    music = [remi.bos_id, remi.style_ids["jazz"], *pieces[rng.integers(len(pieces))][begin : begin + 80], remi.eos_id]
    names = [remi.names[id_] for id_ in music]
    ids = remi.merge(music).tolist()
    tokenizer = remi.tokenizer()
    for text in ("".join(names), " ".join(names)):
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids == remi.read(text).tolist()
    assert tokenizer.decode(ids) == "".join(names) == "".join(remi.names[id_] for id_ in ids)


def test_a_saved_vocabulary_is_read_by_mgen_miditok_and_transformers(merged, tmp_path):
    from transformers import AutoTokenizer

    remi, pieces = merged
    remi.save_pretrained(tmp_path)
    again = Remi.from_pretrained(tmp_path)
    assert (again.fingerprint, again.base_per_token) == (remi.fingerprint, remi.base_per_token)
    assert again.parts == remi.parts and again.base.fingerprint == remi.base.fingerprint != remi.fingerprint
    stock = AutoTokenizer.from_pretrained(tmp_path)
    row = remi.merge(pieces[2])
    text = "".join(remi.names[id_] for id_ in row)
    assert stock(text, add_special_tokens=False)["input_ids"] == row.tolist() and stock.decode(row) == text
    assert len(stock) == remi.vocab_size
    ends = stock.bos_token_id, stock.eos_token_id, stock.pad_token_id
    assert ends == (remi.bos_id, remi.eos_id, remi.pad_id)
    with pytest.raises(Exception, match="no name of a token"):
        stock("Pitch_60 Pitch_999")
    with pytest.raises(MgenError, match="'Pitch_999' is no token"):
        remi.read("Pitch_60 Pitch_999")
    plain = REMI(params=tmp_path / "miditok.json")
    score = Notes.from_ids([row], remi).to_score(0)
    encoded = plain(score)
    assert (encoded.ids if remi.multi else encoded[0].ids) == row.tolist()
    decoded = plain.decode(row.tolist() if remi.multi else [row.tolist()])
    assert decoded.note_num() == remi.notes_in[row].sum() > 20


def test_the_same_music_gives_the_same_merges(merged):
    remi, pieces = merged
    assert remi.base.learn_merges(pieces, 200).fingerprint == remi.fingerprint
    assert remi.base.learn_merges(pieces[:2], 200).fingerprint != remi.fingerprint


def test_few_words_give_few_merges():
    remi = Remi.build(("jazz",), velocity=False)
    word = remi.read("Bar_None TimeSig_4/4 Position_0 Pitch_108 Duration_1.0.24")
    few = remi.learn_merges([remi.read("Bar_None TimeSig_4/4")], 50)
    assert few.names[few.merge(word)[0]] == "Bar_NoneTimeSig_4/4" and few.merges == 1
    assert remi.learn_merges([], 50) is remi


def test_much_music_is_used_in_part(monkeypatch):
    remi = Remi.build(("jazz",), velocity=False)
    bars = [remi.read(f"Bar_None TimeSig_{beats}/4") for beats in (2, 3, 4)]
    monkeypatch.setattr(remi_module, "LEARNING_TOKENS", 4)
    learned = remi.learn_merges(bars, 50)
    assert learned.names[learned.base_size :] == ["Bar_NoneTimeSig_2/4", "Bar_NoneTimeSig_3/4"]


@pytest.mark.parametrize("count", [0, remi_module.MAX_MERGES + 1])
def test_a_number_of_merges_out_of_range_is_refused(count):
    with pytest.raises(MgenError, match="merges"):
        Remi.build(("jazz",)).learn_merges([], count)


def test_damaged_merges_are_refused(merged, tmp_path):
    remi, _ = merged
    remi.save_pretrained(tmp_path)
    path = tmp_path / "miditok.json"
    path.write_text(path.read_text().replace('\\"merges\\"', '\\"merged\\"'))
    with pytest.raises(MgenError, match=r"miditok\.json: cannot be read"):
        Remi.from_pretrained(tmp_path)


def test_a_prompt_is_cut_where_a_word_starts(merged):
    remi, pieces = merged
    row = remi.merge(pieces[0])
    for most in range(1, 30):
        head = remi.beginning(row, most)
        assert most - 12 < len(head) <= most
        np.testing.assert_array_equal(head, row[: len(head)])
        assert remi.opens_word[row[len(head)]]
    assert len(remi.beginning(row, len(row))) == len(row)
    np.testing.assert_array_equal(remi.base.beginning(row, 7), row[:7])
