"""The protocol: every system completes the same prompts of the test split, and all completions are measured alike.

`run_protocol` in order: the evaluation's judge, the index of the training set, the prompts, and for each prompt type
and system the completions and their metrics. Only completions are measured, never the prompt. The judge is trained on
the works of the split `judge`, which no critic saw, and never gives reward.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from mgen.arrays import Floats
from mgen.corpus.shards import Corpus
from mgen.encoding.remi import Remi
from mgen.evaluation.judge import EvaluationJudge, fit_judge
from mgen.evaluation.measure import Measurements, MetricOptions, PieceSet, measure
from mgen.evaluation.self_reinforcement import RepetitionCurves, repetition_curves
from mgen.music.metrics import METRICS
from mgen.notes import Notes
from mgen.progress import Progress, count, silent
from mgen.sampling.grammar import GrammarMask
from mgen.sampling.prompts import PROMPT_TYPES, Prompts, draw_prompts
from mgen.sampling.rollout import completion_logprobs
from mgen.sampling.samples import SamplePrompt, write_samples
from mgen.sampling.systems import BestOf, Completions, ModelSystem, System
from mgen.stats.frechet import Embedder
from mgen.stats.intervals import Interval, bootstrap
from mgen.stats.memorisation import CopyIndex

REAL = "real"  # name and role of the row of real music
OWN_MUSIC = "the prompts' own music"  # name of that row where the prompts are of other styles
LOOP_TEMPERATURES = {
    "loop_rate_08": 0.8,
    "loop_rate_05": 0.5,
    "loop_rate_greedy": 0.0,
}  # loop rates at other temperatures than 1
_JUDGE_DRAW, _COPY_DRAW, _BAR_DRAW = 100, 101, 102  # their prompts differ from those of the prompt types (0, 1, 2)


@dataclass(frozen=True)
class Protocol:
    """Constants of an evaluation; numbers of two different protocols are not comparable."""

    target: str  # target style
    n: int = 1024  # pieces of each prompt type, over all seeds; a two-sample number is quoted from 512 on
    seeds: int = 1  # number of equal parts of the pieces, each with its own prompts and samples
    n_greedy: int = 64  # number of prompts that are also completed greedily and at lower temperatures
    prompt_tokens: int = 64  # tokens of music
    completion_tokens: int = 192  # tokens of music
    seed: int = 1  # of everything drawn; every system has the same prompts
    sequence: bool = True  # whether the two-sample test has its sequence model
    grammar: bool = False  # whether models sample with the grammar mask

    def draw(self, corpus: Corpus, split: str, prompt_type: str, *use: int, n: int | None = None) -> Prompts:
        """Draws n prompts of a type with the real continuations; another `use` gives others."""
        music = 0 if prompt_type == "unconditional" else self.prompt_tokens
        rng = np.random.default_rng([self.seed, *use])
        return draw_prompts(corpus, split, prompt_type, n or self.n, music, self.completion_tokens, self.target, rng)


@dataclass(frozen=True)
class PromptSet:
    """The prompts of one type, one part for each seed."""

    prompt_type: str
    parts: list[Prompts]

    @classmethod
    def draw(cls, protocol: Protocol, corpus: Corpus, prompt_type: str) -> PromptSet:
        """Draws the protocol's prompts of a type from the test split."""
        sizes = np.bincount(np.arange(protocol.n) % protocol.seeds, minlength=protocol.seeds)
        use = PROMPT_TYPES.index(prompt_type)
        parts = [protocol.draw(corpus, "test", prompt_type, use, s, n=int(n)) for s, n in enumerate(sizes)]
        return cls(prompt_type, parts)

    @property
    def work(self) -> NDArray[np.str_]:
        """(B,) work of each prompt."""
        return np.concatenate([part.work for part in self.parts])

    @property
    def ids(self) -> list[list[int]]:
        """Tokens of B prompts."""
        return [row for part in self.parts for row in part.ids.tolist()]

    def real_output(self, remi: Remi) -> SystemOutput:
        """The real continuations, as if a system had completed the prompts."""
        pieces = PieceSet.of_seeds([part.real(remi) for part in self.parts], [part.work for part in self.parts])
        return SystemOutput(pieces, [row for part in self.parts for row in part.continuations])


