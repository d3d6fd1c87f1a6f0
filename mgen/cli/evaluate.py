"""Judge models against real music, and write the report.

    mgen evaluate --model pretrained=runs/base/model jazz=runs/jazz/model --corpus corpus --out runs/evaluation

Every model continues the same prompts of the test split. Its judge is trained on works that no critic saw.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel

from mgen.cli.options import parse
from mgen.cli.report import write_report
from mgen.corpus.shards import Corpus
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.evaluation.features import features
from mgen.evaluation.intervals import Interval, bootstrap
from mgen.evaluation.judge import Judge, fit_judge
from mgen.evaluation.metrics import METRICS
from mgen.evaluation.two_sample import c2st_auc
from mgen.models.transformer import check_vocabulary, load_policy
from mgen.notes import Notes
from mgen.rl.prompts import KINDS, Prompts, draw_prompts
from mgen.rl.rollout import Decoding, Rollout, sample
from mgen.rl.trainer import decode_completions

SHOWN = ("H1", "rep4", "interval_rep8", "GS", "swing", "triplet_share", "polyphony", "density")
"""Per-piece metrics that are reported as means, beside real music's."""


@dataclass
class EvaluateConfig:
    """Options of `mgen evaluate`."""

    model: list[str] = field(
        default_factory=list, metadata={"help": "Model folders, as NAME=FOLDER or FOLDER; KL is measured from the first."}
    )
    corpus: str = field(default="", metadata={"help": "Folder written by mgen prepare."})
    out: str = field(default="", metadata={"help": "Folder for metrics.json and report.html; must be new or empty."})
    n: int = field(default=512, metadata={"help": "Pieces of each kind of prompt; below 512 no two-sample number should be quoted."})
    n_greedy: int = field(default=64, metadata={"help": "Pieces decoded greedily, for the loop rate."})
    kinds: list[str] = field(default_factory=lambda: list(KINDS), metadata={"help": "Kinds of prompt: continue, turn, nothing."})
    target: str = field(default="jazz", metadata={"help": "Style that is asked for."})
    prompt_tokens: int = field(default=64, metadata={"help": "Tokens of music in a prompt."})
    completion_tokens: int = field(default=192, metadata={"help": "Tokens of a completion, real or sampled."})
    seed: int = field(default=1, metadata={"help": "Of prompts and samples."})
    examples: int = field(default=3, metadata={"help": "Prompts of each kind shown in the report."})
    json: bool = field(default=False, metadata={"help": "Print the numbers as one JSON object and nothing else."})

    def __post_init__(self) -> None:
        for name in ("model", "corpus", "out"):
            if not getattr(self, name):
                raise ValueError(f"expected --{name}, got none; see --help")
        if self.n < 32:
            raise ValueError(f"n ({self.n}) must be at least 32; the protocol's is 512")
        self.n_greedy = min(self.n_greedy, self.n)


