"""The realism critic: real or generated? Trained between the policy's steps.

Says log p_real(piece) / p_generated(piece). *Which* generated music that is (samples of the frozen reference,
or of the policy as it is now) is the trainer's to supply and decides how KL has to be weighed; see
`mgen/rl/adversary.py`.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_expit
from sklearn.metrics import roc_auc_score
from torch.nn.functional import binary_cross_entropy_with_logits

from critics.calibration import Calibration, fit_calibration
from critics.sequence import Row, SequenceCritic, transposed
from critics.style import MIN_NOTES
from mgen.encoding.remi import Remi
from mgen.judgement import Judgement
from mgen.notes import Notes


class RealismCritic:
    """log p_real / p_generated in nats, clipped to +-`clip`, and a judge that learns.

    Numbers are honest: every fresh batch is judged by the critic as it was, then calibrates it, and only then
    is learned from. The scale and bias are fitted on the last `memory` such logits; they come from the last
    few states of the network, so while it still sharpens the nats err towards 0.

    The schedule keeps the critic neither starved nor running away: with a held-out accuracy above `ceiling`
    it does not learn in this round, below `floor` it takes twice the steps. It looks anew at every batch, so
    a policy that catches up wakes it at once.

    A piece of fewer than `min_notes` notes is not `defined`, gets `-clip`, and is not learned from. No credit
    per note.

    Known exploit: where all generated music is clipped at `-clip` no piece is better than another and the
    policy gets no direction; watch `clip_rate`.

    Args:
        network: hears a piece as one raw logit.
        learning_rate: of AdamW.
        steps: optimizer steps a round.
        batch_size: pieces a step, half real and half generated, and of each half fresh and half from the
            replay buffer.
        capacity: pieces of each side in the replay buffer; the oldest leave. Keep it to a few rounds: older
            samples are those of an older policy.
        smoothing: targets are `1 - smoothing` and `smoothing`. It bounds the raw logit; the calibration
            undoes its bias.
        against: `current` or `reference`, whose samples the generated ones are; stated, not used.
        seed: of the draws from the buffer and of transpositions. Critics that see the same batches with the
            same seed stay equal, bit by bit, on one kind of machine.
    """

    def __init__(
        self,
        network: SequenceCritic,
        learning_rate: float = 3e-4,
        steps: int = 2,
        batch_size: int = 64,
        capacity: int = 512,
        smoothing: float = 0.05,
        clip: float = 5.0,
        floor: float = 0.6,
        ceiling: float = 0.95,
        memory: int = 512,
        min_notes: int = MIN_NOTES,
        against: str = "current",
        seed: int = 0,
    ) -> None:
        self.network, self.steps, self.batch_size, self.smoothing = network, steps, batch_size, smoothing
        self.clip, self.worst, self.min_notes = clip, -clip, min_notes
        self.floor, self.ceiling, self.against = floor, ceiling, against
        self.calibration = Calibration()
        self.optimizer = torch.optim.AdamW(
            network.model.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.01
        )
        self._rng = np.random.default_rng(seed)
        self._replay: dict[str, deque[Row]] = {side: deque(maxlen=capacity) for side in ("real", "generated")}
        self._history: deque[tuple[float, bool]] = deque(maxlen=memory)

    @classmethod
    def new(
        cls,
        remi: Remi,
        init: Path | str | None = None,
        size: str = "tiny",
        max_tokens: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> RealismCritic:
        """An untrained critic.

        Args:
            init, size, max_tokens: of `SequenceCritic.new`; on a policy's backbone (`init`) it learns faster.
            options: those of the class.
        """
        return cls(SequenceCritic.new(remi, init, size, max_tokens, "real", seed), seed=seed, **options)

    def __call__(self, notes: Notes) -> Judgement:
        defined = notes.counts >= self.min_notes
        score = np.full(notes.n_pieces, self.worst, np.float32)
        if defined.any():
            logits = self.network.logits(notes.pieces(np.flatnonzero(defined)))
            score[defined] = np.clip(self.calibration.log_odds(logits), -self.clip, self.clip)
        return Judgement(score=score, credit=None, defined=defined)

    # ------------------------------------------------------------ learning

    def update(self, real: Notes, generated: Notes) -> dict[str, float]:
        """One round: judge the fresh batch, calibrate on it, learn from it and from the replay buffer.

        Returns:
            What the critic said *before* it learned, in nats after the calibration it had: `accuracy` (both
            sides weigh one half), `auc`, `logit_real`, `logit_generated` (means), `loss` (of the nats, log 2
            = knows nothing), `clip_rate` (share of generated pieces outside +-clip); and `scale` now, `steps`
            taken. Empty where a side has no piece that can be judged.
        """
        rows = self._rows(real), self._rows(generated)
        if not all(rows):
            return {}
        metrics = self._hold_out(*rows)
        steps = self.steps
        if metrics["accuracy"] > self.ceiling:
            steps = 0
        elif metrics["accuracy"] < self.floor:
            steps *= 2
        for side, fresh in zip(self._replay, rows, strict=True):
            self._replay[side].extend(fresh)
        for _ in range(steps):
            self._step(*rows)
        return metrics | {"scale": self.calibration.scale, "steps": float(steps)}

    def warm_up(self, real: Sequence[Notes], generated: Sequence[Notes]) -> dict[str, float]:
        """Learn from pairs of batches, then calibrate the finished network on the last fifth of them.

        Returns:
            The held-out numbers of the last pair.
        """
        pairs = list(zip(real, generated, strict=True))
        held_out = max(len(pairs) // 5, 1)
        for pair in pairs[:-held_out]:
            self.update(*pair)
        self._history.clear()
        metrics: dict[str, float] = {}
        for pair in pairs[-held_out:]:
            metrics = self.calibrate(*pair)
        return metrics

    def calibrate(self, real: Notes, generated: Notes) -> dict[str, float]:
        """Judge a batch and calibrate on it, without learning from it; returns the numbers of `update`."""
        rows = self._rows(real), self._rows(generated)
        return self._hold_out(*rows) if all(rows) else {}

    def _rows(self, notes: Notes) -> list[Row]:
        return self.network.rows(notes.pieces(np.flatnonzero(notes.counts >= self.min_notes)))

    def _hold_out(self, real: list[Row], generated: list[Row]) -> dict[str, float]:
        """Judge rows that were not learned from, then calibrate on them and those before."""
        logits = self.network.row_logits([*real, *generated])
        is_real = np.arange(len(logits)) < len(real)
        said = self.calibration.log_odds(logits)
        metrics = held_out_metrics(said, is_real, self.clip)
        self._history.extend(zip(logits.tolist(), is_real.tolist(), strict=True))
        past, labels = (np.array(column) for column in zip(*self._history, strict=True))
        if 0 < labels.sum() < len(labels):
            self.calibration = fit_calibration(past, labels)
        return metrics

    def _step(self, real: list[Row], generated: list[Row]) -> None:
        half = self.batch_size // 2
        sides = [
            [*self._draw(fresh, half // 2), *self._draw(list(replay), half - half // 2)]
            for fresh, replay in zip((real, generated), self._replay.values(), strict=True)
        ]
        rows = transposed([*sides[0], *sides[1]], self.network.remi, self._rng)
        target = torch.full((len(rows),), self.smoothing, device=self.network.model.device)
        target[: len(sides[0])] = 1 - self.smoothing
        model = self.network.model.train()
        logits = model(input_ids=self.network.pad(transposed(rows, self.network.remi, self._rng))).logits[:, 0]
        loss = binary_cross_entropy_with_logits(logits.float(), target)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        self.optimizer.step()
        model.eval()

    def _draw(self, rows: list[Row], n: int) -> list[Row]:
        return [rows[i] for i in self._rng.permutation(len(rows))[:n]]

    # -------------------------------------------------------------- resume

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next round depends on: tensors and plain values, for `torch.save` and a safe
        `torch.load`.
        """
        history = np.array(self._history, np.float64).reshape(-1, 2)
        return {
            "model": self.network.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "replay": {side: [torch.from_numpy(row) for row in rows] for side, rows in self._replay.items()},
            "history": torch.from_numpy(history),
            "calibration": (self.calibration.scale, self.calibration.bias),
            "rng": json.dumps(self._rng.bit_generator.state),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.network.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for side, rows in state["replay"].items():
            self._replay[side] = deque((row.numpy() for row in rows), maxlen=self._replay[side].maxlen)
        self._history.clear()
        self._history.extend((logit, bool(label)) for logit, label in state["history"].tolist())
        self.calibration = Calibration(*state["calibration"])
        self._rng.bit_generator.state = json.loads(state["rng"])


def held_out_metrics(said: NDArray[np.float64], is_real: NDArray[np.bool_], clip: float) -> dict[str, float]:
    """How well log odds `said` (B,) in nats tell real from generated; see `RealismCritic.update`."""
    right = np.where(is_real, said > 0, said < 0) + 0.5 * (said == 0)
    signed = np.where(is_real, said, -said)
    return {
        "accuracy": float((right[is_real].mean() + right[~is_real].mean()) / 2),
        "auc": float(roc_auc_score(is_real, said)),
        "logit_real": float(said[is_real].mean()),
        "logit_generated": float(said[~is_real].mean()),
        "loss": float(-(log_expit(signed[is_real]).mean() + log_expit(signed[~is_real]).mean()) / 2),
        "clip_rate": float((np.abs(said[~is_real]) > clip).mean()),
    }
