"""The discriminator of tokens: a network, trained between the policy's steps; a second opinion on realism.

Its score is log p_real(piece) / p_generated(piece). The trainer supplies the generated music, which is sampled from the
frozen reference or from the current policy; the choice determines the right weight of KL, see
`mgen/rl/discriminator.py`. The critic gets the notes of a completion and nothing of the prompt: the ratio is that of
all completions, not of those of one prompt.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import binary_cross_entropy_with_logits

from critics.realism.held_out import held_out_metrics
from critics.realism.regularisation import BOUNDED, bound_spectral_norms, gradient_penalty, without_bounds
from critics.realism.stored import REMEDY, last_state, read_facts
from critics.sequence import FILE, SequenceCritic, TokenRow, transpose_rows
from critics.style import MIN_NOTES
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.judgement import Judgement
from mgen.notes import Notes
from mgen.runs.divergence import weight_norm
from mgen.runs.judges import REALISM_TOKENS_FOLDER
from mgen.speed import PLAIN
from mgen.stats.calibration import Calibration, expected_calibration_error, fit_calibration, read_calibration
from mgen.stored import explain_damage

WINDOW = 16  # rounds over which `running_away` and `starved` are averaged


@dataclass(frozen=True, slots=True)
class TokenDiscriminatorOptions:
    """How a realism critic learns.

    Raises:
        ValueError: A number is out of its range; the message begins with its name.
    """

    learning_rate: float = 3e-4  # of AdamW
    steps: int = 2  # optimizer steps per round
    # Pieces per step: half real and half generated, each half from the new batch and half from the replay buffer.
    batch_size: int = 64
    # Pieces of each class in the replay buffer; the oldest leave. Keep it to a few rounds: older samples are those of
    # an older policy.
    capacity: int = 512
    smoothing: float = 0.05  # targets are 1 - it and it: this bounds the raw logit; calibration removes its bias
    clip: float = 5.0  # largest score, and minus the smallest, in nats
    floor: float = 0.6  # held-out accuracy below which it takes twice the steps
    ceiling: float = 0.95  # held-out accuracy above which it takes no step
    memory: int = 512  # held-out logits that the calibration is fitted on, of both classes together
    gradient_penalty: float = 0.0  # weight of `regularisation.gradient_penalty` in its loss; 0 is none
    spectral_norm: str = "none"  # of `regularisation.BOUNDED`
    min_notes: int = MIN_NOTES  # fewest notes of a piece that it judges

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch_size", 4), ("capacity", 1), ("memory", 32), ("min_notes", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} ({getattr(self, name)}) must be at least {least}")
        if not self.learning_rate >= 0:
            raise ValueError(f"learning_rate ({self.learning_rate}) must be at least 0")
        if not 0 <= self.smoothing < 0.5:
            raise ValueError(f"smoothing ({self.smoothing}) must be at least 0 and below 0.5, where both targets meet")
        if not 0 < self.clip < np.inf:
            raise ValueError(f"clip ({self.clip}) must be above 0; try 5")
        if not 0 <= self.floor < self.ceiling <= 1:
            raise ValueError(f"floor ({self.floor}) must be below ceiling ({self.ceiling}), both between 0 and 1")
        if not 0 <= self.gradient_penalty < np.inf:
            raise ValueError(f"gradient_penalty ({self.gradient_penalty}) must be at least 0")
        if self.spectral_norm not in BOUNDED:
            raise ValueError(f"spectral_norm '{self.spectral_norm}': expected one of {', '.join(BOUNDED)}")


class TokenDiscriminator:
    """log p_real / p_generated in nats, clipped to +-`clip`: a judge that is trained while the policy is.

    All metrics are held out: a new batch is first judged, then used for calibration, and only then for training. Scale
    and bias are fitted on the last `memory` such logits. These are of the last few states of the network, so while it
    still improves, scores are too close to 0. Each step also shifts the offset a little; the shift is the same for all
    pieces of a batch and cancels in every advantage. Before the first calibration all scores are 0.

    The number of steps depends on the held-out accuracy of each batch: none above `ceiling`, where the policy would get
    no gradient, and twice as many below `floor`.

    A piece of fewer than `min_notes` notes is not `defined`, gets `-clip`, and is not used for training. No credit per
    note.

    Known reward hacking: where all generated music is clipped at `-clip`, no piece is better than another and the
    policy gets no gradient; watch `clip_rate`.

    Attributes:
        origin: of a run's discriminator: a phrase that states which checkpoint it is from.

    Args:
        network: gives a piece one raw logit. With spectral norms it runs in float32.
        against: `current` or `reference`: the policy that the generated music is sampled from.
        seed: of the draws from the buffer and of transpositions. Critics that get the same batches with the same seed
            stay equal bit by bit, on one kind of machine.
    """

    def __init__(
        self,
        network: SequenceCritic,
        options: TokenDiscriminatorOptions | None = None,
        against: str = "current",
        seed: int = 0,
    ) -> None:
        self.options = options = options or TokenDiscriminatorOptions()
        self.network, self.against, self.origin = network, against, ""
        self.clip, self.worst, self.min_notes = options.clip, -options.clip, options.min_notes
        self.calibration = Calibration(0.0, 0.0)  # until the first batch all scores are 0
        bound_spectral_norms(network.model, options.spectral_norm, seed)
        if options.spectral_norm != "none":
            network.speed = PLAIN  # the power iteration of torch needs float32
        self.optimizer = torch.optim.AdamW(
            network.model.parameters(), lr=options.learning_rate, betas=(0.9, 0.95), weight_decay=0.01
        )
        self._rng = np.random.default_rng(seed)
        self._replay = {side: deque[TokenRow](maxlen=options.capacity) for side in ("real", "generated")}
        self._history: deque[tuple[float, float, bool]] = deque(maxlen=options.memory)  # logit, nats, real
        self._accuracies: deque[float] = deque(maxlen=WINDOW)

    @classmethod
    def new(
        cls,
        remi: Remi,
        init: Path | str | None = None,
        size: str = "tiny",
        max_tokens: int | None = None,
        seed: int = 0,
        against: str = "current",
        **options: Any,
    ) -> TokenDiscriminator:
        """Builds an untrained critic.

        Args:
            init, size, max_tokens: of `SequenceCritic.new`; with a policy's backbone (`init`) it learns faster.
            options: those of `TokenDiscriminatorOptions`.
        """
        network = SequenceCritic.new(remi, init, size, max_tokens, "real", seed)
        return cls(network, TokenDiscriminatorOptions(**options), against, seed)

    def __call__(self, notes: Notes) -> Judgement:
        defined = notes.counts >= self.min_notes
        score = np.full(notes.n_pieces, self.worst, np.float32)
        if defined.any():
            logits = self.network.logits(notes.pieces(np.flatnonzero(defined)))
            score[defined] = np.clip(self.calibration.log_odds(logits), -self.clip, self.clip)
        return Judgement(score=score, credit=None, defined=defined)

    def update(self, real: Notes, generated: Notes, works: ArrayLike = ()) -> dict[str, float]:
        """Does one round: judges the new batch, calibrates on it, trains on it and on the replay buffer.

        Returns:
            `held_out_metrics` of the scores *before* training, with the calibration of that time; `ece`, the expected
            calibration error of the last `memory` scores; `scale` and `bias` of the calibration now; `steps` taken;
            `starved` and `running_away`, shares of the last 16 rounds with an accuracy below `floor` (twice the steps
            do not help, or there is no difference) and above `ceiling` (no steps, and the policy does not catch up).
            Empty if a class has no piece that can be judged.
        """
        rows = self._rows(real), self._rows(generated)
        if not all(rows):
            return {}
        metrics = self._hold_out(*rows)
        options = self.options
        steps = scheduled_steps(metrics["accuracy"], options.steps, options.floor, options.ceiling)
        for side, fresh in zip(self._replay, rows, strict=True):
            self._replay[side].extend(fresh)
        for _ in range(steps):
            self._step(*rows)
        self._accuracies.append(metrics["accuracy"])
        past = np.array(self._accuracies)
        return metrics | {
            "steps": float(steps),
            "starved": float((past < options.floor).sum() / WINDOW),
            "running_away": float((past > options.ceiling).sum() / WINDOW),
        }

    def calibrate(self, batches: Iterable[tuple[Notes, Notes, ArrayLike]]) -> dict[str, float]:
        """Fits the calibration on batches only, without training on them: the last step
        of a critic that is trained no further.

        Returns:
            Means over the batches of the held-out metrics of `update`. Each is judged with the calibration on
            those before it.
        """
        self._history.clear()
        rows = ((self._rows(real), self._rows(generated)) for real, generated, _ in batches)
        found = [self._hold_out(*both) for both in rows if all(both)]
        return {name: float(np.mean([metrics[name] for metrics in found])) for name in (found[0] if found else ())}

    def watch(self, real: Notes, generated: Notes, works: ArrayLike = ()) -> dict[str, float]:
        """`held_out_metrics` of two batches; changes nothing."""
        rows = self._rows(real), self._rows(generated)
        return self._evaluate(*rows)[2] if all(rows) else {}

    def _rows(self, notes: Notes) -> list[TokenRow]:
        return self.network.rows(notes.pieces(np.flatnonzero(notes.counts >= self.min_notes)))

    def _evaluate(
        self, real: list[TokenRow], generated: list[TokenRow]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], dict[str, float]]:
        """Logits and log odds of real rows, then generated ones, and their metrics."""
        logits = self.network.row_logits([*real, *generated])
        log_odds = self.calibration.log_odds(logits)
        return logits, log_odds, held_out_metrics(log_odds, np.arange(len(logits)) < len(real), self.clip)

    def _hold_out(self, real: list[TokenRow], generated: list[TokenRow]) -> dict[str, float]:
        """Judges rows that are not trained on yet, then calibrates on them and those before."""
        logits, log_odds, metrics = self._evaluate(real, generated)
        is_real = [True] * len(real) + [False] * len(generated)
        self._history.extend(zip(logits.tolist(), log_odds.tolist(), is_real, strict=True))
        past = np.array(self._history)
        labels = past[:, 2] > 0
        if 0 < labels.sum() < len(labels):
            self.calibration = fit_calibration(past[:, 0], labels)
        ece = expected_calibration_error(expit(past[:, 1]), labels)
        return metrics | {"ece": ece, "scale": self.calibration.scale, "bias": self.calibration.bias}

    def _step(self, real: list[TokenRow], generated: list[TokenRow]) -> None:
        half = self.options.batch_size // 2
        sides = [
            [*self._draw(fresh, half // 2), *self._draw(list(replay), half - half // 2)]
            for fresh, replay in zip((real, generated), self._replay.values(), strict=True)
        ]
        ids = self.network.pad(transpose_rows([*sides[0], *sides[1]], self.network.remi, self._rng))
        model = self.network.model.train()
        loss = self._loss(ids, len(sides[0]))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        self.optimizer.step()
        model.eval()
        if not math.isfinite(weight_norm(model.parameters())):
            rate = f"its learning rate ({self.options.learning_rate:g})"
            raise MgenError(f"a step of the discriminator broke its weights; lower {rate}")

    def _loss(self, ids: Tensor, n_real: int) -> Tensor:
        """Cross-entropy with smoothed targets, plus the gradient penalty, of (B, T) ids, real ones first."""
        model, options = self.network.model, self.options
        target = torch.full((len(ids),), options.smoothing, device=ids.device)
        target[:n_real] = 1 - options.smoothing
        if not options.gradient_penalty:
            return binary_cross_entropy_with_logits(self.network.batch_logits(ids), target)
        embedded: list[Tensor] = []
        hook = model.get_input_embeddings().register_forward_hook(lambda _layer, _ids, out: embedded.append(out))
        try:
            with sdpa_kernel(SDPBackend.MATH):  # the fast kernels have no second derivative
                logits = model(input_ids=ids).logits[:, 0].float()
                penalty = gradient_penalty(logits[:n_real], embedded[0], ids != self.network.remi.pad_id)
        finally:
            hook.remove()
        return binary_cross_entropy_with_logits(logits, target) + options.gradient_penalty * penalty

    def _draw(self, rows: list[TokenRow], n: int) -> list[TokenRow]:
        return [rows[i] for i in self._rng.permutation(len(rows))[:n]]

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next round depends on: tensors and plain values, which `torch.load` reads safely."""
        history = np.array(self._history, np.float64).reshape(-1, 3)
        return {
            "model": self.network.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "replay": {side: [torch.from_numpy(row) for row in rows] for side, rows in self._replay.items()},
            "history": torch.from_numpy(history),
            "accuracies": list(self._accuracies),
            "calibration": (self.calibration.scale, self.calibration.bias),
            "rng": json.dumps(self._rng.bit_generator.state),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.network.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for side, rows in state["replay"].items():
            self._replay[side] = deque((row.numpy() for row in rows), maxlen=self._replay[side].maxlen)
        self._history.clear()
        self._history.extend((logit, log_odds, bool(label)) for logit, log_odds, label in state["history"].tolist())
        self._accuracies.clear()
        self._accuracies.extend(state["accuracies"])
        self.calibration = Calibration(*state["calibration"])
        self._rng.bit_generator.state = json.loads(state["rng"])

    def load_judge(self, state: dict[str, Any]) -> None:
        """Takes from `state_dict` what judging needs, without buffer and optimizer."""
        self.network.model.load_state_dict(state["model"])
        self.calibration = Calibration(*state["calibration"])

    def save_pretrained(self, folder: Path | str, **facts: Any) -> None:
        """Writes what judging needs: the network as a stock model, the tokenizer, and critic.json with the calibration,
        `against` and `facts`.

        Optimizer and replay buffer belong to checkpoints and are not written.
        """
        model = without_bounds(self.network.model)
        SequenceCritic(model, self.network.remi, self.network.max_tokens).save_pretrained(
            folder,
            kind="realism",
            input="tokens",
            against=self.against,
            score="log p_real / p_generated of a completion, nats, clipped to +-clip",
            calibration=asdict(self.calibration),
            options=asdict(self.options),
            **facts,
        )

    @classmethod
    def from_run(cls, run: Path, remi: Remi) -> TokenDiscriminator:
        """The discriminator of a run of `mgen finetune`: of its end, or else of its last complete checkpoint.

        Args:
            remi: the encoding of the music to be judged.

        Raises:
            UnavailableJudge: The run has no checkpoint yet.
            MgenError: The run's policy is missing, or has another vocabulary.
        """
        if (run / REALISM_TOKENS_FOLDER).is_dir():
            critic = cls.from_pretrained(run / REALISM_TOKENS_FOLDER, remi)
            critic.origin = f"the discriminator of tokens is that of the run's end, against {critic.against} samples"
            return critic
        with last_state(run, "realism_tokens") as (step, state, config):
            options = {name: config[f"realism_{name}"] for name in ("clip", "spectral_norm")}
            critic = cls.new(remi, init=config["policy"], **options)
            critic.load_judge(state)
        critic.origin = f"the discriminator of tokens is that of step {step}"
        return critic

    @classmethod
    def from_pretrained(cls, folder: Path | str, remi: Remi | None = None) -> TokenDiscriminator:
        """Reads what `save_pretrained` wrote, to judge with.

        Args:
            remi: the encoding of the music to be judged; None if it need not be the critic's own.

        Raises:
            MgenError: The folder has no discriminator of tokens, or one of another vocabulary.
        """
        folder = Path(folder)
        read_facts(folder, "tokens")
        network, facts = SequenceCritic.from_pretrained(folder, remi)
        with explain_damage(folder / FILE, REMEDY):
            options = TokenDiscriminatorOptions(**{**facts["options"], "spectral_norm": "none"})  # plain weights now
            critic = cls(network, options, str(facts["against"]))
            critic.calibration = read_calibration(facts["calibration"])
        return critic


def scheduled_steps(accuracy: float, steps: int, floor: float, ceiling: float) -> int:
    """Optimizer steps of a round: 0 above the ceiling, twice `steps` below the floor, else `steps`."""
    if accuracy > ceiling:
        return 0
    return 2 * steps if accuracy < floor else steps
