"""REMI: our decoder and encoder against MidiTok's, and the Hugging Face tokenizer against both."""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import symusic
from hypothesis import given, settings
from hypothesis import strategies as st
from miditok import REMI

from mgen.corpus.demo import COLLECTIONS, compose
from mgen.encoding.remi import PITCH_RANGE, Kind, Remi
from mgen.errors import MgenError, RejectedFile
from mgen.notes import Notes

ENCODINGS = {
    name: Remi.build(("jazz", "other"), multi=name.startswith("band"), velocity=not name.endswith("without velocity"))
    for name in ("piano", "band", "piano without velocity", "band without velocity")
}
NOTE = "Velocity_63 Duration_0.12.24"
REAL_MUSIC = os.environ.get("MGEN_REAL_MUSIC", "")
"""A folder of MIDI files; the tests over real music run where it is set."""


def theirs(remi: Remi, ids: list[int]) -> list[tuple[int, ...]]:
    """MidiTok's reading: (onset, program, pitch, duration, velocity) of every note, sorted, in whole grid steps.

    Without velocity tokens the last is 0: MidiTok plays all notes equally loud, and mgen with an accent.
    """
    score = remi.miditok.decode(ids if remi.multi else [ids])
    fine = score.ticks_per_quarter // 24  # MidiTok has 24 positions per beat, so 48 per quarter in eighth metres
    return sorted(
        (
            note.time // fine,
            -1 if track.is_drum else track.program,
            note.pitch,
            max(note.duration // fine, 1),
            note.velocity * remi.velocity,
        )
        for track in score.tracks
        for note in track.notes
    )


def ours(notes: Notes, remi: Remi) -> list[tuple[int, ...]]:
    columns = (notes.onset, notes.program, notes.pitch, notes.duration, notes.velocity * remi.velocity)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def _note_kinds(remi: Remi) -> list[Kind]:
    return [Kind.PITCH, *([Kind.VELOCITY] if remi.velocity else []), Kind.DURATION]


def random_ids(remi: Remi, rng: np.random.Generator) -> list[int]:
    """Random tokens, half of them in the order of a note or a bar, so that much of it decodes to something."""
    of = {kind: np.flatnonzero(remi.kind == kind) for kind in Kind}
    ids: list[int] = []
    for _ in range(rng.integers(1, 25)):
        shape = rng.integers(5)
        if shape == 0:
            ids.append(int(rng.integers(remi.vocab_size)))
        elif shape == 1:
            ids += [remi.bar_id, *rng.choice(of[Kind.TIME_SIGNATURE], rng.integers(2)).tolist()]
        elif shape == 2:
            ids.append(int(rng.choice(of[Kind.POSITION])))
        else:
            program = [int(rng.choice(of[Kind.PROGRAM]))] if remi.multi and shape == 3 else []
            ids += program + [int(rng.choice(of[kind])) for kind in _note_kinds(remi)]
    return ids


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_decodes_random_tokens_as_miditok_does(encoding):
    remi = ENCODINGS[encoding]
    rng = np.random.default_rng(7)
    rows = [random_ids(remi, rng) for _ in range(1000)]
    notes = Notes.from_ids(rows, remi)  # one batch: also shows that pieces do not touch each other
    assert notes.n_pieces == 1000 and len(notes) > 2000
    split = np.split(np.arange(len(notes)), notes.starts[1:-1])
    for piece, row in enumerate(rows):
        part = split[piece]
        assert ours(notes.select(part), remi) == theirs(remi, row)
    bars = np.diff(notes.bar_starts)
    assert (bars >= 1).all() and (notes.bar < bars[notes.piece]).all() and (notes.bar >= 0).all()


def on_grid(score: symusic.Score, remi: Remi) -> Notes:
    """A score as MidiTok would write it: one program where the encoding has none, each pitch once at a time."""
    notes = Notes.from_scores([score])
    notes = notes.select((notes.pitch >= PITCH_RANGE[0]) & (notes.pitch <= PITCH_RANGE[1]))
    if not remi.multi:
        notes = notes.select(notes.program >= 0)
        notes = replace(notes, program=np.zeros_like(notes.program))
        order = np.lexsort((notes.velocity, notes.duration, notes.pitch, notes.onset))
        names = ("onset", "duration", "bar", "pitch", "velocity")
        notes = replace(notes, **{name: getattr(notes, name)[order] for name in names})
    key = np.stack([notes.onset, notes.program, notes.pitch])
    return notes.select(~np.append(False, (np.diff(key, axis=1) == 0).all(axis=0)))


def check_both_ways(notes: Notes, remi: Remi) -> None:
    ids = remi.encode(notes)[0].tolist()
    answer = remi.miditok(notes.to_score(0))
    assert ids == (answer.ids if remi.multi else answer[0].ids)
    back = Notes.from_ids([ids], remi)
    assert ours(back, remi) == theirs(remi, ids)
    assert back.n_broken.tolist() == [0]
    np.testing.assert_array_equal(back.onset, notes.onset)
    np.testing.assert_array_equal(back.pitch, notes.pitch)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("collection", COLLECTIONS)
def test_encodes_and_decodes_the_demo_corpus_as_miditok_does(collection, encoding):
    for index in range(20):
        check_both_ways(on_grid(compose(collection, index), ENCODINGS[encoding]), ENCODINGS[encoding])


@pytest.mark.skipif(not REAL_MUSIC, reason="MGEN_REAL_MUSIC names no folder of MIDI files")
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodes_and_decodes_real_files_as_miditok_does(encoding):
    paths = sorted(Path(REAL_MUSIC).rglob("*.mid"))
    done = 0
    for path in paths[:: max(len(paths) // 240, 1)]:
        try:
            notes = on_grid(symusic.Score(path), ENCODINGS[encoding])
        except (RejectedFile, RuntimeError):
            continue
        if len(notes):
            check_both_ways(notes, ENCODINGS[encoding])
            done += 1
    assert done >= 200


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_text_without_spaces_splits_into_the_same_tokens(encoding, seed):
    remi = ENCODINGS[encoding]
    ids = np.random.default_rng(seed).integers(remi.vocab_size, size=60).tolist()
    tokenizer = remi.tokenizer()
    joined = "".join(remi.names[i] for i in ids)
    assert tokenizer(joined, add_special_tokens=False)["input_ids"] == ids
    assert tokenizer(" ".join(remi.names[i] for i in ids), add_special_tokens=False)["input_ids"] == ids
    assert tokenizer.decode(ids) == joined


def test_saved_tokenizer_is_both_miditoks_and_hugging_faces(tmp_path):
    from transformers import AutoTokenizer

    remi = Remi.build(styles=("jazz", "other"))
    remi.save_pretrained(tmp_path)
    stock = AutoTokenizer.from_pretrained(tmp_path)
    assert {name: i for i, name in enumerate(remi.names)} == stock.get_vocab() == remi.miditok.vocab
    assert (stock.bos_token_id, stock.eos_token_id, stock.pad_token_id) == (
        remi.bos_id,
        remi.eos_id,
        remi.pad_id,
    )
    assert Remi.from_pretrained(tmp_path).fingerprint == remi.fingerprint


def test_a_completion_is_read_in_the_bar_that_its_prompt_left(remi):
    names = ["Bar_None", "TimeSig_3/4", "Position_0", "Pitch_60", "Velocity_63", "Duration_1.0.24"]
    tail = "Position_48 Pitch_64 Velocity_63 Duration_0.12.24 Bar_None TimeSig_3/4 Position_24 Pitch_67 " + NOTE
    vocabulary = {name: i for i, name in enumerate(remi.names)}
    prompt = [vocabulary[name] for name in ["Bar_None", "TimeSig_4/4", *names]]
    completion = [vocabulary[name] for name in tail.split()]
    notes = Notes.from_ids([prompt + completion], remi, start=len(prompt))
    # By hand: beat 3 of the 3/4 bar that the prompt opened, then beat 2 of the next bar, 72 steps later.
    assert notes.onset.tolist() == [48, 72 + 24]
    assert notes.bar.tolist() == [0, 1]
    assert notes.bars.beats.tolist() == [3, 3]
    assert notes.token.tolist() == [3, 9]
    assert notes.n_tokens.tolist() == [10] and notes.n_broken.tolist() == [0]


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("Bar_None TimeSig_4/4 Position_0 Pitch_60 Velocity_63 Duration_1.0.24 EOS_None", 0),
        ("Bar_None Bar_None TimeSig_4/4", 1),  # a bar without its time signature
        ("Bar_None TimeSig_4/4 Pitch_60 Velocity_63 Duration_1.0.24", 1),  # a note without a position
        ("Bar_None TimeSig_4/4 Position_0 Pitch_60 Duration_1.0.24", 1),  # no velocity
        ("Bar_None TimeSig_2/4 Position_60 Pitch_60 Velocity_63 Duration_1.0.24", 1),  # outside the bar
        (f"Bar_None TimeSig_4/4 Position_12 Pitch_60 {NOTE} Position_6 Pitch_60 {NOTE}", 1),  # back in time
        (f"Bar_None TimeSig_4/4 Position_12 Pitch_60 {NOTE} Pitch_60 {NOTE}", 1),  # the same note twice
        (f"Bar_None TimeSig_9/8 Position_214 Pitch_60 {NOTE}", 0),
        (f"Bar_None TimeSig_9/8 Position_216 Pitch_60 {NOTE}", 1),  # outside nine eighths
        (f"Bar_None TimeSig_9/8 Position_13 Pitch_60 {NOTE}", 1),  # half a grid step
        ("Bar_None TimeSig_4/4 Position_0 Pitch_60 Velocity_63 Duration_1.0.24 PAD_None", 1),
    ],
)
def test_broken_grammar_is_counted(remi, text, broken):
    vocabulary = {name: i for i, name in enumerate(remi.names)}
    assert Notes.from_ids([[vocabulary[name] for name in text.split()]], remi).n_broken.tolist() == [broken]


def test_a_broken_token_is_laid_to_the_next_note_of_its_piece(remi):
    vocabulary = {name: i for i, name in enumerate(remi.names)}
    text = (
        f"Bar_None TimeSig_4/4 Position_6 Pitch_60 {NOTE} "
        f"Position_3 Pitch_62 {NOTE} "  # back in time: laid to this note, which comes first in order of time
        f"Position_12 Pitch_64 {NOTE} Velocity_63 PAD_None"  # two after the last note
    )
    ids = [vocabulary[name] for name in text.split()]
    notes = Notes.from_ids([[remi.bar_id], ids, ids], remi)
    assert notes.pitch.tolist() == [62, 60, 64] * 2
    assert notes.broken.tolist() == [1, 0, 2] * 2
    assert notes.n_broken.tolist() == [0, 3, 3]


@pytest.mark.parametrize(
    ("metre", "steps", "velocities"),
    [
        # by hand: the downbeat, off the beat, each beat
        ("4/4", (0, 12, 24, 32, 72), (100, 64, 80, 64, 80)),
        ("3/4", (0, 23, 48), (100, 64, 80)),
        ("6/8", (0, 12, 36, 48), (100, 64, 80, 64)),  # two beats of three eighths
        ("5/8", (0, 6, 12, 48), (100, 64, 80, 80)),  # five beats
    ],
)
def test_without_velocities_notes_have_the_accent_of_their_place(metre, steps, velocities):
    remi = ENCODINGS["piano without velocity"]
    ids = {name: i for i, name in enumerate(remi.names)}
    fine = int(metre[-1]) // 4
    notes = [[ids[f"Position_{fine * step}"], ids["Pitch_60"], ids["Duration_0.12.24"]] for step in steps]
    bar = [remi.bar_id, ids[f"TimeSig_{metre}"]]
    tokens = [token for note in notes for token in note]
    prompt = [*bar, *bar, *notes[0]]
    whole = Notes.from_ids([[*bar, *tokens], [*prompt, *tokens[3:]]], remi, start=[0, len(prompt)])
    assert whole.velocity.tolist() == [*velocities, *velocities[1:]]


def test_each_encoding_has_its_own_fingerprint(tmp_path):
    assert len({remi.fingerprint for remi in ENCODINGS.values()}) == len(ENCODINGS)
    for name, remi in ENCODINGS.items():
        remi.save_pretrained(tmp_path / name)
        read = Remi.from_pretrained(tmp_path / name)
        assert (read.fingerprint, read.velocity) == (remi.fingerprint, remi.velocity)


def test_no_tokens_are_an_empty_piece(remi):
    notes = Notes.from_ids([[], [remi.bar_id], []], remi)
    assert notes.n_pieces == 3 and len(notes) == 0
    assert np.diff(notes.bar_starts).tolist() == [1, 1, 1]


def test_transposition_moves_pitches_and_nothing_else(remi):
    score = compose(next(iter(COLLECTIONS)), 0)
    notes = on_grid(score, remi)
    ids = remi.encode(notes)[0]
    moved = Notes.from_ids([remi.transpose(ids, 2)], remi)
    np.testing.assert_array_equal(moved.pitch, notes.pitch + 2)
    np.testing.assert_array_equal(moved.onset, notes.onset)


def test_a_style_with_digits_is_refused():
    with pytest.raises(MgenError, match="small letters"):
        Remi.build(styles=("bebop2",))


@pytest.mark.parametrize("signatures", [[(0, 6, 8)], [(0, 7, 8), (84, 4, 4), (180, 12, 8), (324, 3, 8)], [(0, 1, 8)]])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_eighth_metres_are_written_as_miditok_does(signatures, encoding):
    rng = np.random.default_rng(3)
    score = symusic.Score(24)
    score.time_signatures.extend([symusic.TimeSignature(*signature) for signature in signatures])
    for program, is_drum in ((0, False), (40, False), (0, True)):
        track = symusic.Track("", program, is_drum)
        onsets = np.sort(rng.integers(0, 500, 40)).tolist()
        track.notes.extend(
            [symusic.Note(on, int(rng.integers(1, 160)), int(rng.integers(21, 109)), 80) for on in onsets]
        )
        score.tracks.append(track)
    notes = on_grid(score, ENCODINGS[encoding])
    check_both_ways(notes, ENCODINGS[encoding])
    names = [ENCODINGS[encoding].names[token] for token in ENCODINGS[encoding].encode(notes)[0]]
    stated = [f"TimeSig_{beats}/{unit}" for _, beats, unit in signatures]
    assert list(dict.fromkeys(name for name in names if name.startswith("TimeSig"))) == stated


def test_plain_miditok_reads_a_saved_tokenizer_in_eighth_metres(tmp_path, remi):
    remi.save_pretrained(tmp_path)
    plain = REMI(params=tmp_path / "miditok.json")
    vocabulary = {name: i for i, name in enumerate(remi.names)}
    # the second dotted quarter of a bar of 6/8, an eighth long; then the fourth eighth of the next bar
    bar = "Bar_None TimeSig_6/8 Position_72"
    text = f"{bar} Pitch_60 Velocity_63 Duration_1.0.24 {bar} Pitch_62 {NOTE}"
    ids = [vocabulary[name] for name in text.split()]
    score = plain.decode([ids])
    quarter = score.ticks_per_quarter
    read = [(note.time / quarter, note.duration / quarter, note.pitch) for note in score.tracks[0].notes]
    assert read == [(1.5, 0.5, 60), (4.5, 0.25, 62)]
    notes = Notes.from_ids([ids], remi)
    assert [(on / 24, length / 24) for on, length in zip(notes.onset, notes.duration, strict=True)] == [
        (1.5, 0.5),
        (4.5, 0.25),
    ]


def test_a_vocabulary_without_eighth_metres_is_refused(tmp_path, remi):
    config = copy.deepcopy(remi.miditok.config)
    config.time_signature_range = {4: list(range(1, 8))}
    REMI(config).save(tmp_path / "miditok.json")
    with pytest.raises(MgenError, match=r"another version of mgen .*mgen prepare .*mgen pretrain"):
        Remi.from_pretrained(tmp_path)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(MgenError, match=r"miditok\.json"):
        Remi.from_pretrained(tmp_path)
