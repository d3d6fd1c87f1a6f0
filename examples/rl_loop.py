"""Policy gradient on music, the whole of it in one file, to read from top to bottom and to change.

    python examples/rl_loop.py --policy runs/demo/base/model --corpus runs/demo/corpus --steps 20

A policy continues prompts from real music, each prompt several times. A reward scores each completion; here it asks for
fewer repeated notes, and `--critic runs/demo/critic/model` for music of the target style instead. The tokens of
completions that score higher than the others of their prompt become likelier, and the KL to the policy as it was at the
start is a cost: without it the quickest way to a high reward is to leave music altogether.

`mgen finetune` is this loop with what it takes to pay: more and smaller steps whose size is steered by the measured KL,
rewards at the end of each bar, a discriminator against real music, held-out checks, and a sampler three times as fast.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from critics.style import StyleCritic
from mgen.corpus.shards import Corpus
from mgen.models.transformer import load_policy
from mgen.notes import Notes
from mgen.rl.prompt_mix import PromptMix

Reward = Callable[[Notes], np.ndarray]  # B pieces -> (B,) scores


def few_repeats(notes: Notes) -> np.ndarray:
    """(B,) minus ten times the share of notes that have the pitch of the note before; -10 for a piece of one note."""
    scores = np.full(notes.n_pieces, -10.0)
    for piece in range(notes.n_pieces):
        pitch = notes.pieces([piece]).pitch
        if len(pitch) > 1:
            scores[piece] = -10 * np.mean(pitch[1:] == pitch[:-1])
    return scores


@dataclass
class Batch:
    """B completions of at most T tokens, n of each prompt one after the other; all prompts have P tokens."""

    ids: Tensor  # (B, P + T) prompt and completion
    mask: Tensor  # (B, T) True on the tokens of a completion, its end token included
    prompt_length: int  # P

    @property
    def completions(self) -> list[list[int]]:
        """Token ids without the prompt and without padding."""
        tokens = self.ids[:, self.prompt_length :]
        return [row[kept].tolist() for row, kept in zip(tokens, self.mask, strict=True)]


@torch.no_grad()
def sample(policy, remi, prompts: list[list[int]], n: int, new_tokens: int) -> Batch:
    """Samples n completions of each prompt from the policy as it is: temperature 1, no token left out."""
    ids = torch.tensor([prompt for prompt in prompts for _ in range(n)])
    options = {"do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": 1.0, "use_cache": True}
    ends = {"eos_token_id": remi.eos_id, "pad_token_id": remi.pad_id}
    full = policy.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, **options, **ends)
    tokens = full[:, ids.shape[1] :]
    ended = (tokens == remi.eos_id).long().cumsum(1) - (tokens == remi.eos_id).long()  # ends before this token
    return Batch(full, ended == 0, ids.shape[1])


def logprobs(policy, batch: Batch) -> Tensor:
    """(B, T) log-probability of each token of the completions, 0 where there is none."""
    logits = policy(input_ids=batch.ids).logits[:, batch.prompt_length - 1 : -1]
    chosen = batch.ids[:, batch.prompt_length :, None]
    return logits.log_softmax(-1).gather(-1, chosen)[..., 0] * batch.mask


def advantages(scores: np.ndarray, log_ratio: Tensor, mask: Tensor, n: int, kl_weight: float) -> Tensor:
    """(B, T) by how much the return that follows each token exceeds that of the other completions of the prompt.

    The score falls on the last token and the cost of KL, log(policy / reference), on every token: the return is the sum
    from a token to the end, because a token cannot change what was before it. The mean of the n - 1 other completions
    is a baseline that does not depend on this one, so it lowers the variance of the gradient and leaves its mean.
    """
    rewards = -kl_weight * log_ratio
    last = mask.sum(1) - 1
    rewards[torch.arange(len(rewards)), last] += torch.as_tensor(scores, dtype=rewards.dtype)
    returns = (rewards * mask).flip(1).cumsum(1).flip(1)
    groups = returns.view(-1, n, returns.shape[1])
    others = (groups.sum(1, keepdim=True) - groups) / (n - 1)
    return (groups - others).view_as(returns) * mask


def clipped_loss(new: Tensor, old: Tensor, advantage: Tensor, mask: Tensor, clip: float = 0.2) -> Tensor:
    """Minus the expected advantage, with the ratio of a token's probabilities held within 1 - clip..1 + clip (PPO).

    Divided by the completions and not by their tokens: else a long completion would count less per token.
    """
    ratio = (new - old).exp()
    gain = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    return -(gain * mask).sum() / len(mask)


def train(
    policy, remi, prompts: PromptMix, reward: Reward, steps: int, *, groups: int = 16, n: int = 8, new_tokens: int = 96,
    learning_rate: float = 3e-5, kl_weight: float = 0.5, epochs: int = 2, report: Callable[[str], None] = print,
) -> list[dict[str, float]]:  # fmt: skip
    """Improves a policy in place; returns mean score and KL of each step."""
    reference = copy.deepcopy(policy).eval()
    policy.eval()  # no dropout: sampling and loss must be of the same policy
    optimizer = torch.optim.AdamW(policy.parameters(), lr=learning_rate, weight_decay=0.0)
    history = []
    for step in range(steps):
        heads, _ = prompts.batch(groups, step)
        batch = sample(policy, remi, heads, n, new_tokens)
        notes = Notes.from_completions([head for head in heads for _ in range(n)], batch.completions, remi)
        scores = reward(notes)
        with torch.no_grad():
            old = logprobs(policy, batch)
            log_ratio = old - logprobs(reference, batch)
        advantage = advantages(scores, log_ratio, batch.mask, n, kl_weight)
        for _ in range(epochs):
            loss = clipped_loss(logprobs(policy, batch), old, advantage, batch.mask)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
        history.append({"score": float(np.mean(scores)), "kl": float(log_ratio.sum(1).mean())})
        report(f"step {step}: score {history[-1]['score']:.3f}, KL {history[-1]['kl']:.3f} nats per piece")
    return history


def main(argv: list[str] | None = None) -> list[dict[str, float]]:
    """Reads the options and trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", required=True, help="model folder of a pretrained policy")
    parser.add_argument("--corpus", required=True, help="folder written by mgen prepare")
    parser.add_argument("--target", default="jazz", help="style to continue prompts in")
    parser.add_argument("--critic", help="model folder of a style critic: its score is the reward")
    parser.add_argument("--out", help="folder for the improved policy")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--new_tokens", type=int, default=96)
    options = parser.parse_args(argv)
    torch.manual_seed(0)
    policy, remi = load_policy(options.policy)
    corpus = Corpus.open(options.corpus)
    reward: Reward = few_repeats
    if options.critic:
        critic = StyleCritic.from_pretrained(options.critic, corpus.remi)
        reward = lambda notes: critic(notes).score  # noqa: E731
    # Half of the prompts are of other styles; a style token in front says which style is asked for.
    prompts = PromptMix(corpus, options.target, 0.5, [12], options.new_tokens, seed=0)
    history = train(policy, remi, prompts, reward, options.steps, new_tokens=options.new_tokens)
    if options.out:
        policy.save_pretrained(options.out)
        remi.save_pretrained(options.out)
    return history


if __name__ == "__main__":
    main()