@dataclass(frozen=True)
class Sampled:
    """What one model, or real music, made of one kind of prompt."""

    notes: Notes
    work: NDArray[np.str_]
    kl: NDArray[np.float64] | None = None  # (B,) log p_model - log p_first, in nats, of the model's own samples
    greedy: Notes | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate; returns the exit code."""
    (config,) = parse(
        argv,
        EvaluateConfig,
        program="mgen evaluate",
        example="mgen evaluate --model pretrained=runs/base/model jazz=runs/jazz/model --corpus corpus --out runs/evaluation",
    )
    out = Path(config.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MgenError(f"{out}: not empty; choose another --out")
    began = time.monotonic()
    corpus = Corpus.open(config.corpus)
    models = _load(config, corpus)
    judge = train_judge(corpus, config)
    rng = np.random.default_rng(config.seed)
    prompts = {
        kind: draw_prompts(
            corpus,
            "test",
            kind,
            config.n,
            0 if kind == "nothing" else config.prompt_tokens,
            config.completion_tokens,
            config.target,
            rng,
        )
        for kind in config.kinds
    }
    sampled: dict[str, dict[str, Sampled]] = {"real": {}}
    for kind, asked in prompts.items():
        sampled["real"][kind] = Sampled(asked.real(corpus.remi), asked.work)
    reference = next(iter(models.values()))
    for name, model in models.items():
        sampled[name] = {kind: _play(model, reference, asked, corpus.remi, config) for kind, asked in prompts.items()}
    target = real_target(corpus, config, rng)
    numbers = {name: {kind: _numbers(part, kind, name, target, judge) for kind, part in by_kind.items()} for name, by_kind in sampled.items()}
    result = {
        "protocol": {
            "n": config.n,
            "prompt_tokens": config.prompt_tokens,
            "completion_tokens": config.completion_tokens,
            "target": config.target,
            "seed": config.seed,
            "data": corpus.fingerprint,
        },
        "judge": {"auc_test": judge_auc(judge, corpus, config).to_json()},
        "rows": {name: {kind: {key: value.to_json() for key, value in row.items()} for kind, row in by_kind.items()} for name, by_kind in numbers.items()},
        "seconds": round(time.monotonic() - began, 1),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(result, indent=1))
    write_report(out / "report.html", numbers, sampled, prompts, corpus, config, result, judge)
    if config.json:
        print(json.dumps(result))
    else:
        print_table(numbers)
        print(f"{out / 'report.html'}  ({time.monotonic() - began:.0f} s)")
    return 0


def _load(config: EvaluateConfig, corpus: Corpus) -> dict[str, PreTrainedModel]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    models: dict[str, PreTrainedModel] = {}
    for word in config.model:
        name, equals, folder = word.partition("=")
        if not equals:
            path = Path(word)
            name, folder = (path.parent.name if path.name == "model" else path.name), word
        if name in models or name == "real":
            raise MgenError(f"--model {word}: the name '{name}' is taken; give NAME=FOLDER")
        model, remi = load_policy(folder)
        check_vocabulary(folder, remi, config.corpus, corpus.remi)
        models[name] = model.to(device)
    return models


def train_judge(corpus: Corpus, config: EvaluateConfig) -> Judge:
    """The evaluation's own judge, from the works of the split `judge`, which no critic saw."""
    rng = np.random.default_rng(config.seed + 1000)
    (target, target_work), (other, other_work) = _both(corpus, "judge", config, rng)
    return fit_judge(target, other, target_work, other_work, seed=config.seed)


def judge_auc(judge: Judge, corpus: Corpus, config: EvaluateConfig) -> Interval:
    """AUC of the judge on the test split."""
    rng = np.random.default_rng(config.seed + 2000)
    (target, target_work), (other, other_work) = _both(corpus, "test", config, rng)
    return judge.auc(target, other, target_work, other_work)


def _both(
    corpus: Corpus, split: str, config: EvaluateConfig, rng: np.random.Generator
) -> tuple[tuple[Notes, NDArray[np.str_]], tuple[Notes, NDArray[np.str_]]]:
    """Real music of the target style, and of the others, as n excerpts each with their works."""
    drawn = [
        draw_prompts(
            corpus, split, kind, config.n, config.prompt_tokens, config.completion_tokens, config.target, rng
        )
        for kind in ("continue", "turn")
    ]
    first, second = ((prompts.real(corpus.remi), prompts.work) for prompts in drawn)
    return first, second


def real_target(corpus: Corpus, config: EvaluateConfig, rng: np.random.Generator) -> Sampled:
    """Real music of the target style: what every kind of completion is compared with."""
    prompts = draw_prompts(
        corpus, "test", "continue", config.n, config.prompt_tokens, config.completion_tokens, config.target, rng
    )
    return Sampled(prompts.real(corpus.remi), prompts.work)