@dataclass(frozen=True)
class EvaluatedSystem:
    """A system as a row of the tables."""

    name: str  # as shown
    role: str  # `pretrained`, `tuned`, `low_cost_baseline`, `baseline`, or `reference`, which is shown only
    systems: Sequence[System]  # one, or one for each of several training runs that the seeds cycle through
    remark: str = ""  # for the reader of the tables


@dataclass(frozen=True)
class SystemOutput:
    """A system's completions of the prompts of one type."""

    pieces: PieceSet  # the completions as notes
    completions: list[list[int]]  # B token id lists
    per_piece: dict[str, Floats] = field(default_factory=dict)  # (B,) values that only models have, such as `kl_piece`
    metrics: dict[str, Interval] = field(
        default_factory=dict
    )  # numbers that are no means over pieces: greedy loops, ...


@dataclass(frozen=True)
class Evaluation:
    """All results of a protocol; outputs and measurements have real music first, as `real`."""

    protocol: Protocol  # its constants
    corpus: Corpus  # of the prompts
    systems: Mapping[str, EvaluatedSystem]  # by name, the pretrained model first; real music is not among them
    prompts: Mapping[str, PromptSet]  # prompt type -> prompts
    outputs: Mapping[str, Mapping[str, SystemOutput]]  # name -> prompt type -> completions
    measurements: Mapping[str, Mapping[str, Measurements]]  # name -> prompt type -> metrics
    repetition: RepetitionCurves  # how likely repeated bars are repeated once more
    judge: EvaluationJudge  # of style
    judge_auc: Interval  # its AUC on the test split
    seconds: float  # how long it took

    @property
    def remarks(self) -> dict[str, str]:
        """Remarks on systems and on single numbers."""
        out = {name: system.remark for name, system in self.systems.items() if system.remark}
        for name, by_type in self.measurements.items():
            for prompt_type, part in by_type.items():
                out |= {f"{name}, {prompt_type}, {metric}": remark for metric, remark in part.remarks.items()}
        return out

    def to_json(self) -> dict[str, Any]:
        """The content of metrics.json."""
        manifest = self.corpus.manifest
        return {
            "protocol": {**asdict(self.protocol), "data": self.corpus.fingerprint},
            "judge_auc": self.judge_auc.to_json(),
            "systems": {REAL: REAL, **{name: system.role for name, system in self.systems.items()}},
            "remarks": self.remarks,
            "rows": {
                name: {prompt_type: part.to_json() for prompt_type, part in by_type.items()}
                for name, by_type in self.measurements.items()
            },
            "self_reinforcement": self.repetition.to_json(),
            "corpus": {
                "fingerprint": self.corpus.fingerprint,
                "collections": manifest["collections"],
                "pieces": manifest["pieces"],
            },
            "seconds": round(self.seconds, 1),
        }

    def write_samples(self, folder: Path, count: int) -> None:
        """Writes the completions of the first `count` prompts of each type, by every system."""
        prompts: list[SamplePrompt] = []
        completions: dict[str, list[list[int]]] = {name: [] for name in self.outputs}
        for prompt_type, part in self.prompts.items():
            works = part.work.tolist()
            rows = list(enumerate(part.ids))[:count]
            prompts += [SamplePrompt(f"{prompt_type}/{i:04d}", prompt_type, works[i], ids) for i, ids in rows]
            for name, by_type in self.outputs.items():
                completions[name] += by_type[prompt_type].completions[: len(rows)]
        write_samples(folder, self.protocol.target, prompts, completions, self.corpus.remi)


