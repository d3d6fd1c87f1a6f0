"""Windows and prompts with merged tokens: cut in base tokens, transposed, merged, continued where a word starts."""

from __future__ import annotations

import numpy as np
import pytest

from critics.sequence import transpose_rows
from mgen.corpus.repetition import copies_at_end
from mgen.corpus.shards import Corpus
from mgen.corpus.windows import item_rng, training_sequence, window_counts
from mgen.errors import MgenError
from mgen.evaluation import baselines
from mgen.models.transformer import check_vocabulary
from mgen.notes import Notes
from mgen.sampling.prompts import draw_prompts

CONTEXT = 96
HEAD = 2  # BOS and style


@pytest.fixture(scope="module")
def corpus(small_corpus):
    """The small corpus with 200 merges."""
    plain = Corpus.open(small_corpus)
    table = plain.table("train")
    return Corpus(plain.folder, plain.manifest, plain.remi.learn_merges([table[i] for i in range(len(table))], 200))


@pytest.fixture(scope="module")
def pieces(corpus):
    table = corpus.table("train")
    return [table[i] for i in range(0, len(table), 4)]


def sequence(corpus, piece, number, item, **options):
    options = {"transpose": True, "style_dropout": 0.0, **options}
    return training_sequence(piece, number, 3, corpus.remi, CONTEXT, item_rng(0, item), **options)


def test_windows_are_transposed_slices_of_the_piece_and_full(corpus, pieces):
    remi, full, ends = corpus.remi, 0, 0
    for piece in pieces:
        count = int(window_counts(np.array(len(piece)), CONTEXT, remi))
        for number in range(count):
            ids = sequence(corpus, piece, number, number)
            music = ids[HEAD : len(ids) - (ids[-1] == remi.eos_id)]
            base = remi.expand(music)[0]
            np.testing.assert_array_equal(remi.merge(base), music)
            moved = next(
                shift
                for shift in range(-6, 7)
                if remi.transpose(base, shift).astype(np.uint16).tobytes() in piece.tobytes()
            )
            at_end = np.array_equal(remi.transpose(base, moved), piece[len(piece) - len(base) :])
            assert (ids[-1] == remi.eos_id) == at_end or len(ids) == CONTEXT
            assert len(ids) > 0.9 * CONTEXT or at_end
            full, ends = full + (len(ids) == CONTEXT), ends + at_end
    assert full > 20 and ends > 1


def test_an_epoch_reads_each_token_about_once(corpus, pieces):
    remi = corpus.remi
    read = wanted = 0
    for number, piece in enumerate(pieces):
        count = int(window_counts(np.array(len(piece)), CONTEXT, remi))
        wanted += len(remi.merge(piece))
        read += sum(len(sequence(corpus, piece, n, 100 * number + n)) - HEAD for n in range(count))
    assert 0.9 < read / wanted < 1.2


def test_repeated_bars_are_found_in_merged_tokens(corpus, pieces):
    found = 0
    for item, piece in enumerate(pieces):
        ids = sequence(corpus, piece, 0, item, repeated_bars=1)
        copies, period = copies_at_end(ids, 1, corpus.remi)
        if copies.max() >= 4:
            found += 1
            np.testing.assert_array_equal(ids[-period:], ids[-2 * period : -period])
    assert found > len(pieces) // 3


@pytest.mark.parametrize("prompt_type", ["continuation", "transfer", "unconditional"])
def test_prompts_end_where_a_word_starts_and_go_on_as_the_music_does(corpus, prompt_type):
    remi, n = corpus.remi, 30
    music = 0 if prompt_type == "unconditional" else 24
    prompts = draw_prompts(corpus, "test", prompt_type, n, music, 60, "jazz", np.random.default_rng(0))
    assert prompts.ids.shape == (n, HEAD + music) and prompts.windows.shape == (n, music + 60)
    assert remi.opens_word[prompts.windows[:, music]].all() and remi.opens_bar[prompts.windows[:, 0]].all()
    for window in prompts.windows:
        np.testing.assert_array_equal(remi.merge(remi.expand(window)[0]), window)
        text = "".join(remi.names[id_] for id_ in window[:music])
        assert remi.read(text).tolist() == window[:music].tolist()  # as TRL gets it
    assert prompts.real(remi).n_broken.sum() == 0


@pytest.mark.parametrize("name", ["markov1", "train"])
def test_baselines_go_on_after_merged_prompts(corpus, name):
    prompts = draw_prompts(corpus, "test", "continuation", 12, 24, 60, "jazz", np.random.default_rng(1))
    drawn = baselines.baseline(name, corpus, "jazz").complete(prompts, 40, 0).token_ids
    assert max(map(len, drawn)) <= 40 and np.mean([len(row) for row in drawn]) > 30
    notes = Notes.from_completions(prompts.ids.tolist(), drawn, corpus.remi)
    assert notes.n_broken.tolist() == [0] * 12 and (notes.counts > 5).all()
    for row in drawn:
        np.testing.assert_array_equal(corpus.remi.merge(corpus.remi.expand(row)[0]), row)


def test_rows_of_a_critic_are_transposed_as_music(corpus, pieces):
    remi = corpus.remi
    rows = [np.append(remi.merge(piece)[:50], remi.eos_id) for piece in pieces]
    moved = transpose_rows(rows, remi, np.random.default_rng(0))
    shifts = set()
    for row, other in zip(rows, moved, strict=True):
        assert len(other) <= len(row) and other[-1] == remi.eos_id
        first, second = (Notes.from_ids([ids[:-1]], remi).pitch for ids in (row, other))
        n = min(len(first), len(second))
        assert n > 10 and len(set((second[:n] - first[:n]).tolist())) == 1
        shifts.add(int(second[0] - first[0]))
    assert len(shifts) > 3


def test_a_policy_of_other_merges_is_refused(corpus):
    table = corpus.table("valid")
    other = corpus.remi.base.learn_merges([table[i] for i in range(len(table))], 200)
    for remi in (other, corpus.remi.base):
        with pytest.raises(MgenError, match=r"policy: its tokenizer .* is not that of .*merges") as raised:
            check_vocabulary("policy", remi, "corpus", corpus.remi)
        assert "\n" not in str(raised.value)