def _play(
    model: PreTrainedModel, reference: PreTrainedModel, prompts: Prompts, remi: Remi, config: EvaluateConfig
) -> Sampled:
    ids = [row.tolist() for row in prompts.ids]
    # The same seed for every model: what differs is the model.
    generator = torch.Generator(model.device).manual_seed(config.seed)
    free = sample(model, ids, Decoding(max_new_tokens=config.completion_tokens), remi.eos_id, remi.pad_id, generator)
    greedy_ids = ids[:: max(len(ids) // config.n_greedy, 1)][: config.n_greedy]
    greedy = sample(
        model, greedy_ids, Decoding(temperature=0, max_new_tokens=config.completion_tokens), remi.eos_id, remi.pad_id
    )
    return Sampled(
        decode_completions(ids, free.lists()[0], remi),
        prompts.work,
        piece_kl(model, reference, prompts.ids, free),
        decode_completions(greedy_ids, greedy.lists()[0], remi),
    )


@torch.no_grad()
def piece_kl(
    model: PreTrainedModel, reference: PreTrainedModel, prompts: NDArray[np.int64], rollout: Rollout, batch: int = 64
) -> NDArray[np.float64]:
    """(B,) log p_model - log p_reference of the model's own completions, in nats; its mean estimates KL per piece."""
    if model is reference:
        return np.zeros(len(prompts))
    out = []
    for begin in range(0, len(prompts), batch):
        rows = slice(begin, begin + batch)
        completion = rollout.token_ids[rows]
        ids = torch.cat([torch.from_numpy(prompts[rows]).to(completion.device), completion], dim=1)
        logits = reference(input_ids=ids, logits_to_keep=completion.shape[1] + 1).logits[:, :-1].float()
        logps = logits.log_softmax(-1).gather(-1, completion[..., None])[..., 0]
        out.append(((rollout.logprobs[rows] - logps) * rollout.mask[rows]).sum(1).double().cpu().numpy())
    return np.concatenate(out)


def _numbers(part: Sampled, kind: str, name: str, target: Sampled, judge: Judge) -> dict[str, Interval]:
    """Every number of a row, for one kind of prompt."""
    notes, work = part.notes, part.work
    row = {
        key: bootstrap(values, work)
        for key, values in {
            "valid": (notes.n_broken == 0).astype(float),
            "broken_tokens": notes.n_broken / np.maximum(notes.n_tokens, 1),
            "loop_rate": METRICS["rep4"](notes) > 0.6,
            f"judge_{judge.name}": judge.probability(notes) > 0.5,
            **{key: METRICS[key](notes) for key in SHOWN},
        }.items()
    }
    if part.greedy is not None:
        greedy = METRICS["rep4"](part.greedy) > 0.6
        row["loop_rate_greedy"] = bootstrap(greedy, np.arange(len(greedy)).astype(str))
    if part.kl is not None:
        row["kl_piece"] = bootstrap(part.kl, work)
    if name == "real" and kind != "turn":
        row["c2st_auc"] = halves(target)
    else:
        row["c2st_auc"] = c2st_auc(features(target.notes), features(notes), target.work, work)
    return row


def halves(real: Sampled, seed: int = 0) -> Interval:
    """The two-sample test between two halves of the works of real music: what no difference looks like."""
    works = np.unique(real.work)
    first = np.isin(real.work, np.random.default_rng(seed).permutation(works)[: len(works) // 2])
    table = features(real.notes)
    return c2st_auc(table[first], table[~first], real.work[first], real.work[~first])


def print_table(numbers: dict[str, dict[str, dict[str, Interval]]]) -> None:
    """One table for each kind of prompt."""
    console = Console()
    for kind in next(iter(numbers.values())):
        rows = {name: by_kind[kind] for name, by_kind in numbers.items()}
        keys = list(dict.fromkeys(key for row in rows.values() for key in row))
        table = Table(title=f"prompts: {kind}", title_justify="left")
        table.add_column("")
        for name in rows:
            table.add_column(name, justify="right")
        for key in keys:
            cells = (row.get(key) for row in rows.values())
            table.add_row(key, *(f"{cell.value:.3f} [{cell.low:.3f}, {cell.high:.3f}]" if cell else "-" for cell in cells))
        console.print(table)


def facts_of(model_folder: Path) -> dict[str, Any]:
    """run.json of the run that made a model; empty if there is none."""
    path = model_folder.parent / "run.json"
    return json.loads(path.read_text()) if path.is_file() else {}