def run_protocol(
    protocol: Protocol,
    corpus: Corpus,
    systems: Sequence[EvaluatedSystem],
    *,
    prompt_types: Sequence[str] = PROMPT_TYPES,
    embedders: Mapping[str, Embedder] | None = None,
    two_sample: bool = True,
    progress: Progress = silent,
) -> Evaluation:
    """Lets all systems complete the same prompts and measures the completions.

    Args:
        systems: the pretrained model first; `kl_piece` is measured from it.
        prompt_types: some of `PROMPT_TYPES`, `continuation` first: its real music is what `transfer` is compared with.
        embedders: by name, for further Fréchet distances.
        two_sample: whether there is a two-sample test.
        progress: takes a line after each system.
    """
    started = time.monotonic()
    pretrained = systems[0].systems[0]
    reference = pretrained.model if isinstance(pretrained, ModelSystem) else None
    judge, judge_auc = train_judge(corpus, protocol)
    options = MetricOptions(copy_index(corpus, protocol), embedders or {}, protocol.sequence, two_sample)
    prompts = {name: PromptSet.draw(protocol, corpus, name) for name in prompt_types}
    outputs: dict[str, dict[str, SystemOutput]] = {name: {} for name in (REAL, *(system.name for system in systems))}
    measurements: dict[str, dict[str, Measurements]] = {name: {} for name in outputs}
    done, rows = 0, len(prompts) * len(systems)
    for name, part in prompts.items():
        outputs[REAL][name] = part.real_output(corpus.remi)
        # completions of other styles' prompts are compared with the target style, not with their own continuations
        other = name == "transfer"
        target = outputs[REAL]["continuation" if other else name].pieces
        measured = replace(options, metre=not other)
        measurements[REAL][name] = measure_output(outputs[REAL][name], target, judge, measured)
        for system in systems:
            count(progress, "rows", done, rows, f"{name}: {system.name}")
            output = complete_prompts(system, reference, part, corpus.remi, protocol)
            outputs[system.name][name] = output
            measurements[system.name][name] = measure_output(output, target, judge, measured)
            progress(f"{name}: {system.name}, {time.monotonic() - started:.0f} s")
            done += 1
            count(progress, "rows", done, rows)
    by_name = {system.name: system for system in systems}
    plain = {
        name: run.model
        for name, row in by_name.items()
        if isinstance(run := row.systems[0], ModelSystem) and run.is_plain
    }
    repetition = repetition_curves(corpus, plain, protocol.n_greedy, np.random.default_rng([protocol.seed, _BAR_DRAW]))
    seconds = time.monotonic() - started
    return Evaluation(protocol, corpus, by_name, prompts, outputs, measurements, repetition, judge, judge_auc, seconds)


def train_judge(corpus: Corpus, protocol: Protocol) -> tuple[EvaluationJudge, Interval]:
    """Trains the evaluation's judge; returns it with its AUC on the test split."""
    parts = []
    for split in ("judge", "test"):
        target, other = (protocol.draw(corpus, split, name, _JUDGE_DRAW) for name in ("continuation", "transfer"))
        parts.append((target.real(corpus.remi), other.real(corpus.remi), target.work, other.work))
    judge = fit_judge(*parts[0], style=protocol.target, seed=protocol.seed)
    return judge, judge.auc(*parts[1])


def copy_index(corpus: Corpus, protocol: Protocol) -> CopyIndex:
    """Indexes the training set for `copy_rate`; its threshold is measured on real music of the split `valid`."""
    remi = corpus.remi
    table = corpus.table("train")
    train = Notes.from_ids([table[i] for i in range(len(table))], remi)
    types = ("continuation", "transfer")
    held_out = [protocol.draw(corpus, "valid", name, _COPY_DRAW).real(remi) for name in types]
    return CopyIndex.of(train, Notes.concat(held_out))


