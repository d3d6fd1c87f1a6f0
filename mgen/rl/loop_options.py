"""Options of the policy-gradient loop."""

from __future__ import annotations

from dataclasses import dataclass

from mgen.options import option


@dataclass
class LoopOptions:
    """How a policy is sampled, updated and held."""

    max_steps: int = option(120, "Steps; each samples new completions.", least=1)
    save_steps: int = option(20, "Steps between checkpoints.", least=1)
    completions: int = option(256, "Completions per step, over all processes.", least=2)
    num_generations: int = option(8, "Completions per prompt: a group, whose mean is the baseline.", least=2)
    max_completion_length: int = option(192, "Most tokens in a completion.", least=1)
    grammar: bool = option(
        True, "Sample only tokens that the grammar allows; loss and KL are of the same distribution."
    )
    programs: list[int] = option(
        [],
        "grammar: programs that completions may play, of a vocabulary with programs; default: all.",
        least=0,
        most=127,
    )
    grammar_weight: float = option(
        10.0, "grammar: weight of -log P(allowed tokens) in the loss, so that the policy needs no mask later.", least=0
    )
    learning_rate: float = option(3e-5, "Of the first step; then steered by kl_step.", above=0)
    kl_step: float = option(
        0.005,
        "Nats per piece that a step is to move the policy; the learning rate follows. Smaller steps, and more of them, "
        "spend less KL on the noise of the gradient. 0: the rate stays.",
        least=0,
    )
    epochs: int = option(1, "Passes over the completions of a step.", least=1)
    minibatch: int = option(0, "Completions per update, over all processes; 0: all of a step.", least=0)
    device_batch: int = option(64, "Completions that a process reads at a time.", least=1)
    clip: float = option(0.2, "Probability ratios are clipped to 1 - clip..1 + clip.", above=0, below=1)
    max_grad_norm: float = option(10.0, "Gradients are clipped to this norm.", above=0)
    average: float = option(
        0.95, "Decay of the moving average of the weights, which is sampled, saved and kept; 0: none.", least=0, below=1
    )
    kl_weight: float = option(
        0.5,
        "Nats of return per nat of KL. With the judge realism: equal to its weight with realism_against reference, "
        "below it with current (0: the fixed point is real music, and only small steps hold the policy).",
        least=0,
    )
    kl_continuation: float = option(
        3.0, "Nats per piece above which the weight of KL rises after prompts of the target style; 0: never.", least=0
    )
    kl_transfer: float = option(6.0, "The same after prompts of other styles.", least=0)
    kl_stop: float = option(0.0, "Mean KL, in nats per piece, at which the run ends; 0: none.", least=0)
    causal_rewards: bool = option(
        True,
        "Reward what each closed bar adds to the score of a judge that can judge beginnings, on the token that closes "
        "it; otherwise the score falls on the last token. The optimum is the same, the variance lower.",
    )
    cold_share: float = option(
        0.0, "Share of the groups that are sampled at cold_temperature, against loops.", least=0, most=0.5
    )
    cold_temperature: float = option(0.5, "Their temperature.", above=0, below=1)
    cold_judges: list[str] = option([], "The judges of these groups, and of no others, such as loops.")
    distil_prompts: int = option(
        0,
        "Prompts of a first phase: the best of distil_of completions of each, by the judges, is trained on once; 0: "
        "no such phase.",
        least=0,
    )
    distil_of: int = option(8, "Completions of a prompt of the first phase.", least=2)
    guided_prompts: int = option(
        0,
        "Prompts of a first phase: on the policy's own completions, all probabilities are moved towards those of the "
        "start under classifier-free guidance; 0: no such phase.",
        least=0,
    )
    guided_weight: float = option(2.0, "Its guidance, as `mgen generate --guidance`; 1 is none.", least=0)
    signal_steps: int = option(
        20,
        "Steps between measurements of the signal and the noise of the gradient, from two half batches; each takes as "
        "long as an update. 0: none.",
        least=0,
    )
    shuffled: bool = option(
        False,
        "A control: the advantages of the judges are dealt out at random among the completions. What such a run "
        "changes, and the KL that it costs, is noise.",
    )
    dominant_share: float = option(
        0.8, "Share of the advantage above which, for 5 steps, a judge is reported.", least=0.5, most=1
    )
    allow_equal_rewards: bool = option(
        False, "Go on where rewards never differ within a group; by default the run stops at step 3."
    )
    seed: int = option(42, "Of all draws.", least=0, most=2**32 - 1)

    def check_loop(self) -> None:
        """Raises ValueError where options do not fit together."""
        if self.completions % (2 * self.num_generations):
            raise ValueError(
                f"completions ({self.completions}) must be a multiple of twice num_generations "
                f"({self.num_generations}): two halves of whole groups; try "
                f"{-(-self.completions // (2 * self.num_generations)) * 2 * self.num_generations}"
            )
        if self.programs and not self.grammar:
            raise ValueError("programs: only the grammar keeps completions to them; give --grammar true")
        if self.minibatch > self.completions:
            raise ValueError(f"minibatch ({self.minibatch}) must be at most completions ({self.completions})")
        if bool(self.cold_share) != bool(self.cold_judges):
            raise ValueError(
                f"cold_share ({self.cold_share:g}) and cold_judges ({', '.join(self.cold_judges) or 'none'}) go "
                "together: name the judges of the completions at cold_temperature"
            )
