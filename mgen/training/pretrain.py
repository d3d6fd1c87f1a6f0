"""Next-token training of a policy on a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Sampler, SequentialSampler
from transformers import PreTrainedModel, Trainer, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from mgen.corpus.windows import NOT_TRAINED, Windows, collate
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.progress import Progress, silent
from mgen.runs.checkpoints import VerifiedCheckpoints
from mgen.speed import PLAIN, Speed
from mgen.training.compiled import CompiledSteps
from mgen.training.penalties import Penalty
from mgen.training.repetition import OwnPenalty
from mgen.training.streaming import StreamedWindows
from mgen.training.weight_average import WeightAverage


class PretrainTrainer(CompiledSteps, VerifiedCheckpoints, Trainer):  # type: ignore[misc]
    """`Trainer` over `Windows`, evaluated in nats per token and nats per note.

    Args:
        train: windows; if streamed, with the batch, rank and ranks of `args`.
        valid: windows, read in order at every evaluation, without transposition.
        ema: decay of a moving average of the weights, which is evaluated and saved instead of them; 0: none.
        penalties: added to the next-token loss of real music, in this order.
        speed: whether steps are compiled, for batches padded to the context; precision is that of `args`.
        progress: takes a line about compiling.

    Raises:
        MgenError: Options do not fit together.
    """

    control: Any  # of `Trainer`, which has no types
    train_dataset: Any

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        remi: Remi,
        train: Windows | StreamedWindows,
        valid: Windows,
        ema: float = 0.0,
        penalties: Sequence[Penalty] = (),
        speed: Speed = PLAIN,
        progress: Progress = silent,
        **rest: Any,
    ) -> None:
        self.remi = remi
        self.average = WeightAverage(ema) if ema else None
        self.penalties = penalties
        self.speed, self.progress = speed, progress
        self.eval_collator = partial(collate, pad_id=remi.pad_id)
        collator = partial(self.eval_collator, pad_to=train.context if speed.compiled else None)
        own = next((penalty for penalty in penalties if isinstance(penalty, OwnPenalty)), None)
        if own is not None:
            collator = partial(own.collate, collator=collator)
        super().__init__(
            model=model,
            args=args,
            train_dataset=train,
            eval_dataset=valid,
            data_collator=collator,
            processing_class=remi.tokenizer(),
            **rest,
        )
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            whole = "expected all weights in each process, found them split"
            if ema:
                raise MgenError(f"ema ({ema:g}): {whole}; use --ema 0")
            if own is not None:
                raise MgenError(f"repetition own: {whole}; use --repetition copies or none")
        if self.average is not None:
            self.add_callback(self.average)

    def _get_train_sampler(self, *_: Any) -> Sampler[int]:
        # Windows are shuffled by item number, so that resuming is exact.
        return SequentialSampler(self.train_dataset)

    def get_train_dataloader(self) -> Any:
        if not isinstance(self.train_dataset, StreamedWindows):
            return super().get_train_dataloader()
        # Not prepared by accelerate, which would split the stream of each process a second time.
        workers = self.args.dataloader_num_workers
        return DataLoader(
            self.train_dataset,
            batch_size=self.train_dataset.batch,
            collate_fn=self.data_collator,
            num_workers=workers,
            prefetch_factor=self.args.dataloader_prefetch_factor if workers else None,
            pin_memory=self.args.dataloader_pin_memory,
            # By default it draws from the generator of dropout, and a resumed run would draw at another place.
            generator=torch.Generator(),
        )

    def train(self, resume_from_checkpoint: str | None = None, **rest: Any) -> Any:
        """Trains as `Trainer.train`; a stream resumes where the checkpoint was written."""
        if resume_from_checkpoint and isinstance(self.train_dataset, StreamedWindows):
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / TRAINER_STATE_NAME))
            items = self.train_dataset.global_batch * self.args.gradient_accumulation_steps
            self.train_dataset = replace(self.train_dataset, begin=state.global_step * items)
            self.args.ignore_data_skip = True
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **rest)

    def save_extra_files(self, folder: Path) -> None:
        if self.average is not None and self.args.should_save:
            self.average.save(folder, self.model)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.average is not None:
            self.average.load(Path(resume_from_checkpoint), self.model)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if self.state.epoch is not None and self.state.max_steps:
            # Trainer counts from the first item of the data, which is not the first step of a resumed stream.
            self.state.epoch = self.state.global_step / self.state.max_steps
        super().log(logs, *args, **kwargs)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The next-token loss of real music plus the penalties, all per token of real music."""
        prepared = [penalty.prepare(self.model, inputs, self.speed.dtype) for penalty in self.penalties]
        index = inputs.pop("index")
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        for penalty, sum_over in zip(self.penalties, prepared, strict=True):
            added = penalty.weight * sum_over(outputs.logits)
            loss = loss + added / self._items(inputs["labels"], num_items_in_batch)
        self.check_loss(loss, index.tolist())
        return (loss, outputs) if return_outputs else loss

    def _items(self, labels: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor | float:
        """What `Trainer` divides the summed loss of a process by, so that it is a mean over the step's tokens."""
        if num_items_in_batch is None:
            return (labels[:, 1:] != NOT_TRAINED).sum()
        return num_items_in_batch / (self.args.world_size if self.args.average_tokens_across_devices else 1)

    @torch.no_grad()
    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Measures nats per token and nats per note (the loss of all tokens over the number of notes).

        Nats per note can be compared across encodings.
        """
        model = self.model.eval()
        notes_in = torch.from_numpy(self.remi.notes_in).to(self.args.device)
        loader = DataLoader(
            self.eval_dataset, batch_size=self.args.eval_batch_size, collate_fn=self.eval_collator, shuffle=False
        )
        total = torch.zeros(3, dtype=torch.float64, device=self.args.device)
        for number, batch in enumerate(loader):
            if number % self.args.world_size != self.args.process_index:
                continue
            labels = batch["labels"].to(self.args.device)[:, 1:]
            with self.compute_loss_context_manager():
                logits = model(input_ids=batch["input_ids"].to(self.args.device)).logits[:, :-1]
            total += token_sums(logits, labels, notes_in)
        nats, tokens, notes = self.accelerator.reduce(total, reduction="sum").tolist()
        model.train()
        metrics = {
            f"{metric_key_prefix}_loss": nats / tokens,
            f"{metric_key_prefix}_nats_per_note": nats / max(notes, 1.0),
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def token_sums(logits: Tensor, labels: Tensor, notes_in: Tensor) -> Tensor:
    """Sums the loss over the tokens of `labels` (B, T) that are not `NOT_TRAINED`.

    Args:
        notes_in: (V,) notes that each token completes.

    Returns:
        (3,) loss in nats, number of tokens, number of notes.
    """
    nats = cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=NOT_TRAINED, reduction="sum")
    counted = labels != NOT_TRAINED
    notes = (notes_in[labels.clamp(min=0)] * counted).sum()
    return torch.stack([nats.double(), counted.sum().double(), notes.double()])
