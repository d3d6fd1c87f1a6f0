"""A policy that writes a bass to drums, measured as the networks of `mgen baseline drum-bass` are.

    mgen baseline bass-policy --policy runs/bass/model --corpus corpus --out runs/bass_test

Nothing is trained: the policy comes from `mgen pretrain` or `mgen finetune` on a corpus of `mgen pairs`. With
`--reference` the KL divergence from another policy is measured too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState

from mgen.corpus.pairs import Pairs, PairSet
from mgen.corpus.shards import Corpus
from mgen.errors import MgenError
from mgen.files import write_atomically
from mgen.models.transformer import check_vocabulary, load_policy
from mgen.options import check_required, from_keywords, option
from mgen.progress import Progress
from mgen.rl.batch import collate, token_logprobs
from mgen.runs.interruptions import resumable
from mgen.runs.run import Run, TrainingResult, on_main_process
from mgen.sampling.bass_policy import BassPolicy
from mgen.stats.intervals import Interval, bootstrap
from mgen.workflows.baseline_drum_bass import read_splits
from mgen.workflows.baseline_drum_bass_results import systems, table

SPLITS = ("train", "test")
ROWS_AT_ONCE = 64


@dataclass
class BassPolicyOptions:
    """Options of `mgen baseline bass-policy`."""

    policy: str = option("", "Folder of a policy trained on a corpus of mgen pairs.")
    corpus: str = option("", "Folder written by mgen prepare with configs/prepare/band.yaml.")
    out: str = option("", "Run folder; the policy is copied to OUT/model.")
    reference: str = option("", "Folder of the policy that KL is measured from; empty: none is measured.")
    steps: int = option(64, "16th notes of a window, as in the corpus of pairs.", least=32, most=64)
    least_hits: int = option(8, "Windows with fewer drum hits are left out.", least=1)
    least_notes: int = option(4, "Windows with fewer bass notes are left out.", least=1)
    samples: int = option(4, "Lines for each drum part of test, for diversity.", least=2, most=64)
    temperature: float = option(1.0, "Of these lines; 0 is the likeliest line.", least=0)
    seed: int = option(42, "Of all draws.", least=0, most=2**32 - 1)

    def __post_init__(self) -> None:
        check_required(self, "policy", "corpus", "out")


def measure_bass_policy(
    policy: Path | str, corpus: Path | str, out: Path | str, *, progress: Progress | None = None, **options: Any
) -> TrainingResult:
    """Measures a policy on the test split.

    Args:
        policy: folder of the policy.
        corpus: folder written by `mgen prepare` with the recipe `band`.
        out: run folder.
        progress: takes lines about the progress.
        options: other options of `BassPolicyOptions`.

    Returns:
        Metrics of the policy on test, see `mgen.stats.bass_metrics.METRICS`, and `kl` if there is a reference.

    Raises:
        MgenError: An option does not exist or is out of range, the policy has no programs, the corpus has no such
            music, or `out` has another run.
    """
    options |= {"policy": str(policy), "corpus": str(corpus), "out": str(out)}
    return run_bass_policy(from_keywords(BassPolicyOptions, "measure_bass_policy", options), progress)


@resumable
def run_bass_policy(config: BassPolicyOptions, progress: Progress | None = None) -> TrainingResult:
    """As `measure_bass_policy`, for options that are a `BassPolicyOptions` already."""
    progress = on_main_process(progress)
    corpus = Corpus.open(config.corpus)
    writer = load_bass_policy(config.policy, config.steps)
    pairs, counts = read_splits(corpus, SPLITS, (config.steps, config.least_hits, config.least_notes), progress)
    run = Run.open(config.out, "baseline bass-policy", asdict(config), seed=config.seed, data=corpus.fingerprint)
    if run.finished:
        return run.result(run.fact("metrics"), already_finished=True)
    drawn = config.samples, config.temperature, config.seed
    scores = systems("policy", writer, pairs["train"], pairs["test"], *drawn)
    if config.reference:
        reference, remi = load_policy(config.reference)
        check_vocabulary(config.policy, writer.remi, config.reference, remi)
        scores["policy"]["kl"] = kl_of(writer, reference.to(writer.device), pairs["test"], config.seed)
    facts = {
        "steps": 0,
        "window_steps": config.steps,
        "windows": counts,
        "works": {split: len(set(of.work.tolist())) for split, of in pairs.items()},
        "test": {system: {name: of.to_json() for name, of in found.items()} for system, found in scores.items()},
        "metrics": {name: of.value for name, of in scores["policy"].items() if of.value == of.value},
    }
    if PartialState().is_main_process:
        write_atomically(run.folder / "table.md", table(scores, facts))
    run.save_model(writer.policy, writer.remi)
    run.finish(**facts)
    return run.result(run.fact("metrics"))


def load_bass_policy(folder: Path | str, steps: int) -> BassPolicy:
    """Loads a policy as a writer of bass lines."""
    policy, remi = load_policy(folder)
    if not remi.multi:
        raise MgenError(f"{folder}: its vocabulary has no programs; train a policy on a corpus of mgen pairs")
    return BassPolicy(policy.to("cuda" if torch.cuda.is_available() else "cpu"), remi, steps)


@torch.no_grad()
def kl_of(writer: BassPolicy, reference: Any, pairs: Pairs, seed: int) -> Interval:
    """KL divergence of the policy from a reference, in nats per line, of one sample for each drum part.

    Both among the tokens that the grammar allows.
    """
    batch = PairSet(pairs).__getitems__(range(len(pairs)))
    found = []
    with torch.random.fork_rng(enabled=True):
        torch.manual_seed(seed)
        for drums in torch.split(batch["drums"], ROWS_AT_ONCE):
            prompts, completions = writer.complete(drums)
            one = torch.ones(len(prompts))
            read = collate(prompts, completions, one, 1, writer.remi.pad_id, writer.device, writer.grammar)
            rows = torch.arange(len(prompts), device=writer.device)
            both = [token_logprobs(model, read, rows).sum(1) for model in (writer.policy, reference)]
            found.append((both[0] - both[1]).cpu().numpy())
    return bootstrap(np.concatenate(found).astype(np.float64), pairs.work)