def complete_prompts(
    system: EvaluatedSystem, reference: PreTrainedModel | None, prompts: PromptSet, remi: Remi, protocol: Protocol
) -> SystemOutput:
    """Lets a system complete the prompts at temperature 1, and some of them at lower temperatures.

    Args:
        reference: that `kl_piece` is measured from; None leaves it out.
    """
    completions: list[Completions] = []
    kl: list[float] = []  # log p_system - log p_reference of each completion, in nats; the mean estimates the KL
    for s, part in enumerate(prompts.parts):
        # the same seed for every system: only the systems differ
        run = system.systems[s % len(system.systems)]
        drawn = run.complete(part, protocol.completion_tokens, seed=1000 * protocol.seed + s)
        completions.append(drawn)
        if reference is not None and drawn.logprobs is not None:
            masked = isinstance(run, ModelSystem) and run.grammar  # then the reference is sampled under the mask too
            grammar = GrammarMask(remi, reference.device) if masked else None
            under_reference = logprobs_of(reference, part.ids.tolist(), drawn.token_ids, remi, grammar)
            kl += [sum(own) - row.sum() for own, row in zip(drawn.logprobs, under_reference, strict=True)]
    notes = [
        Notes.from_completions(part.ids.tolist(), drawn.token_ids, remi)
        for part, drawn in zip(prompts.parts, completions, strict=True)
    ]
    pieces = PieceSet.of_seeds(notes, [part.work for part in prompts.parts], len(system.systems))
    per_piece = {"kl_piece": np.array(kl)} if kl and len(kl) == len(pieces.work) else {}
    metrics: dict[str, Interval] = {}
    first = system.systems[0]
    if isinstance(first, ModelSystem):
        metrics |= loop_rates(first, prompts.parts[0], remi, protocol)
        if first.is_plain and prompts.prompt_type == "continuation":
            metrics["nll_note"] = nll_note(first.model, prompts, remi)
    if isinstance(first, BestOf):
        metrics["kl_bound"] = Interval(first.kl_bound, first.kl_bound, first.kl_bound)
    return SystemOutput(pieces, [row for drawn in completions for row in drawn.token_ids], per_piece, metrics)


def logprobs_of(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    remi: Remi,
    grammar: GrammarMask | None = None,
) -> list[Floats]:
    """Log-probabilities, in nats, of each token of B completions under a model; prompts have one length.

    Args:
        grammar: only tokens that it allows count.
    """
    longest = max(map(len, completions))
    rows = [[*p, *c, *[remi.pad_id] * (longest - len(c))] for p, c in zip(prompts, completions, strict=True)]
    # no attention mask: with causal attention no token attends to padding on its right
    ids = torch.tensor(rows, device=model.device)
    logprobs = completion_logprobs(model, ids, longest, grammar=grammar).double().cpu().numpy()
    return [row[: len(c)] for row, c in zip(logprobs, completions, strict=True)]


def nll_note(model: PreTrainedModel, prompts: PromptSet, remi: Remi) -> Interval:
    """Negative log-likelihood of the real continuations, in nats per note; comparable across encodings."""
    nats, notes = [], []
    for part in prompts.parts:
        nats += [-row.sum() for row in logprobs_of(model, part.ids.tolist(), part.continuations, remi)]
        notes += part.real(remi).counts.tolist()
    count = np.array(notes, np.float64)
    return bootstrap(nats, prompts.work, lambda values, weights: (weights @ values) / (weights @ count))


def loop_rates(system: ModelSystem, prompts: Prompts, remi: Remi, protocol: Protocol) -> dict[str, Interval]:
    """Loop rates at `LOOP_TEMPERATURES`, on `n_greedy` of the prompts."""
    if not protocol.n_greedy:
        return {}
    rows = np.linspace(0, len(prompts.ids) - 1, min(protocol.n_greedy, len(prompts.ids))).astype(int)
    some = replace(prompts, ids=prompts.ids[rows], windows=prompts.windows[rows], work=prompts.work[rows])
    rates = {}
    for name, temperature in LOOP_TEMPERATURES.items():
        cooler = replace(system, decoding=replace(system.decoding, temperature=temperature))
        drawn = cooler.complete(some, protocol.completion_tokens, seed=1000 * protocol.seed)
        notes = Notes.from_completions(some.ids.tolist(), drawn.token_ids, remi)
        rates[name] = bootstrap(METRICS["loop_rate"](notes), some.work)
    return rates


def measure_output(
    output: SystemOutput, target: PieceSet, judge: EvaluationJudge, options: MetricOptions
) -> Measurements:
    """Computes all numbers of a system for one prompt type.

    Args:
        target: real music of the target style, in excerpts as long.
    """
    verdicts = (judge.probability(output.pieces.notes) > 0.5).astype(float)
    found = measure(output.pieces, target, options, {f"judge_{judge.style}": verdicts, **output.per_piece})
    return Measurements({**found.metrics, **output.metrics}, found.per_piece, found.remarks)
