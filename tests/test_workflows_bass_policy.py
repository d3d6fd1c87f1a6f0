"""A policy that writes a bass to drums: corpus of pairs, pretraining, policy gradient, measurement, MIDI."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from band_corpus import band, prepare_songs, songs
from symusic import Score

import mgen
from mgen.cli import baseline, pairs
from mgen.cli.generate import main as generate
from mgen.cli.main import run
from mgen.corpus.pairs import PairSet, keys_of, read_pairs
from mgen.corpus.shards import Corpus
from mgen.encoding.drums_then_bass import encode_pairs
from mgen.encoding.remi import Kind, Remi
from mgen.errors import MgenError
from mgen.models.transformer import load_policy
from mgen.music.keys import semitones_to_c
from mgen.sampling.bass_policy import BassPolicy
from mgen.sampling.drum_bass import nats_of, sample
from mgen.sampling.grammar import GrammarMask
from mgen.sampling.prompts import draw_prompts
from mgen.workflows.bass_policy import kl_of, measure_bass_policy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bands(tmp_path_factory):
    return prepare_songs(tmp_path_factory.mktemp("band"), songs(12, bars=12))


@pytest.fixture(scope="module")
def pair_corpus(bands):
    out = bands.parent / "pairs"
    assert pairs.main([str(bands), "--out", str(out), "--least_hits", "4", "--merges", "32"]) == 0
    return out


@pytest.fixture(scope="module")
def policy(pair_corpus):
    """A policy that has learned the pairs well enough to write notes."""
    options = {"context": 192, "max_steps": 30, "size": "tiny", "per_device_train_batch_size": 8, "learning_rate": 2e-2}
    result = mgen.pretrain(pair_corpus, pair_corpus.parent / "base", speed="plain", report_to="none", **options)
    return result.model


def test_pieces_are_the_windows_of_their_split(bands, pair_corpus):
    source, corpus = Corpus.open(bands), Corpus.open(pair_corpus)
    assert corpus.has_given and not source.has_given
    for split in ("valid", "test"):
        cut, counts = read_pairs(source, split, [], least_hits=4)
        assert len(corpus.table(split)) == len(cut) == counts["windows"]
    starts = [len(read_pairs(source, "train", [], least_hits=4, first_bar=bar)[0]) for bar in range(4)]
    assert len(corpus.table("train")) == sum(starts) and min(starts) > 0
    assert set(corpus.pieces["group"]) <= set(source.pieces["group"])
    assert corpus.manifest["windows"]["train"]["pieces"] == len(source.table("train"))


def test_prompts_are_drum_parts_and_what_follows_is_their_bass(pair_corpus):
    corpus = Corpus.open(pair_corpus)
    prompts = draw_prompts(corpus, "train", "continuation", 20, 120, 64, "other", np.random.default_rng(0), given=True)
    remi, real = corpus.remi, prompts.real(corpus.remi)
    assert (real.program == 33).all() and (real.given.program == -1).all() and real.counts.min() > 0
    for ids in prompts.lists(remi):
        assert remi.pad_id not in ids and ids[:2] == [remi.bos_id, remi.style_ids["other"]]
        base, _ = remi.expand(ids)
        assert (base == remi.bar_id).sum() == 4
    with pytest.raises(MgenError, match=r"the given parts have at least \d+ tokens, prompt_tokens allows 3"):
        draw_prompts(corpus, "train", "continuation", 5, 3, 64, "other", np.random.default_rng(0), given=True)
    with pytest.raises(MgenError, match="a corpus of mgen pairs, whose prompts differ in length"):
        draw_prompts(corpus, "train", "continuation", 5, 64, 64, "other", np.random.default_rng(0))


def test_the_grammar_of_a_bass_forbids_drums():
    remi = Remi.build(("other",), multi=True, velocity=False)
    mask = GrammarMask(remi, programs=range(32, 40))
    mask.start([[remi.bos_id, remi.bar_id, remi.common_time, *remi.read("Position_0")]])
    allowed = mask.allowed()[0].numpy()
    named = remi.value[np.flatnonzero(allowed & (remi.kind == Kind.PROGRAM))]
    assert named.tolist() == list(range(32, 40))
    with pytest.raises(MgenError, match="programs: the vocabulary has none"):
        GrammarMask(Remi.build(("other",)), programs=[33])


def test_a_policy_writes_other_lines_each_time_and_the_same_with_a_seed(bands, policy):
    writer = BassPolicy(*load_policy(policy))
    cut, _ = read_pairs(Corpus.open(bands), "test", [], least_hits=4)
    batch = PairSet(cut).__getitems__(range(len(cut)))
    drawn = [sample(writer, batch["drums"], batch["conditions"], 3, 1.0, seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0][0] != drawn[0][1]).any() and (drawn[0] != drawn[2]).any()
    greedy = sample(writer, batch["drums"], batch["conditions"], 2, 0.0, 0)
    np.testing.assert_array_equal(greedy[0], greedy[1])


def test_nats_are_those_of_the_model_token_by_token(bands, policy):
    model, remi = load_policy(policy)
    cut, _ = read_pairs(Corpus.open(bands), "test", [], least_hits=4)
    found = nats_of(BassPolicy(model, remi), PairSet(cut))
    assert found.shape == (len(cut),) and (found > 0).all()
    (ids, *_), (given, *_) = encode_pairs(cut.drums[:1], cut.bass[:1], semitones_to_c(keys_of(cut)[:1]), remi)
    head = [remi.bos_id, remi.style_ids["other"], *remi.merge(ids[:given])]
    whole = torch.tensor([*head, *remi.merge(ids[given:]), remi.eos_id])
    with torch.no_grad():
        logits = model(whole[None]).logits[0]
    by_hand = -sum(logits[i - 1].log_softmax(-1)[whole[i]].item() for i in range(len(head), len(whole)))
    assert found[0] == pytest.approx(by_hand, rel=1e-4)


def test_kl_from_itself_is_nothing(bands, policy):
    model, remi = load_policy(policy)
    cut, _ = read_pairs(Corpus.open(bands), "test", [], least_hits=4)
    assert abs(kl_of(BassPolicy(model, remi), load_policy(policy)[0], cut, 0).value) < 1e-4


def test_policy_gradient_measurement_and_midi(bands, pair_corpus, policy, tmp_path, capsys):
    judges = {"kick_agreement": 1.0, "in_key": 1.0}
    options = {"prompt_tokens": [120], "max_completion_length": 64, "programs": list(range(32, 40)), "guard_steps": 0}
    small = {"completions": 32, "num_generations": 4, "max_steps": 2, "check_pieces": 0, "target": "other"}
    tuned = mgen.finetune(
        policy, pair_corpus, tmp_path / "rl", judges=judges, transfer_share=0.0, report_to="none", **options, **small
    )
    assert {"judge/kick_agreement", "judge/in_key"} & {*tuned.metrics} or "reward" in tuned.metrics
    result = measure_bass_policy(tuned.model, bands, tmp_path / "measured", reference=policy, least_hits=4, samples=2)
    table = (result.folder / "table.md").read_text()
    assert table.splitlines()[0].endswith("| auc | kl |") and "| policy |" in table and "| real bass |" in table
    assert 0 <= result.metrics["in_key"] <= 1 and result.metrics["kl"] > -0.5
    prompt, out = tmp_path / "song.mid", tmp_path / "lines"
    band(40, bars=9, bass=False).dump_midi(str(prompt))
    assert generate(["--baseline", str(result.folder), "--prompt", str(prompt), "--n", "2", "--out", str(out)]) == 0
    facts = json.loads((out / "index.json").read_text())
    assert len(facts["pieces"]) == 2 and facts["conditions"].keys() == {"key"}
    for piece in facts["pieces"]:
        score = Score(out / piece["file"])
        assert any(track.is_drum for track in score.tracks)
        assert {track.program for track in score.tracks if not track.is_drum} <= {33}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policy", "{piano}", "--corpus", "{bands}"], "its vocabulary has no programs"),
        (["--corpus", "{bands}"], "--policy"),
    ],
)
def test_mistakes_are_one_line(words, message, bands, tiny_policy, remi, tmp_path, capsys):
    piano = tmp_path / "piano"
    tiny_policy().save_pretrained(piano)
    remi.save_pretrained(piano)
    words = [word.format(piano=piano, bands=bands) for word in words]
    assert run(baseline.main, ["bass-policy", *words, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_damaged_split_is_not_passed_over(bands, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(bands, damaged)
    next((damaged / "tokens").glob("test-*.parquet")).write_bytes(b"no parquet")
    with pytest.raises(MgenError, match=r"test-00000\.parquet"):
        mgen.pairs(damaged, tmp_path / "out", least_hits=4)
    assert not (tmp_path / "out").exists()


def test_a_corpus_without_bands_has_no_pairs(small_corpus, tmp_path, capsys):
    assert run(pairs.main, [str(small_corpus), "--out", str(tmp_path / "out")]) == 2
    assert "which keeps no drums" in capsys.readouterr().err and not (tmp_path / "out").exists()
