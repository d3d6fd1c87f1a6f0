"""Options of the commands that train a policy against judges: what judges, on which prompts, and the discriminators."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

from critics.realism.feature_discriminator import FITS, FeatureDiscriminatorOptions
from critics.realism.regularisation import BOUNDED
from critics.realism.token_discriminator import TokenDiscriminatorOptions
from mgen.options import option
from mgen.rl.discriminator import AGAINST
from mgen.runs.judges import REALISM_FOLDER, REALISM_TOKENS_FOLDER, JudgeSpec, judge_specs
from mgen.speed import SpeedOptions
from mgen.workflows.judges import JUDGES

DISCRIMINATORS = {"realism": REALISM_FOLDER, "realism_tokens": REALISM_TOKENS_FOLDER}  # judge -> folder in the run

DEFAULT_JUDGES = (
    *("grammar=0.25", "repetition_interval=1", "repetition_rhythm=0.5", "phrase_reuse=1", "scale_fit=0.5"),
    *("pitch_entropy=0.5", "bar_lines=0.5", "rests=0.5", "style=1", "realism=1"),
)
"""Rules that prefer no corruption and no policy's samples to real jazz (no AUC below .5), and whose sum has the highest
AUC. The first grammar error costs 10 nats; with weight 1, `grammar` had 0.8 of the advantage. Reinforcement learning
degrades repetition first, so these rules have the largest weights.
"""

Options = TypeVar("Options", FeatureDiscriminatorOptions, TokenDiscriminatorOptions)


@dataclass
class JudgeOptions(SpeedOptions):
    """Options of the commands that train a policy against judges."""

    policy: str = option("", "Model folder of the policy to start from; also the reference of KL.")
    corpus: str = option("", "Folder written by mgen prepare.")
    out: str = option("", "Run folder; the model goes to OUT/model.")
    critic: str = option("", "Model folder of the style critic; needed if `judges` names style.")
    bands: str = option("", "JSON of measured bands; by default they are measured on train.")
    judges: list[str] = option(
        [*DEFAULT_JUDGES],
        "NAME=WEIGHT or package.module:Factory=WEIGHT of each judge, or a mapping {judge: ..., weight: "
        "..., arguments: {...}}. A rule for which the corpus has no band is left out.",
        mapping=True,
    )
    target: str = option("", "Style that is asked for; may be left out if the corpus has one style and `other`.")
    transfer_share: float = option(
        0.5, "Share of prompts of other styles, to be continued in the target style.", least=0, most=1
    )
    prompt_tokens: list[int] = option(
        [24, 64],
        "Tokens of music in a prompt; several lengths take turns. Completions of short ones differ more.",
        least=1,
    )
    check_pieces: int = option(
        256,
        "Real pieces, and samples of the policy, on which the judges are compared before the first step: a judge whose "
        "AUC is below 0.55 is left out, unless it is named with `!` (`!style=1`). 0: no comparison.",
        least=0,
    )
    realism_against: str = option(
        "current",
        "Whose samples the discriminator is trained against. reference: before the first step, then fixed; "
        "its score is log p_real / p_reference. current: after each step, against the samples of the step; its "
        "score is log p_real / p_policy. See kl_weight.",
        words=AGAINST,
    )
    realism_warm_up: int = option(
        4,
        "Batches of the discriminator on the frozen policy before the first step; with realism_against reference its "
        "only training. The judge realism_tokens needs some 20.",
        least=0,
    )
    realism_fit: str = option(
        "logistic",
        "realism: logistic regression, or moments: differences between the mean features of both sides (moment "
        "matching).",
        words=FITS,
    )
    realism_gate: float = option(
        0.0,
        "With realism_against current: the discriminators are refitted only after steps in which the moving average "
        "of their mean probability of real on the completions is above this, such as 0.3; 0: after every step.",
        least=0,
        below=0.5,
    )
    realism_regularisation: float = option(
        100.0, "realism: weight of the squared coefficients of its logistic regression.", above=0
    )
    realism_capacity: int = option(1024, "Pieces of each side that it remembers: those of the last few steps.", least=4)
    realism_clip: float = option(10.0, "Largest absolute score, in nats; limits what can be corrected.", above=0)
    realism_capped: bool = option(
        True, "realism: no score is above the median of real music, so that nothing is gained beyond it."
    )
    realism_corrupted: float = option(
        0.1, "realism: share of corrupted real pieces on its generated side, against loops and noise.", least=0, below=1
    )
    realism_learning_rate: float = option(3e-4, "realism_tokens: learning rate.", least=0)
    realism_steps: int = option(2, "realism_tokens: optimizer steps per step of the policy.", least=1)
    realism_batch_size: int = option(
        64, "realism_tokens: pieces per step: half of them real, and half of each side from its memory.", least=4
    )
    realism_smoothing: float = option(
        0.05, "realism_tokens: label smoothing: its targets are 1 - x and x.", least=0, below=0.5
    )
    realism_floor: float = option(
        0.6, "realism_tokens: held-out accuracy below which it takes twice its steps.", least=0, most=1
    )
    realism_ceiling: float = option(
        0.95, "realism_tokens: held-out accuracy above which it is not trained.", least=0, most=1
    )
    realism_memory: int = option(512, "realism_tokens: held-out logits for its calibration.", least=32)
    realism_gradient_penalty: float = option(
        0.0, "realism_tokens: weight of a gradient penalty on the embeddings of real pieces (R1).", least=0
    )
    realism_spectral_norm: str = option(
        "none", f"realism_tokens: layers whose spectral norm is bounded: {', '.join(BOUNDED)}.", words=BOUNDED
    )

    def check_realism(self) -> None:
        try:
            (
                self.discriminator_options(FeatureDiscriminatorOptions),
                self.discriminator_options(TokenDiscriminatorOptions),
            )
        except ValueError as error:
            raise ValueError(f"realism_{error}") from error
        if self.realism_gate and self.realism_against == "reference":
            raise ValueError(
                f"realism_gate ({self.realism_gate:g}) is for realism_against current: against the reference nothing "
                "is refitted"
            )
        least = 2 if self.realism_against == "reference" else int(self.realism_gate > 0)
        if self.realism_warm_up < least:
            raise ValueError(
                f"realism_warm_up ({self.realism_warm_up}) must be at least {least} with realism_against "
                f"{self.realism_against}; try 4"
            )

    def judge_specs(self) -> list[JudgeSpec]:
        """The entries of `judges`."""
        return judge_specs(self.judges, JUDGES)

    def weights(self) -> dict[str, float]:
        """Weight of each judge, by name."""
        return {spec.name: spec.weight for spec in self.judge_specs()}

    def discriminator_options(self, kind: type[Options]) -> Options:
        """The options of a kind of discriminator, `realism_...` here."""
        names = {option.name for option in fields(kind)} - {"min_notes"}
        return kind(**{name: getattr(self, f"realism_{name}") for name in names})
