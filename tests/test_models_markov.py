"""Baselines without a network: what the chain counts and copies, and that their output is valid after any prompt."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mgen.corpus.shards import Corpus, TokenTable
from mgen.encoding.remi import Kind, Remi
from mgen.errors import MgenError
from mgen.models.baselines.endings import Endings
from mgen.models.baselines.excerpts import TrainingExcerpts
from mgen.models.baselines.markov import MarkovChain
from mgen.notes import Notes


def table_of(rows):
    ids = np.concatenate(rows).astype(np.uint16)
    return TokenTable(
        ids, np.concatenate([[0], np.cumsum([len(row) for row in rows])]), pd.DataFrame(index=range(len(rows)))
    )


def melody(remi, pitches, step=12, velocity=64):
    """Ids of a line of notes, `step` grid steps apart, each as long, in 4/4."""
    names = {name: i for i, name in enumerate(remi.names)}
    duration = {12: "Duration_0.12.24", 24: "Duration_1.0.24"}[step]
    out = []
    for place, pitch in enumerate(pitches):
        if place * step % 96 == 0:
            out += [remi.bar_id, names["TimeSig_4/4"]]
        out += [names[f"Position_{place * step % 96}"], names[f"Pitch_{pitch}"]]
        out += [int(remi._velocity_ids[velocity]), names[duration]]
    return np.array(out)


@pytest.fixture(scope="module")
def demo_table(small_corpus):
    return Corpus.open(small_corpus).table("train", "jazz")


def test_order_1_follows_as_often_as_it_did(remi):
    # after 60 came 62 three times and 64 once; 62 and 64 both lead back to 60
    line = [64, 60, 62, 60, 62, 60, 64, 60, 62, 60]
    chain = MarkovChain.fit(table_of([melody(remi, line)]), remi, 1)
    head = np.concatenate([[remi.bos_id], melody(remi, [62, 60])])  # the gap before its second note is known
    played = chain.sample(np.tile(head, (4000, 1)), 8, np.random.default_rng(0))
    notes = Notes.from_completions([head.tolist()] * 4000, played, remi)
    first = notes.pitch[notes.starts[:-1]]
    assert set(first.tolist()) == {62, 64}
    assert abs((first == 62).mean() - 3 / 4) < 0.025  # 4 deviations of 4000 draws
    second = notes.pitch[notes.starts[:-1] + 1]
    assert (second == 60).all()


def test_the_ends_of_pieces_lead_nowhere(remi):
    """62 is only ever last: the chain starts again from any event, but never from one piece into the next."""
    chain = MarkovChain.fit(table_of([melody(remi, [60, 62]), melody(remi, [70, 72, 70, 72])]), remi, 1)
    head = np.concatenate([[remi.bos_id], melody(remi, [60, 62])])
    notes = Notes.from_completions(
        [head.tolist()] * 3000, chain.sample(np.tile(head, (3000, 1)), 4, np.random.default_rng(0)), remi
    )
    share = {pitch: (notes.pitch == pitch).mean() for pitch in (62, 70, 72)}
    # order 0: of the events with a note before them one is a 62, one a 70, two are 72
    assert abs(share[62] - 1 / 4) < 0.035 and abs(share[70] - 1 / 4) < 0.035 and abs(share[72] - 1 / 2) < 0.04


def test_order_5_copies_where_contexts_are_unique(remi):
    rng = np.random.default_rng(4)
    line = rng.permutation(np.arange(30, 100))[:60]  # no pitch twice: every context is found once
    piece = melody(remi, line)
    chain = MarkovChain.fit(table_of([piece, melody(remi, line[::-1], step=24)]), remi, 5)
    cut = int(np.flatnonzero(piece == remi.bar_id)[2])
    prompt = np.concatenate([[remi.bos_id], piece[:cut]])
    played = chain.sample(prompt[None], len(piece) - cut, np.random.default_rng(1))
    assert played[0] == piece[cut:].tolist()


def test_a_prompt_is_continued_as_if_alone(remi):
    """The gap before a prompt's first note is not known, least of all from the prompt before it in the batch."""
    table = table_of([melody(remi, [60, 62, 64, 65] * 6), melody(remi, [60, 62, 71, 72] * 6, step=24)])
    chain = MarkovChain.fit(table, remi, 1)
    lone = np.concatenate([[remi.bos_id], melody(remi, [65])])
    lone[3] = remi.names.index("Position_12")  # as far behind the other prompt's note as 65 is behind 64
    played = [
        chain.sample(np.array([before, lone] * 1500), 4, np.random.default_rng(0))[1::2]
        for before in (lone, np.concatenate([[remi.bos_id], melody(remi, [60])]))
    ]
    assert played[0] == played[1]
    assert len({tuple(row) for row in played[0]}) > 4


def test_a_longer_context_has_the_say(remi):
    """After 60 62 comes 64, after 65 62 comes 67; order 1 cannot tell them apart."""
    table = table_of([melody(remi, [50, 60, 62, 64] * 4), melody(remi, [50, 65, 62, 67] * 4)])
    head = np.concatenate([[remi.bos_id], melody(remi, [50, 60, 62])])
    share = {}
    for order in (1, 2):
        chain = MarkovChain.fit(table, remi, order)
        played = chain.sample(np.tile(head, (2000, 1)), 4, np.random.default_rng(0))
        share[order] = (Notes.from_completions([head.tolist()] * 2000, played, remi).pitch == 64).mean()
    assert abs(share[1] - 1 / 2) < 0.05 and share[2] == 1


def baselines(table, remi):
    chains = [MarkovChain.fit(table, remi, order).sample for order in (1, 5)]
    return [*chains, TrainingExcerpts(table, remi).draw]


