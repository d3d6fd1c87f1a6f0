"""Samples of a policy while it trains: the same few prompts, continued at regular steps, as MIDI, audio and pictures.

Samples are drawn from a separate random generator, so a run ends with the same weights with and without them. This
module does not know which tracker shows them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from numpy.typing import NDArray
from transformers import PreTrainedModel, TrainerCallback

from mgen.corpus.shards import Corpus
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.render.audio import SAMPLE_RATE, synthesise
from mgen.render.pianoroll_image import pianoroll_image
from mgen.sampling.decoding import Decoding
from mgen.sampling.prompts import draw_prompts
from mgen.sampling.rollout import sample
from mgen.sampling.samples import decode_with_prompt

CLIP_SECONDS = 12.0
"""The longest clip: long enough for a prompt and what follows it, and cheap to synthesise at every checkpoint."""

TEMPO = 120.0  # quarter notes per minute of the files; the policy has no tempo


@dataclass(frozen=True, slots=True, eq=False)
class SampleClip:
    """One continuation as sound and picture."""

    name: str  # of the prompt, the same at every step
    audio: NDArray[np.float32]  # (S,) mono samples within -1..1, at `sample_rate`
    picture: NDArray[np.uint8]  # (H, W, 3) its piano-roll, 0-255; the prompt is shaded
    midi: Path  # MIDI file
    sample_rate: int = SAMPLE_RATE


class ClipLogger(Protocol):
    """Shows clips, in a tracker for example."""

    def show(self, clips: Sequence[SampleClip], step: int) -> None:
        """Shows the continuations after optimizer step `step`."""


class SampleCallback(TrainerCallback):  # type: ignore[misc]
    """Samples continuations of fixed prompts at temperature 1, and a greedy one of the first prompt.

    The MIDI files go to `folder`/step_000100/. Only the main process samples.

    Args:
        prompts: name -> token ids.
        folder: of the samples.
        clip_loggers: where clips are shown; without any, nothing is synthesised or drawn.
        every: steps between samples; None: whenever a checkpoint is written.
        new_tokens: longest continuation; prompt and continuation must fit the policy's context.
        at_start: sample before the first step too.

    Attributes:
        seconds: spent on samples so far.
    """

    def __init__(
        self,
        prompts: Mapping[str, Sequence[int]],
        remi: Remi,
        folder: Path,
        clip_loggers: Sequence[ClipLogger] = (),
        every: int | None = None,
        new_tokens: int = 192,
        at_start: bool = True,
    ) -> None:
        self.prompts, self.remi, self.folder, self.clip_loggers = dict(prompts), remi, folder, list(clip_loggers)
        self.every, self.new_tokens, self.at_start = every, new_tokens, at_start
        self.seconds = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if not state.global_step:
            wanted = self.at_start
        else:  # a run that was killed after a checkpoint may lack its samples
            last = self._step_folder(state) / f"{next(iter(self.prompts), '')}_greedy.mid"
            wanted = self.every is None and not last.is_file()
        if wanted:
            self._write_samples(model, args, state)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if self.every and state.global_step % self.every == 0:
            self._write_samples(model, args, state)

    def on_save(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if self.every is None:
            self._write_samples(model, args, state)

    def _step_folder(self, state: Any) -> Path:
        return self.folder / f"step_{state.global_step:06d}"

    def _write_samples(self, model: Any, args: Any, state: Any) -> None:
        if not state.is_world_process_zero or not self.prompts:
            return
        began = time.monotonic()
        policy = extract_model_from_parallel(model, keep_torch_compile=False)
        folder = self._step_folder(state)
        folder.mkdir(parents=True, exist_ok=True)
        clips = []
        for name, prompt, completion in self._completions(policy, torch.bfloat16 if args.bf16 else None):
            piece = decode_with_prompt(prompt, completion, self.remi)
            score = piece.notes.to_score(0, TEMPO)
            path = folder / f"{name}.mid"
            score.dump_midi(path)
            if self.clip_loggers:
                audio = synthesise(score, max_seconds=CLIP_SECONDS)
                clips.append(SampleClip(name, audio, pianoroll_image(piece.notes, 0, piece.prompt_end), path))
        for clip_logger in self.clip_loggers:
            clip_logger.show(clips, state.global_step)
        self.seconds += time.monotonic() - began

    def _completions(
        self, policy: PreTrainedModel, dtype: torch.dtype | None
    ) -> list[tuple[str, Sequence[int], list[int]]]:
        """Name, prompt and completion of each sample."""
        # The same seed at every step, so that differences between steps come from the policy.
        generator = torch.Generator(policy.device).manual_seed(0)
        names, prompts = list(self.prompts), list(self.prompts.values())
        ends = self.remi.eos_id, self.remi.pad_id
        drawn = sample(
            policy, prompts, Decoding(max_new_tokens=self.new_tokens), *ends, generator, dtype=dtype
        ).lists()[0]
        greedy = Decoding(temperature=0, max_new_tokens=self.new_tokens)
        likeliest = sample(policy, prompts[:1], greedy, *ends, dtype=dtype).lists()[0]
        return [*zip(names, prompts, drawn, strict=True), (f"{names[0]}_greedy", prompts[0], likeliest[0])]


def fixed_prompts(
    corpus: Corpus, types: Sequence[tuple[str, str]], n: int, prompt_tokens: int, seed: int = 0
) -> dict[str, list[int]]:
    """Draws prompts from valid, the same ones at every call.

    Args:
        types: prompt type (`mgen.sampling.prompts.PROMPT_TYPES`) and target style, taken in turn. Types for which valid
            has no music are skipped.
        n: number of prompts.
        prompt_tokens: tokens of music in each.

    Returns:
        Name -> token ids.
    """
    drawn: list[tuple[str, list[list[int]]]] = []
    for place, (prompt_type, style) in enumerate(types):
        rng = np.random.default_rng([seed, place])
        try:
            prompts = draw_prompts(corpus, "valid", prompt_type, n, prompt_tokens, 0, style, rng, given=True)
        except MgenError:  # no such music, or none that long: training does not need it
            continue
        drawn.append((f"{prompt_type}_{style}", prompts.lists(corpus.remi)))
    turns = [(name, ids[i]) for i in range(n) for name, ids in drawn][:n]
    return {f"{i}_{name}": ids for i, (name, ids) in enumerate(turns)}
