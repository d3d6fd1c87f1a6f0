"""Checks of a policy during training on held-out prompts, by measures that give no reward.

New classifiers are trained at each check, so what the discriminator of the run has learned does not matter: their AUC
between real music of the target style and the completions is what the run is to lower, and it decides which weights are
kept. Reward does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from mgen.corpus.shards import Corpus
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.music.features import FORMAT_FREE, features
from mgen.music.metrics import loop_rate
from mgen.notes import Notes
from mgen.progress import Progress, counted, silent
from mgen.sampling.decoding import Decoding
from mgen.sampling.prompts import Prompts, draw_prompts
from mgen.sampling.rollout import sample
from mgen.stats.diversity import vendi_ratio
from mgen.stats.graded import graded, nats, quick_boosting

NOTES = 36  # notes of an excerpt: at this length AUCs of small policies are far from 0.5 and from 1; default
COLD = 0.5  # temperature at which loops are measured too
GREEDY = 64  # prompts that are also continued greedily
PATIENCE = 2  # checks in a row that are worse than the start, after which a run ends


@dataclass(frozen=True)
class Guard:
    """Prompts of a split that is not trained on, and real music of the target style.

    Attributes:
        prompts: prompt type -> prompts.
        real: prompts of the target style with their real continuations.
        known: as `prompts`, from train: real music that a classifier of the style learns from.
        completion_tokens: longest completion.
        dtype: of matrix products in sampling.
        notes: of the excerpts that are compared; shorter completions are left out.
    """

    prompts: Mapping[str, Prompts]
    real: Prompts
    known: Mapping[str, Prompts]
    remi: Remi
    completion_tokens: int
    dtype: torch.dtype | None = None
    notes: int = NOTES

    @classmethod
    def of(
        cls,
        corpus: Corpus,
        target: str,
        pieces: int,
        prompt_tokens: int,
        completion_tokens: int,
        seed: int,
        dtype: torch.dtype | None = None,
        split: str = "valid",
        notes: int = NOTES,
    ) -> Guard:
        """Draws prompts of both types from a split, the same ones at every call.

        Raises:
            MgenError: The split has no music of the target style that is long enough.
        """

        def draw(of: str) -> dict[str, Prompts]:
            drawn = {}
            for prompt_type in ("continuation", "transfer"):
                rng = np.random.default_rng([seed, 4])  # the same for both: real music is that of `continuation`
                try:
                    drawn[prompt_type] = draw_prompts(
                        corpus, of, prompt_type, pieces, prompt_tokens, completion_tokens, target, rng, given=True
                    )
                except MgenError:
                    if prompt_type == "continuation":
                        raise
            return drawn

        drawn = draw(split)
        return cls(drawn, drawn["continuation"], draw("train"), corpus.remi, completion_tokens, dtype, notes)

    def check(self, policy: PreTrainedModel, progress: Progress = silent) -> dict[str, float]:
        """Measures a policy.

        Returns:
            `guard/TYPE/auc`, of real music against completions by `notes` notes, with the ends of its interval
            (`/auc_low`, `/auc_high`); `guard/TYPE/notes`, notes until AUC 0.75; `guard/TYPE/whole`, share of
            completions without broken tokens; `guard/TYPE/loops`, `/cold_loops` and `/greedy_loops`, share of loops at
            temperature 1, at `COLD` and decoded greedily; `guard/TYPE/style`, share that new boosted trees, trained on
            real music of both sides of train, call the target style; `guard/TYPE/variety`, Vendi score over that of
            real music; `guard/evidence`, mean nats of evidence in `notes` notes over the types. A value that cannot be
            measured, for lack of notes or of prompts of other styles, is left out.
        """
        found: dict[str, float] = {}
        evidence = []
        real = self.real.real(self.remi)
        of_style = self._style_classifier()
        for prompt_type, prompts in counted(progress, "prompt types: held-out check", self.prompts.items()):
            notes = self._sampled(policy, prompts, 1.0)
            metre = prompt_type == "continuation"
            lengths = (self.notes // 3, 2 * self.notes // 3, self.notes)
            test = graded(real, notes, self.real.work, prompts.work, lengths=lengths, metre=metre)
            auc, until = test.auc[self.notes], test.until[0.75]
            measured = {
                "auc": auc.value,
                "auc_low": auc.low,
                "auc_high": auc.high,
                "notes": until.value,
                "whole": float((notes.n_broken == 0).mean()),
                "loops": _loops(notes),
                "cold_loops": _loops(self._sampled(policy, prompts, COLD)),
                "greedy_loops": _loops(self._sampled(policy, prompts, 0.0, GREEDY)),
                "style": of_style(notes),
                "variety": vendi_ratio(features(real), features(notes), replicates=1).value,
            }
            found |= {f"guard/{prompt_type}/{name}": value for name, value in measured.items() if np.isfinite(value)}
            if np.isfinite(auc.value):
                evidence.append(nats(auc, test.pieces[self.notes]).value)
        return found | ({"guard/evidence": float(np.mean(evidence))} if evidence else {})

    def _style_classifier(self) -> Callable[[Notes], float]:
        """Share of pieces that are of the target style by trees trained on real music of both sides."""
        if "transfer" not in self.known:
            return lambda notes: float("nan")
        sides = [self.known[kind].real(self.remi) for kind in ("continuation", "transfer")]
        table = np.concatenate([features(side, FORMAT_FREE) for side in sides])
        trees = quick_boosting(0).fit(table, np.arange(len(table)) < sides[0].n_pieces)
        return lambda notes: float(trees.predict(features(notes, FORMAT_FREE)).mean())

    def _sampled(self, policy: PreTrainedModel, prompts: Prompts, temperature: float, most: int | None = None) -> Notes:
        ids = prompts.lists(self.remi)[:most]
        generator = torch.Generator(policy.device).manual_seed(0)
        decoding = Decoding(temperature, max_new_tokens=self.completion_tokens)
        ends = self.remi.eos_id, self.remi.pad_id
        completions = sample(policy, ids, decoding, *ends, generator, dtype=self.dtype).lists()[0]
        return Notes.from_completions(ids, completions, self.remi)


def _loops(notes: Notes) -> float:
    """The loop rate of the pieces with enough notes; NaN without any."""
    rates = loop_rate(notes)
    return float(rates[np.isfinite(rates)].mean()) if np.isfinite(rates).any() else float("nan")


def best_check(checks: Sequence[Mapping[str, float]]) -> int | None:
    """Place of the check with the least evidence, whose weights are kept; None if there is none after the start."""
    evidence = [check.get("guard/evidence", np.inf) for check in checks]
    return evidence.index(min(evidence[1:]), 1) if len(evidence) > 1 else None


def is_best(checks: Sequence[Mapping[str, float]]) -> bool:
    """Whether the last check has the least evidence of all; the first check, of the start, does not count."""
    return best_check(checks) == len(checks) - 1


def only_worse(checks: Sequence[Mapping[str, float]]) -> bool:
    """Whether each AUC of the last `PATIENCE` checks is above the interval of that of the start."""
    ends = {key: value for key, value in (checks[0] if checks else {}).items() if key.endswith("/auc_high")}
    last = checks[1:][-PATIENCE:]
    return (
        bool(ends)
        and len(last) == PATIENCE
        and all(check.get(key.removesuffix("_high"), 0.0) > end for check in last for key, end in ends.items())
    )


def describe(check: Mapping[str, float], notes: int = NOTES) -> str:
    """A check of excerpts of `notes` notes in a few words."""
    parts = []
    for prompt_type in ("continuation", "transfer"):
        known = {key.split("/")[2]: value for key, value in check.items() if key.startswith(f"guard/{prompt_type}/")}
        if "auc" in known:
            parts.append(
                f"{prompt_type} AUC {known['auc']:.2f} [{known['auc_low']:.2f}, {known['auc_high']:.2f}] by {notes} "
                f"notes, {known['whole']:.0%} whole"
                + (f", {known['style']:.0%} of the style" if "style" in known else "")
                + (f", greedy loops {known['greedy_loops']:.0%}" if "greedy_loops" in known else "")
            )
    return "; ".join(parts) or f"not measured: too few completions have {notes} notes"
