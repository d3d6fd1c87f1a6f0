"""Next-token training of a policy on a corpus.

With `init` and `style` a pretrained policy is trained further on one style alone: the low-cost baseline of
reinforcement learning.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import parse_flag_from_env
from transformers import EarlyStoppingCallback, PreTrainedModel, TrainingArguments, set_seed

from mgen.corpus.repetition import ItemShare, PseudoRepetitions
from mgen.corpus.shards import Corpus
from mgen.corpus.windows import Windows
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.models.lstm import NORMALISATIONS, LstmForCausalLM, lstm_config
from mgen.models.transformer import SIZES, initial_policy, new_policy
from mgen.options import as_dict, check_required, from_keywords, option
from mgen.progress import Progress
from mgen.runs.checkpoints import check_saving
from mgen.runs.interruptions import resumable
from mgen.runs.run import Run, TrainingResult, on_main_process
from mgen.runs.sample_callback import fixed_prompts
from mgen.runs.tracking import SampleOptions, attach_samples, check_tracking
from mgen.sampling.grammar import GrammarMask
from mgen.sampling.prompts import check_style
from mgen.speed import SpeedOptions
from mgen.training.muon import MuonAdamW
from mgen.training.penalties import GrammarPenalty, Penalty
from mgen.training.pretrain import PretrainTrainer
from mgen.training.repetition import CopyPenalty, OwnPenalty
from mgen.training.streaming import StreamedWindows, evaluation_table

OPTIMIZERS = {name: "adamw_torch_fused" for name in ("adamw", "adam", "muon")} | {"rmsprop": "rmsprop"}
LSTM_SHAPE = ("layers", "width", "normalisation", "residual")


@dataclass
class PretrainConfig(SpeedOptions, SampleOptions, TrainingArguments):  # type: ignore[misc]
    """Options of `mgen pretrain`: those of `transformers.TrainingArguments`, with other defaults, and these."""

    corpus: str = option("", "Folder written by mgen prepare.")
    out: str = option("", "Run folder; the model goes to OUT/model.")
    init: str = option("", "Model folder of a policy to continue from; it determines architecture, size and dropout.")
    style: str = option("", "Train and evaluate on the pieces of this style alone.")
    architecture: str = option(
        "llama",
        "llama, a Transformer, or lstm, recurrent layers with equally many parameters.",
        words=("llama", "lstm"),
    )
    size: str = option("tiny", "tiny (1 M), mini (3 M), small (24 M) or base (82 M).", words=tuple(SIZES))
    layers: int = option(0, "lstm: layers; 0: those of size.", least=0)
    width: int = option(0, "lstm: width of embedding and layers; 0: that of size.", least=0)
    normalisation: str = option("layer", "lstm: normalisation before each layer.", words=NORMALISATIONS)
    residual: bool = option(True, "lstm: each layer adds to what it reads.")
    context: int = option(512, "Longest sequence, in tokens.", least=8)
    optimizer: str = option(
        "adamw",
        "adamw, adam (no weight decay), rmsprop, or muon for the matrices of the layers with adamw for other weights.",
        words=tuple(OPTIMIZERS),
    )
    dropout: float = option(0.0, "Dropout: llama on attention weights, lstm between layers.", least=0, below=1)
    grammar_weight: float = option(
        0.0, "Weight of -log P(allowed tokens), next to 1 for the next-token loss: fewer broken pieces.", least=0
    )
    repetition: str = option(
        "none",
        "Training against loops, on a share of the sequences. copies (DITTO): their bars are repeated to the end, and "
        "each copy is to be less likely than the one before. own (unlikelihood): they end with the policy's own greedy "
        "completion, whose repeated pitch 4-grams are to be unlikely.",
        words=("none", "copies", "own"),
    )
    repetition_share: float = option(0.125, "Share of these sequences.", above=0, most=1)
    repetition_from: float = option(0.5, "Share of the steps before the first of them.", least=0, below=1)
    repetition_weight: float = option(4.0, "Weight of a penalised pitch, next to 1 for a token of real music.", least=0)
    repetition_free: int = option(
        4,
        "Copies, or occurrences of a 4-gram, without penalty, as real music has: 4, or 2 for copies.",
        least=1,
    )
    repetition_ratio: float = option(
        0.5, "copies: aim for the probability of a pitch, over that in the copy before.", least=0, most=1
    )
    repetition_bars: int = option(2, "copies: most bars repeated together.", least=1)
    transpose: bool = option(True, "Transpose training sequences to all twelve keys.")
    style_dropout: float = option(0.1, "Share of sequences without their style token.", least=0, most=1)
    streaming: bool = option(False, "Read train from disk during training: for a corpus that does not fit into memory.")
    patience: int = option(0, "Stop after this many evaluations without improvement; 0 for never.", least=0)
    valid_windows: int = option(256, "Most windows in an evaluation.", least=1)
    max_steps: int = option(1000, "Optimizer steps.")
    learning_rate: float = option(1e-3, "Highest learning rate.")
    lr_scheduler_type: str = option("cosine", "As in transformers.")
    warmup_steps: float = option(0.03, "Steps, or a share of all steps if below 1.")
    weight_decay: float = option(0.1, "Weight decay of adamw and muon, on all weights but those of norms and biases.")
    ema: float = option(
        0.0,
        "Decay of a moving average of the weights, such as 0.99: it is evaluated, sampled and saved; 0: none.",
        least=0,
        below=1,
    )
    adam_beta2: float = option(0.95, "Beta 2 of adamw and adam, and of the weights that muon leaves to adamw.")
    per_device_train_batch_size: int = option(16, "Sequences per step and device.")
    per_device_eval_batch_size: int = option(32, "Sequences per step of evaluation.")
    eval_strategy: str = option("steps", "As in transformers.")
    eval_steps: float = option(200, "Steps between evaluations, and between checkpoints.")
    save_total_limit: int = option(2, "Checkpoints kept; at least 2, so that one is always complete.")
    load_best_model_at_end: bool = option(True, "Keep the weights with the lowest valid loss.")
    logging_steps: float = option(20, "Steps between log lines.")

    def __post_init__(self) -> None:
        check_required(self, "corpus", "out")
        if self.architecture == "llama":
            known = {field.name: field.default for field in dataclasses.fields(self)}
            given = [name for name in LSTM_SHAPE if getattr(self, name) != known[name]]
            if given:
                raise ValueError(f"{given[0]} is an option of architecture lstm; leave it out, or choose --size")
        if self.streaming and self.style:
            raise ValueError(f"style '{self.style}' cannot be streamed; leave out style or streaming")
        if self.streaming and self.auto_find_batch_size:
            raise ValueError("streaming needs a fixed batch size, and auto_find_batch_size changes it; switch one off")
        check_saving(self)
        check_tracking(self)
        self.output_dir = f"{self.out}/checkpoints"
        self.optim = OPTIMIZERS[self.optimizer]
        if self.optimizer == "adam":
            self.weight_decay = 0.0
        self.set_precision()
        self.save_strategy = self.eval_strategy
        self.save_steps = self.eval_steps
        self.metric_for_best_model, self.greater_is_better = "loss", False
        self.remove_unused_columns = False
        self.restore_callback_states_from_checkpoint = True  # evaluations without improvement, for `patience`
        super().__post_init__()
        split = [name for name in ("fsdp", "deepspeed") if parse_flag_from_env(f"ACCELERATE_USE_{name.upper()}")]
        if self.optimizer == "muon" and (split or self.fsdp or self.deepspeed):
            raise ValueError(
                f"optimizer muon needs whole matrices in each process, not {' '.join(split) or 'parts'}; use adamw"
            )


def pretrain(
    corpus: Path | str, out: Path | str, *, progress: Progress | None = None, **options: Any
) -> TrainingResult:
    """Trains a policy on a corpus by next-token prediction.

    The same call again resumes an interrupted run, and returns the result of a finished one.

    Args:
        corpus: folder written by `mgen prepare`.
        out: run folder; the model goes to `out`/model.
        progress: takes lines about the progress.
        options: other options of `PretrainConfig`.

    Returns:
        Metrics `nats_per_token` and `nats_per_note` on valid, and `epochs`.

    Raises:
        MgenError: An option does not exist or is out of range, the corpus has no such music, or `out` has another run.
    """
    options |= {"corpus": str(corpus), "out": str(out)}
    return run_pretrain(from_keywords(PretrainConfig, "pretrain", options), progress)


@resumable
def run_pretrain(config: PretrainConfig, progress: Progress | None = None) -> TrainingResult:
    """As `pretrain`, for options that are a `PretrainConfig` already."""
    corpus = Corpus.open(config.corpus)
    if config.style:
        check_style(config.style, corpus.remi)
    initial = initial_policy(config.init, config.corpus, corpus.remi, config.context) if config.init else None
    run = Run.open(config.out, "pretrain", as_dict(config), seed=config.seed, data=corpus.fingerprint)
    if run.finished:
        return _result(run, already_finished=True)
    batch = config.train_batch_size * config.gradient_accumulation_steps * config.world_size
    length = config.max_steps * batch
    train = _train_windows(corpus, config, length)
    valid = _valid_windows(corpus, config)
    if not train.epoch_length or not valid.epoch_length:
        of_style = f" of style '{config.style}'" if config.style else ""
        raise MgenError(f"{config.corpus}: no pieces{of_style} in train or valid; add music and prepare again")
    set_seed(config.seed)
    policy = initial or _new_policy(config, corpus.remi)
    progress = on_main_process(progress)
    work = 6.0 * policy.num_parameters() * config.max_steps * batch * config.context
    speed = config.chosen_speed(work)
    run.record_speed(speed, progress)
    callbacks = [EarlyStoppingCallback(config.patience)] if config.patience else []
    options: dict[str, Any] = {"penalties": _penalties(config, corpus.remi, length), "callbacks": callbacks}
    options |= {"optimizers": (_muon(policy, config) if config.optimizer == "muon" else None, None)}
    options |= {"speed": speed, "progress": progress}
    trainer = PretrainTrainer(policy, config, corpus.remi, train, valid, config.ema, **options)
    run.follow(trainer, progress)
    types = [("continuation", name) for name in corpus.remi.style_ids if config.style in ("", name)]
    prompts = fixed_prompts(corpus, types, config.sample_prompts, min(64, config.context // 4), config.seed)
    attach_samples(trainer, config, run.folder, run.clip_loggers, corpus.remi, prompts, False, progress)
    trainer.train(resume_from_checkpoint=run.last_checkpoint())
    final = trainer.evaluate()
    divided = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if divided else None  # by all processes
    run.save_model(trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False), corpus.remi, weights)
    run.finish(
        parameters=policy.num_parameters(),
        epochs=round(trainer.state.global_step * batch / train.epoch_length, 2),
        steps=trainer.state.global_step,
        tokens=trainer.state.global_step * batch * config.context,
        nats_per_token=final["eval_loss"],
        nats_per_note=final["eval_nats_per_note"],
        uniform_nats_per_token=math.log(corpus.remi.vocab_size),
    )
    return _result(run)


def _result(run: Run, already_finished: bool = False) -> TrainingResult:
    metrics = {name: run.fact(name) for name in ("nats_per_token", "nats_per_note", "epochs")}
    return run.result(metrics, already_finished)


def _new_policy(config: PretrainConfig, remi: Remi) -> PreTrainedModel:
    if config.architecture == "llama":
        return new_policy(config.size, remi, config.context, config.dropout)
    counts = {"num_hidden_layers": config.layers, "hidden_size": config.width}
    changes: dict[str, Any] = {name: count for name, count in counts.items() if count}
    changes |= {name: getattr(config, name) for name in ("dropout", "normalisation", "residual")}
    return LstmForCausalLM(lstm_config(config.size, remi, config.context, **changes))


def _muon(policy: PreTrainedModel, config: PretrainConfig) -> MuonAdamW:
    betas = config.adam_beta1, config.adam_beta2
    return MuonAdamW(policy, config.learning_rate, config.weight_decay, betas)


def _train_windows(corpus: Corpus, config: PretrainConfig, length: int) -> Windows | StreamedWindows:
    options: dict[str, Any] = {name: getattr(config, name) for name in ("seed", "transpose", "style_dropout")}
    options |= {"length": length}
    if config.repetition == "copies":
        begin = _first_penalised(config, length)
        options["repetitions"] = PseudoRepetitions(config.repetition_share, begin, bars=config.repetition_bars)
    if not config.streaming:
        return Windows(corpus.table("train", config.style or None), corpus.remi, config.context, **options)
    options |= {"batch": config.train_batch_size, "rank": config.process_index, "ranks": config.world_size}
    return StreamedWindows(corpus, config.context, **options)


def _penalties(config: PretrainConfig, remi: Remi, length: int) -> list[Penalty]:
    penalties: list[Penalty] = []
    weight, free = config.repetition_weight, config.repetition_free
    if config.repetition == "copies":
        penalties.append(CopyPenalty(weight, remi, free, config.repetition_ratio))
    if config.repetition == "own":  # complete batches, because sampling a row takes almost as long as sampling a batch
        items = ItemShare(config.repetition_share, _first_penalised(config, length), config.train_batch_size)
        prompt, new = config.context // 4, config.context // 2
        penalties.append(OwnPenalty(weight, remi, free, items, prompt, new))
    if config.grammar_weight:
        penalties.append(GrammarPenalty(config.grammar_weight, GrammarMask(remi, config.device)))
    return penalties


def _first_penalised(config: PretrainConfig, length: int) -> int:
    """Number of the first item that may be penalised."""
    return round(config.repetition_from * length)


def _valid_windows(corpus: Corpus, config: PretrainConfig) -> Windows:
    """The first windows of valid, as they are written."""
    table = evaluation_table(corpus, "valid") if config.streaming else corpus.table("valid", config.style or None)
    count = Windows(table, corpus.remi, config.context, length=1).epoch_length
    length = min(config.valid_windows, count)
    return Windows(table, corpus.remi, config.context, length=length, transpose=False, style_dropout=0.0)
