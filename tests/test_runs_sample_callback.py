"""Samples during training: fixed prompts, the same draws at every step, and clips equal to the MIDI files."""

from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import pytest
import symusic
import torch

from mgen.corpus.shards import Corpus
from mgen.runs.sample_callback import CLIP_SECONDS, SampleCallback, fixed_prompts


class KeptClips:
    def __init__(self):
        self.steps = {}

    def show(self, clips, step):
        self.steps[step] = clips


@pytest.fixture(scope="module")
def corpus(small_corpus):
    return Corpus.open(small_corpus)


ARGUMENTS = SimpleNamespace(bf16=False)


def state(step, first=True):
    return SimpleNamespace(global_step=step, is_world_process_zero=first)


def notes(path):
    return [(note.time, note.duration, note.pitch) for track in symusic.Score(path).tracks for note in track.notes]


def test_prompts_are_drawn_from_valid_and_their_types_take_turns(corpus):
    remi, asked = corpus.remi, [("continuation", "jazz"), ("transfer", "jazz")]
    prompts = fixed_prompts(corpus, asked, 3, 24, seed=5)
    assert list(prompts) == ["0_continuation_jazz", "1_transfer_jazz", "2_continuation_jazz"]
    assert prompts == fixed_prompts(corpus, asked, 3, 24, seed=5) != fixed_prompts(corpus, asked, 3, 24, seed=6)
    held = {style: corpus.table("valid", style).ids.tolist() for style in ("jazz", "other")}
    for name, ids in prompts.items():
        assert ids[:2] == [remi.bos_id, remi.style_ids["jazz"]] and len(ids) == 26
        music, inside = ids[2:], held["other" if "transfer" in name else "jazz"]
        assert any(inside[i : i + 24] == music for i in range(len(inside)))
    assert fixed_prompts(corpus, [("continuation", "polka"), ("continuation", "other")], 2, 24).keys() == {
        "0_continuation_other",
        "1_continuation_other",
    }
    assert fixed_prompts(corpus, [("continuation", "jazz")], 2, 10**6) == {}


def test_clips_equal_the_files(corpus, tiny_policy, tmp_path):
    clip_logger = KeptClips()
    prompts = fixed_prompts(corpus, [("continuation", "jazz")], 2, 40)
    callback = SampleCallback(prompts, corpus.remi, tmp_path, [clip_logger], every=5, new_tokens=30)
    policy = tiny_policy().train()
    for step in range(1, 11):
        callback.on_step_end(ARGUMENTS, state(step), None, model=policy)
    assert list(clip_logger.steps) == [5, 10] and policy.training and callback.seconds > 0
    for step, clips in clip_logger.steps.items():
        assert [clip.name for clip in clips] == [
            "0_continuation_jazz",
            "1_continuation_jazz",
            "0_continuation_jazz_greedy",
        ]
        for clip in clips:
            assert clip.midi == tmp_path / f"step_{step:06d}" / f"{clip.name}.mid"
            ends = [(time + duration) / 24 * 0.5 for time, duration, _ in notes(clip.midi)]  # 120 quarters a minute
            seconds = len(clip.audio) / clip.sample_rate
            assert min(max(ends), CLIP_SECONDS) <= seconds + 0.05 and seconds <= CLIP_SECONDS
            assert clip.picture.shape == (300, 1200, 3)
    # The same draws at every step: the same policy gives the same samples.
    assert all(notes(a.midi) == notes(b.midi) for a, b in zip(clip_logger.steps[5], clip_logger.steps[10], strict=True))


def test_global_random_states_stay_the_same(corpus, tiny_policy, tmp_path):
    callback = SampleCallback(
        fixed_prompts(corpus, [("continuation", "jazz")], 1, 24), corpus.remi, tmp_path, [KeptClips()], new_tokens=20
    )
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  # other libraries draw from it
    random.seed(1)
    expected = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    callback.on_save(ARGUMENTS, state(3), None, model=tiny_policy())
    torch.testing.assert_close(torch.get_rng_state(), expected[0], rtol=0, atol=0)
    assert (np.random.get_state()[1].tolist(), random.getstate()) == expected[1:]  # noqa: NPY002


def test_only_the_first_process_samples_and_only_at_its_steps(corpus, tiny_policy, tmp_path):
    prompts = fixed_prompts(corpus, [("continuation", "jazz")], 1, 24)
    policy = tiny_policy()
    by_save = SampleCallback(prompts, corpus.remi, tmp_path / "save", new_tokens=5)
    by_step = SampleCallback(prompts, corpus.remi, tmp_path / "step", every=2, new_tokens=5, at_start=False)
    for callback in (by_save, by_step):
        callback.on_train_begin(ARGUMENTS, state(0, first=False), None, model=policy)
        callback.on_save(ARGUMENTS, state(2, first=False), None, model=policy)
        callback.on_step_end(ARGUMENTS, state(2, first=False), None, model=policy)
    assert not list(tmp_path.iterdir())
    for callback in (by_save, by_step):
        callback.on_train_begin(ARGUMENTS, state(0), None, model=policy)
        for step in (1, 2):
            callback.on_step_end(ARGUMENTS, state(step), None, model=policy)
        callback.on_save(ARGUMENTS, state(3), None, model=policy)
    assert sorted(path.name for path in (tmp_path / "save").iterdir()) == ["step_000000", "step_000003"]
    assert [path.name for path in (tmp_path / "step").iterdir()] == ["step_000002"]
