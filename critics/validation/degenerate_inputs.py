"""Degenerate inputs: what must never score as good music of the style, also by a critic not trained on its like."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from critics.style import StyleCritic
from critics.style.excerpts import draw_excerpts
from mgen.corpus.shards import Corpus
from mgen.models.transformer import check_vocabulary, context_length, load_policy
from mgen.notes import Notes
from mgen.progress import Progress, counted, silent
from mgen.sampling.prompts import draw_prompts
from mgen.sampling.systems import sample_completions
from mgen.stats.two_sample import first_notes
from mgen.transforms.degenerate import DEGENERATE_INPUTS, random_tokens
from mgen.transforms.hard_negatives import HARD_NEGATIVES

MAX_INPUTS = 1000  # inputs of each type, if the test split has as many excerpts
TOKENS_PER_NOTE = 4
PROMPT_TOKENS = 24
SAMPLES_AT_ONCE = 250
CONTEXT_MARGIN = 32


_LOOPS, _SHUFFLED = ("two_bar_loop", "bars_looped"), ("bars_shuffled", "segments_shuffled")

INPUT_TYPES: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in HARD_NEGATIVES},
    **dict.fromkeys(_LOOPS, _LOOPS),
    **dict.fromkeys(_SHUFFLED, _SHUFFLED),
    "held_note": ("one_pitch",),
    "single_note": ("one_pitch",),
    "empty": (),
}
"""Name in `HARD_NEGATIVES` or `DEGENERATE_INPUTS` -> hard negatives of this type; the second critic is trained without
them. Random tokens need a vocabulary and samples a policy: the caller adds them.
"""

TrainWithout = Callable[[Sequence[str]], StyleCritic]
"""Names of hard negatives to a critic that is trained without them."""


def degenerate_inputs(
    critic: StyleCritic,
    train_without: TrainWithout,
    corpus: Corpus,
    lengths: Sequence[int],
    policies: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Scores up to `MAX_INPUTS` inputs of each type, of the lengths of excerpts of the test split.

    Args:
        lengths: notes of the excerpts.
        policies: model folders of policies fine-tuned against other critics, whose samples are inputs too.
        progress: takes the count of the lengths.

    Returns:
        Length -> `compare_inputs`.
    """
    samples = {
        f"samples of {Path(name).resolve().parent.name}": policy_samples(
            name, corpus, critic.positive, TOKENS_PER_NOTE * max(lengths), seed
        )
        for name in policies
    }
    train_without = functools.cache(train_without)  # one training for all lengths
    results = {}
    for n_notes in counted(progress, "lengths: degenerate inputs", lengths):
        excerpts = draw_excerpts(corpus, critic.positive, n_notes, MAX_INPUTS, 4, seed, splits=("test",))
        rows = np.flatnonzero(excerpts.positive)
        real = excerpts.notes.pieces(np.random.default_rng(seed).permutation(rows)[:MAX_INPUTS])
        tokens = random_tokens(real, np.random.default_rng(seed), corpus.remi, TOKENS_PER_NOTE * n_notes)
        others = {"random_tokens": tokens}
        others |= {name: first_notes(notes, np.full(notes.n_pieces, n_notes)) for name, notes in samples.items()}
        results[str(n_notes)] = compare_inputs(critic, train_without, real, others, seed)
    return results


def policy_samples(model: str, corpus: Corpus, style: str, tokens: int, seed: int = 0) -> Notes:
    """`MAX_INPUTS` completions by a policy, half of them of prompts in other styles."""
    policy, remi = load_policy(model)
    check_vocabulary(model, remi, str(corpus.folder), corpus.remi)
    room = context_length(policy.config) - CONTEXT_MARGIN
    parts = []
    for prompt_type, stream in (("continuation", 8), ("transfer", 4)):
        rng = np.random.default_rng([seed, stream])
        prompts = draw_prompts(corpus, "test", prompt_type, MAX_INPUTS // 2, PROMPT_TOKENS, 1, style, rng)
        ids = [row.tolist() for row in prompts.ids]
        for begin in range(0, len(ids), SAMPLES_AT_ONCE):
            some = ids[begin : begin + SAMPLES_AT_ONCE]
            completions = sample_completions(policy, some, min(tokens, room), remi, seed + begin)
            parts.append(Notes.from_completions(some, completions, remi))
    return Notes.concat(parts)


def compare_inputs(
    critic: StyleCritic, train_without: TrainWithout, real: Notes, others: Mapping[str, Notes], seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Compares the scores of degenerate inputs with those of real music of the style.

    Args:
        critic: trained with all hard negatives.
        real: pieces of works that neither was trained on.
        others: further inputs that no critic is trained on, by name.

    Returns:
        Name -> `n`, `trained` (None where no hard negative is of this type) and `left_out`, scores of the two critics:
        `above_median` (share above the median of real music), `change` (mean score minus that of real music, nats) and
        `abstained` (share that was not judged).
    """
    critics: dict[tuple[str, ...], StyleCritic] = {(): critic}
    make = {**DEGENERATE_INPUTS, **HARD_NEGATIVES}
    inputs = {
        name: (make[name](real, np.random.default_rng([seed, number])), left_out)
        for number, (name, left_out) in enumerate(INPUT_TYPES.items())
    }
    inputs |= {name: (notes, ()) for name, notes in others.items()}
    rows: dict[str, dict[str, Any]] = {}
    for name, (notes, left_out) in inputs.items():
        if left_out not in critics:
            critics[left_out] = train_without(left_out)
        rows[name] = {
            "n": notes.n_pieces,
            "trained": _compare(critic, notes, real) if left_out else None,
            "left_out": _compare(critics[left_out], notes, real),
        }
    return rows


def _compare(critic: StyleCritic, notes: Notes, real: Notes) -> dict[str, float]:
    judged, reference = critic(notes), critic(real).score
    return {
        "above_median": float((judged.score > np.median(reference)).mean()),
        "change": float(judged.score.mean() - reference.mean()),
        "abstained": float(1 - judged.defined.mean()),
    }
