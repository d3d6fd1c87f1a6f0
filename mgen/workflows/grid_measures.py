"""What the runs of a grid are compared by: measures of a policy on held-out prompts that give no reward."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from critics.style import StyleCritic
from mgen.corpus.shards import Corpus
from mgen.files import write_atomically
from mgen.models.lstm import LstmForCausalLM
from mgen.models.transformer import load_policy
from mgen.music.metrics import loop_rate
from mgen.notes import Notes
from mgen.rl.batch import collate, token_logprobs
from mgen.rl.guard import NOTES, Guard
from mgen.rl.update import average_weights, copy_weights, set_weights
from mgen.runs.run import TrainingResult
from mgen.sampling.decoding import Decoding
from mgen.sampling.prompts import draw_prompts
from mgen.sampling.rollout import sample
from mgen.sampling.systems import sample_completions
from mgen.speed import choose_speed
from mgen.stats.graded import graded

TUNED_COLUMNS = {
    "continuation/auc": f"AUC by {NOTES} notes, continuing the style",
    "transfer/auc": f"AUC by {NOTES} notes, other prompts",
    "continuation/style": "judged of the style, continuing it",
    "transfer/style": "judged of the style, other prompts",
    "continuation/kl": "KL, continuing the style",
    "transfer/kl": "KL, other prompts",
    "transfer/whole": "whole, other prompts",
    "transfer/variety": "Vendi ratio, other prompts",
    "transfer/cold_loops": "loops at 0.5, other prompts",
    "transfer/greedy_loops": "greedy loops, other prompts",
}
"""Measures of fine-tuned policies -> heading of the column."""

DECODINGS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "top 5": {"top_k": 5},
    "top 10": {"top_k": 10},
    "temperature 0.8": {"temperature": 0.8},
    "temperature 1": {},
}
LENGTHS = (8, 16, 36, 100)

PRETRAINED_COLUMNS = {
    "parameters": "parameters",
    "seconds": "seconds of training",
    "tokens_per_second": "tokens/s in training",
    "nats_per_note": "nats per note",
    **{f"auc/{length}": f"AUC by {length} notes" for length in LENGTHS},
    "until": "notes until AUC 0.75",
    "whole": "whole",
    **{f"loops/{name}": f"loops, {name}" for name in DECODINGS},
}
"""Measures of pretrained policies -> heading of the column."""


class TunedMeasure:
    """Measures fine-tuned policies on prompts of test.

    Args:
        policy: model folder of the policy that all runs start from.
        prompt_tokens, completion_tokens: longest prompt and completion.
    """

    def __init__(
        self,
        corpus: Corpus,
        policy: str,
        critic: str,
        target: str,
        pieces: int,
        prompt_tokens: int,
        completion_tokens: int,
    ) -> None:
        self.dtype = choose_speed("auto", "cpu").dtype
        self.guard = Guard.of(corpus, target, pieces, prompt_tokens, completion_tokens, 0, self.dtype, split="test")
        self.critic = StyleCritic.from_pretrained(critic, corpus.remi)
        self.start, self.remi = load_policy(policy)

    def __call__(self, model: Path, path: Path, share: float = 1.0) -> dict[str, float]:
        """The measures of a model, or of one at `share` of the way to it from the start; from `path` if known."""
        return _stored(path, lambda: self._measured(model, share))

    def _measured(self, model: Path, share: float) -> dict[str, float]:
        policy, _ = load_policy(model)
        weights = copy_weights(self.start)
        average_weights(weights, policy, 1 - share)
        set_weights(policy, weights)
        found = {key.removeprefix("guard/"): value for key, value in self.guard.check(policy).items()}
        for prompt_type, prompts in self.guard.prompts.items():
            ids = prompts.lists(self.remi)
            completions = sample_completions(policy, ids, self.guard.completion_tokens, self.remi, 1, self.dtype)
            batch = collate(ids, completions, torch.ones(len(ids)), 1, self.remi.pad_id)
            rows = torch.split(torch.arange(len(ids)), 64)
            with torch.no_grad():
                ratio = [(token_logprobs(policy, batch, r) - token_logprobs(self.start, batch, r)).sum(1) for r in rows]
            found[f"{prompt_type}/kl"] = float(torch.cat(ratio).mean())
            notes = Notes.from_completions(ids, completions, self.remi)
            found[f"{prompt_type}/style"] = float((self.critic.probability(notes) > 0.5).mean())
        return found


def _stored(path: Path, measured: Callable[[], dict[str, float]]) -> dict[str, float]:
    if path.is_file():
        known: dict[str, float] = json.loads(path.read_text())
        return known
    found = measured()
    write_atomically(path, json.dumps(found, indent=1))
    return found


class PretrainedMeasure:
    """Measures pretrained policies on prompts of test, which they continue in their own style.

    A Transformer whose context is shorter than a completion gives shorter ones.
    """

    def __init__(self, corpus: Corpus, target: str, pieces: int, prompt_tokens: int, completion_tokens: int) -> None:
        rng = np.random.default_rng(0)
        self.prompts = draw_prompts(
            corpus, "test", "continuation", pieces, prompt_tokens, completion_tokens, target, rng
        )
        self.real, self.remi = self.prompts.real(corpus.remi), corpus.remi
        self.completion_tokens = completion_tokens
        self.dtype = choose_speed("auto", "cpu").dtype

    def __call__(self, run: TrainingResult, path: Path) -> dict[str, float]:
        """The measures of a run; from `path` if known."""
        return _stored(path, lambda: self._measured(run))

    def _measured(self, run: TrainingResult) -> dict[str, float]:
        policy, _ = load_policy(run.model)
        if isinstance(policy, LstmForCausalLM):
            policy.config.max_position_embeddings = None  # its state continues beyond the sequences of training
        found = {name: float(run.facts[name]) for name in ("parameters", "seconds", "nats_per_note")}
        found["tokens_per_second"] = run.facts["tokens"] / run.seconds
        for name, decoding in DECODINGS.items():
            notes = self._sampled(policy, decoding)
            rates = loop_rate(notes)
            found[f"loops/{name}"] = float(np.nanmean(rates)) if np.isfinite(rates).any() else float("nan")
        test = graded(self.real, notes, self.prompts.work, self.prompts.work, lengths=LENGTHS)
        found |= {f"auc/{length}": test.auc[length].value for length in LENGTHS}
        found |= {"until": test.until[0.75].value, "whole": float((notes.n_broken == 0).mean())}
        return {name: value for name, value in found.items() if np.isfinite(value)}

    def _sampled(self, policy: PreTrainedModel, decoding: Mapping[str, Any]) -> Notes:
        ids = self.prompts.ids.tolist()
        longest = policy.config.max_position_embeddings or math.inf
        new = int(min(self.completion_tokens, longest - max(map(len, ids))))
        drawn = Decoding(max_new_tokens=new, **decoding)
        generator = torch.Generator().manual_seed(0)
        ends = self.remi.eos_id, self.remi.pad_id
        completions = sample(policy, ids, drawn, *ends, generator, dtype=self.dtype).lists()[0]
        return Notes.from_completions(ids, completions, self.remi)