@pytest.mark.parametrize("source", ["jazz", "other"])
def test_every_cut_of_a_prompt_is_continued_without_a_fault(source, small_corpus, demo_table, remi):
    """A prompt may end anywhere: in a bar line, a position, a note."""
    piece = Corpus.open(small_corpus).table("test", source)[0].astype(np.int64)
    head = [remi.bos_id, remi.style_ids["jazz"]]
    for draw in baselines(demo_table, remi)[1:]:
        seen = set()
        for cut in range(0, 40):
            prompts = np.array([[*head, *piece[:cut]]] * 6)
            played = draw(prompts, 60, np.random.default_rng(cut))
            assert [len(row) for row in played] == [60] * 6
            notes = Notes.from_completions(prompts.tolist(), played, remi)
            assert notes.n_broken.tolist() == [0] * 6, (cut, remi.names[prompts[0, -1]])
            assert (notes.counts >= 5).all()
            seen.add(int(remi.kind[prompts[0, -1]]))
        assert {Kind.SPECIAL, Kind.BAR, Kind.TIME_SIGNATURE, Kind.POSITION, Kind.PITCH} <= seen


@pytest.mark.parametrize("velocity", [True, False])
def test_a_band_is_continued_without_a_fault(demo_pieces, velocity):
    remi = Remi.build(("jazz", "other"), multi=True, velocity=velocity)
    rows = remi.encode(Notes.from_scores(demo_pieces))
    band = next(row for row in rows if len(set(row[remi.kind[row] == Kind.PROGRAM].tolist())) > 2)
    for draw in baselines(table_of(rows), remi)[1:]:
        for cut in range(0, 24):
            prompts = np.array([[remi.bos_id, *band[:cut]]] * 4)
            played = draw(prompts, 40, np.random.default_rng(cut))
            assert Notes.from_completions(prompts.tolist(), played, remi).n_broken.tolist() == [0] * 4


@pytest.mark.parametrize(("beats", "unit"), [(3, 4), (6, 8)])
def test_the_metre_of_the_prompt_goes_on(demo_table, remi, beats, unit):
    names = {name: i for i, name in enumerate(remi.names)}
    waltz = melody(remi, [60, 62, 64, 65, 67], step=24)
    waltz[waltz == names["TimeSig_4/4"]] = names[f"TimeSig_{beats}/{unit}"]
    waltz = waltz[:14]  # three beats
    for draw in baselines(demo_table, remi)[:2]:
        notes = Notes.from_completions([waltz.tolist()], draw(waltz[None], 80, np.random.default_rng(0)), remi)
        assert set(notes.bars.changes()) == {(0, beats, unit)} and notes.n_broken.tolist() == [0]
    ends = Endings.of(waltz[None], remi)
    assert (ends.beats.tolist(), ends.unit.tolist(), ends.position.tolist()) == ([beats], [unit], [192 // unit])


def test_excerpts_follow_a_prompt_of_their_metre(demo_table, remi):
    names = {name: i for i, name in enumerate(remi.names)}
    jig = melody(remi, range(60, 76), step=24)
    jig[jig == names["TimeSig_4/4"]] = names["TimeSig_6/8"]
    table = table_of([demo_table[0], jig])
    prompt = np.array([remi.bos_id, remi.bar_id, names["TimeSig_6/8"], names["Position_24"], *jig[3:6]])
    (played,) = TrainingExcerpts(table, remi).draw(prompt[None], 20, np.random.default_rng(0))
    # in the bar of the prompt, after its second eighth
    assert [remi.names[token] for token in played[:1]] == ["Position_48"]


def test_excerpts_are_the_training_music(demo_table, remi):
    played = TrainingExcerpts(demo_table, remi).draw(np.full((40, 1), remi.bos_id), 50, np.random.default_rng(0))
    pieces = ["," + ",".join(map(str, demo_table[i].tolist())) + "," for i in range(len(demo_table))]
    assert all(any("," + ",".join(map(str, row)) + "," in piece for piece in pieces) for row in played)
    assert len({tuple(row) for row in played}) > 30


def test_the_same_seed_gives_the_same_music(demo_table, remi):
    prompts = np.full((5, 1), remi.bos_id)
    for draw in baselines(demo_table, remi):
        first, again, other = (draw(prompts, 40, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert first == again != other


def test_endings(remi):
    piece = melody(remi, [60, 62, 64])
    ends = [Endings.of(piece[None, :cut], remi) for cut in range(1, 8)]
    assert [int(end.kind[0]) for end in ends] == [
        Kind.BAR,
        Kind.TIME_SIGNATURE,
        Kind.POSITION,
        Kind.PITCH,
        Kind.VELOCITY,
        Kind.DURATION,
        Kind.POSITION,
    ]
    assert [int(end.position[0]) for end in ends] == [-1, -1, 0, 0, 0, 0, 12]
    assert [bool(end.open_note[0]) for end in ends] == [False, False, True, True, True, False, True]


def test_bad_input_is_told_in_a_line(demo_table, remi):
    chain = MarkovChain.fit(demo_table, remi, 1)
    rng = np.random.default_rng(0)
    with pytest.raises(MgenError, match="ends with EOS"):
        chain.sample(np.array([[remi.bos_id, remi.eos_id]]), 8, rng)
    with pytest.raises(MgenError, match="P at least 1"):
        chain.sample(np.zeros((2, 0), np.int64), 8, rng)
    with pytest.raises(MgenError, match="order \\(0\\)"):
        MarkovChain.fit(demo_table, remi, 0)
    with pytest.raises(MgenError, match="two notes at different times"):
        MarkovChain.fit(table_of([melody(remi, [60])]), remi, 1)
    with pytest.raises(MgenError, match="the longest piece has"):
        TrainingExcerpts(demo_table, remi).draw(np.array([[remi.bos_id]]), 10**6, rng)
