"""Data of the next-note baseline: chunks, windows, and vectors trained beforehand; scores with intervals."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, precision_score, recall_score
from tab_corpus import walk, write_tabs
from torch.utils.data import DataLoader

from mgen.corpus.tab_windows import NoteWindows, Tabs, as_batch, choose_chunks, read_tabs, tabs_fingerprint
from mgen.errors import MgenError
from mgen.models.baselines.event_vectors import symbol_of, words
from mgen.stats.classification import Counts, classification_scores
from mgen.stats.intervals import bootstrap
from mgen.training import event_vectors
from mgen.training.event_vectors import train_event_vectors

SIZES = (30, 11, 12, 45, 10, 3)


def numbered(tmp_path, sizes=SIZES):
    """A split whose chunks are recognised by their octave, and events in them by semitone and duration."""
    chunks = []
    for number, size in enumerate(sizes):
        place = np.arange(size)
        events = np.column_stack([1 + place % 12, np.full(size, number), place // 12, np.zeros(size)])
        chunks.append((f"song {number // 2}", "Guitar" if number % 2 else "Bass", events.astype(np.uint8)))
    return read_tabs(write_tabs(tmp_path / "c", train=chunks), "train")


@pytest.fixture
def windows(tmp_path):
    return NoteWindows(choose_chunks(numbered(tmp_path), 10)[0], 10)


def places(events):
    """Place in its chunk of each of these events."""
    return events[..., 0].astype(int) - 1 + 12 * events[..., 2]


def test_windows_are_all_stretches_within_a_chunk(windows):
    wanted = [(number, first) for number, size in enumerate(SIZES) for first in range(size - 10)]
    found = []
    for item in range(len(windows)):
        events, label = (windows[item][name].numpy() for name in ("events", "labels"))
        together = np.vstack([events, label])
        assert len(set(together[:, 1])) == 1 and set(np.diff(places(together))) == {1}
        found.append((int(events[0, 1]), int(places(events[0]))))
    assert found == wanted
    with pytest.raises(IndexError):
        windows[len(windows)]


@pytest.mark.parametrize("favour", [0.0, 1.5])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_is_its_items(windows, favour, workers):
    windows = NoteWindows(windows.tabs, 10, favour)
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0)).tolist()
    loader = DataLoader(windows, 16, sampler=order, num_workers=workers, collate_fn=as_batch)
    for number, batch in enumerate(loader):
        items = [windows[item] for item in order[16 * number : 16 * (number + 1)]]
        for name, of in as_batch(items).items():
            assert of.dtype == torch.uint8 and torch.equal(batch[name], of)


def test_all_labels_are_those_of_the_items(windows):
    song, last, following = windows.all_labels()
    for item in range(len(windows)):
        assert windows[item]["events"][-1].tolist() == last[item].tolist()
        assert windows[item]["labels"].tolist() == following[item].tolist()
        assert song[item] == windows[item]["labels"][1] // 2


def test_memory_is_4_bytes_per_event(tmp_path):
    tabs = read_tabs(write_tabs(tmp_path / "c", train=[("a", "x", walk(0, 20_000))]), "train")
    windows = NoteWindows(tabs, 100)
    assert tabs.events.nbytes == 4 * 20_000 and len(windows) == 19_900
    assert np.shares_memory(windows._rows, tabs.events)


@given(st.lists(st.integers(11, 60), min_size=1, max_size=8), st.floats(-2, 2))
def test_favoured_chunks_have_their_share(sizes, exponent):
    events = np.concatenate([np.full((size, 4), number, np.uint8) for number, size in enumerate(sizes)])
    names = np.array(["x"] * len(sizes))
    tabs = Tabs("x", events, np.append(0, np.cumsum(sizes)), names, names)
    windows = NoteWindows(tabs, 10, exponent)
    chunk, first = windows.place(np.arange(len(windows)))
    assert (first >= tabs.begins[chunk]).all() and (first + 10 < tabs.begins[chunk + 1]).all()
    weight = (np.array(sizes) - 10) * np.array(sizes) ** exponent
    count = np.bincount(chunk, minlength=len(sizes))
    np.testing.assert_allclose(count, weight / weight.sum() * len(windows), atol=1.01)
    if exponent == 0:
        np.testing.assert_array_equal(np.sort(first), first)
        assert len(np.unique(first)) == len(windows)


def test_chunks_are_chosen_and_counted(tmp_path):
    tabs = numbered(tmp_path)
    chosen, counts = choose_chunks(tabs, 10)
    assert chosen.sizes.tolist() == [30, 11, 12, 45]
    assert counts == {"chunks": 6, "outside chunk_notes": 0, "too short": 2, "used": 4, "songs": 2}
    chosen, counts = choose_chunks(tabs, 10, "Guitar", (11, 44))
    assert chosen.sizes.tolist() == [11] and set(chosen.instrument) == {"Guitar"}
    assert counts == {"chunks": 3, "outside chunk_notes": 2, "too short": 0, "used": 1, "songs": 1}
    np.testing.assert_array_equal(chosen.events, tabs.events[30:41])


def test_a_share_of_the_songs_is_drawn_from_the_seed(tmp_path):
    chunks = [(f"song {i // 2}", "x", walk(i, 30)) for i in range(40)]
    tabs = read_tabs(write_tabs(tmp_path / "c", train=chunks), "train")
    shares = [choose_chunks(tabs, 10, share=0.25, seed=seed) for seed in (0, 0, 1)]
    songs = [set(chosen.song.tolist()) for chosen, _ in shares]
    assert songs[0] == songs[1] != songs[2]
    assert [counts["songs"] for _, counts in shares] == [5, 5, 5] and shares[0][1]["used"] == 10
    assert choose_chunks(tabs, 10, share=0.001)[1]["songs"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((50,), r"window 50 needs chunks of 51 events, the longest of 6 chunks has 45; lower --window to 44"),
        ((10, "Gitar"), "no chunk of instrument 'Gitar'; did you mean 'Guitar'"),
        ((10, "Kazoo"), "no chunk of instrument 'Kazoo'; it has Bass, Guitar"),
        ((10, "", (46, 99)), r"no chunk of 46 to 99 events \(its chunks have 3 to 45\); widen --chunk_notes"),
        ((10, "", (1, 5)), "the longest of 1 chunks has 3; add longer melodic tracks"),
    ],
)
def test_nothing_left_is_one_line(tmp_path, arguments, message):
    with pytest.raises(MgenError, match=message) as caught:
        choose_chunks(numbered(tmp_path), *arguments)
    assert "\n" not in str(caught.value)


def test_a_corpus_without_events_is_one_line(tmp_path):
    with pytest.raises(MgenError, match=r"has no tab_events/train.parquet; mgen prepare .*tabs.yaml"):
        read_tabs(tmp_path, "train")
    empty = read_tabs(write_tabs(tmp_path / "empty", train=[]), "train")
    with pytest.raises(MgenError, match="there is no chunk; add longer melodic tracks"):
        choose_chunks(empty, 10)
    bad = walk(0, 20)
    bad[3, 0] = 13
    with pytest.raises(MgenError, match=r"row 3 .*semitone is not 0"):
        read_tabs(write_tabs(tmp_path / "bad", train=[("a", "b", bad)]), "train")
    (tmp_path / "bad" / "tab_events" / "train.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(MgenError, match="cannot be read"):
        read_tabs(tmp_path / "bad", "train")


def test_the_fingerprint_is_of_the_content(tmp_path):
    folders = [
        write_tabs(tmp_path / name, train=[("a", "b", walk(seed, 20))])
        for name, seed in zip("abc", (0, 0, 1), strict=True)
    ]
    prints = [tabs_fingerprint(folder, ("train", "valid")) for folder in folders]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize("kind", ["skip_gram", "autoencoder"])
@pytest.mark.parametrize("variant", ["semitone_dur", "pitch_duration"])
def test_vectors_tell_words_apart_and_depend_on_the_seed_alone(tmp_path, monkeypatch, kind, variant):
    for name in ("skip_gram", "autoencoder"):
        monkeypatch.setattr(event_vectors, name, partial(getattr(event_vectors, name), steps=60))
    tabs = read_tabs(write_tabs(tmp_path / "c", train=[(f"{i}", "x", walk(i, 300)) for i in range(4)]), "train")
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again, other = (train_event_vectors(kind, tabs, variant, 8, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again) and not torch.equal(first, other)
    classes, word = words(variant)
    assert first.shape == (len(classes), 8) and first.square().mean().item() == pytest.approx(1, rel=1e-4)
    used = first[np.unique(word[symbol_of(torch.from_numpy(tabs.events)).numpy()])]
    assert torch.pdist(used).min() > 0.1


def test_words_with_the_same_neighbours_get_similar_vectors(tmp_path):
    """A and B are always between C and D; E and F between G and H."""
    rng = np.random.default_rng(0)
    pairs = [(1, rng.choice([2, 3]), 4) if rng.random() < 0.5 else (5, rng.choice([6, 7]), 8) for _ in range(700)]
    semitones = np.array(pairs).ravel()
    events = np.column_stack([semitones, *np.zeros((3, len(semitones)))]).astype(np.uint8)
    tabs = read_tabs(write_tabs(tmp_path / "c", train=[("a", "x", events)]), "train")
    vectors = torch.nn.functional.normalize(train_event_vectors("skip_gram", tabs, "semitone_dur", 8, 0), dim=1)
    a, b, e, f = (vectors[words("semitone_dur")[1][symbol_of(torch.tensor([k, 0, 0, 0]))]] for k in (2, 3, 6, 7))
    assert min(a @ b, e @ f) > max(a @ e, a @ f, b @ e, b @ f) + 0.1


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(2, 14), st.integers(1, 80))
def test_scores_are_those_of_scikit_learn(seed, n_classes, n):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(n_classes, size=(2, n))
    truth[rng.random(n) < 0.5] = 1
    songs = rng.integers(4, size=n)
    counts = Counts.of(truth, predicted, n_classes, songs)
    scores = classification_scores(counts, np.ones(n_classes, bool), label=1)
    assert scores["accuracy"].value == pytest.approx(accuracy_score(truth, predicted))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # y_pred contains classes not in y_true
        assert scores["balanced_accuracy"].value == pytest.approx(balanced_accuracy_score(truth, predicted))
    wanted = {
        "precision": precision_score(truth, predicted, labels=[1], average=None, zero_division=np.nan)[0],
        "recall": recall_score(truth, predicted, labels=[1], average=None, zero_division=np.nan)[0],
    }
    for name, value in wanted.items():
        assert scores[name].value == pytest.approx(value, nan_ok=True)
    songwise = bootstrap(truth == predicted, songs)
    assert (scores["accuracy"].low, scores["accuracy"].high) == pytest.approx((songwise.low, songwise.high))


def test_classes_that_are_left_out_do_not_count():
    truth, predicted = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0])
    counts = Counts.of(truth, predicted, 4)
    scores = classification_scores(counts, np.array([True, True, False, True]))
    assert scores["balanced_accuracy"].value == 0.75  # class 2 is left out, class 3 has no example
    assert set(scores) == {"accuracy", "balanced_accuracy"}
