"""Results of `mgen baseline drum-bass`: systems without training, scores on test, their table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mgen.arrays import Longs
from mgen.corpus.pairs import Pairs, PairSet, keys_of
from mgen.encoding.drum_bass import HOLD, KICK, LOWEST, PITCHES, REST, Bass, canonical
from mgen.music.keys import tonic_of
from mgen.sampling.drum_bass import Writer, nats_of, sample
from mgen.stats.bass_metrics import METRICS, Played, bass_scores, bass_values, repeats_of_drums
from mgen.stats.intervals import Interval, bootstrap, undefined_interval

Scores = dict[str, dict[str, Interval]]  # system -> metric

REAL, ANOTHER, ROOTS, MAJORITY = "real bass", "bass of another drum part", "root on every kick", "majority pattern"


def roots_on_kicks(drums: np.ndarray[Any, np.dtype[np.bool_]], key: Longs) -> Bass:
    """(N, T) the tonic, in the lowest octave, from each kick to the next; of a piece without a key C."""
    line = np.full(drums.shape[:2], HOLD, np.uint8)
    pitch = (tonic_of(key) - LOWEST) % 12
    window, step = np.nonzero(drums[:, :, KICK])
    line[window, step] = pitch[window]
    return canonical(line)


def majority_pattern(bass: Bass) -> Bass:
    """(T,) of lines (N, T) the most frequent of start, rest and hold at each step, and of starts the usual pitch."""
    starts = bass < PITCHES
    kind = np.stack([starts.sum(axis=0), (bass == REST).sum(axis=0), (bass == HOLD).sum(axis=0)]).argmax(axis=0)
    pitch = [int(np.bincount(bass[starts[:, step], step], minlength=1).argmax()) for step in range(bass.shape[1])]
    return canonical(np.where(kind == 0, pitch, PITCHES - 1 + kind))


def valid_metrics(prediction: Any, drums: np.ndarray[Any, np.dtype[np.bool_]], key: Longs) -> dict[str, float]:
    """The metrics of an evaluation by the trainer, each step predicted from the true ones before it.

    Args:
        prediction: of `transformers`: (N, T) predicted classes and (N, T) true ones.
    """
    values = bass_values(Played(drums, prediction.label_ids, prediction.predictions, key))
    return {name: values[name] for name in ("note_f1", "onset_f1", "bleu", "kicks_with_bass")}


def systems(name: str, model: Writer, train: Pairs, test: Pairs, samples: int, temperature: float, seed: int) -> Scores:
    """Scores on test of a network or policy, the real bass, and systems without training.

    Args:
        name: of the network.
        samples: lines for each drum part, for diversity; the other metrics are of the first.
        temperature: of the samples.
    """
    tensors = PairSet(test)
    batch = tensors.__getitems__(range(len(tensors)))
    lines = sample(model, batch["drums"], batch["conditions"], samples, temperature, seed)
    key, rng = keys_of(test), np.random.default_rng(seed)
    base = Played(test.drums, test.bass, test.bass, key)
    real = {**bass_scores(base, test.work), "auc": undefined_interval()}
    distance, window = repeats_of_drums(test.drums, test.bass, test.piece)
    if len(distance):
        real["diversity"] = bootstrap(distance, test.work[window])
    another = train.bass[rng.integers(len(train), size=len(test))]
    pattern = np.broadcast_to(majority_pattern(train.bass), test.bass.shape)
    nats = nats_of(model, tensors)
    return {
        name: bass_scores(replace(base, bass=lines[0], nats=nats, others=lines), test.work),
        REAL: real,
        ANOTHER: bass_scores(replace(base, bass=another), test.work),
        ROOTS: bass_scores(replace(base, bass=roots_on_kicks(test.drums, key)), test.work),
        MAJORITY: bass_scores(replace(base, bass=pattern), test.work),
    }


def table(scores: Scores, facts: Mapping[str, Any]) -> str:
    """The systems, and below them what was left out and where the valid loss was lowest."""
    names = [*METRICS, *(["kl"] if any("kl" in found for found in scores.values()) else [])]
    lines = ["| system | " + " | ".join(name.replace("_", " ") for name in names) + " |"]
    lines.append("| --- " * (len(names) + 1) + "|")
    for system, found in scores.items():
        lines.append(
            f"| {system} | " + " | ".join(found[name].cell() if name in found else "-" for name in names) + " |"
        )
    counts, works = facts["windows"], facts["works"]
    lines += ["", f"Test: {counts['test']['windows']} windows of {works['test']} works; 95 % intervals over works."]
    lines += [left_out_line(split, of) for split, of in counts.items()]
    if unknown := {name: n for name, n in facts.get("unknown", {}).items() if n}:
        words = ", ".join(f"{name} {n}" for name, n in unknown.items())
        lines.append(f"Windows of test with a condition that train does not have, taken as unknown: {words}.")
    losses = facts.get("losses", {})
    if losses.get("best_step") is not None:
        best, final = losses["best_eval_loss"], losses["final_eval_loss"]
        lines.append(
            f"Valid loss, nats per step: lowest {best:.4g} at step {losses['best_step']}, {final:.4g} at last."
        )
    return "\n".join(lines) + "\n"


def left_out_line(split: str, counts: Mapping[str, int]) -> str:
    """`train: 3686 windows of 241 pieces; left out: pieces off grid 38, few drums 208`."""
    reasons = [f"{reason} {n}" for reason, n in counts.items() if reason not in {"windows", "pieces"}]
    return (
        f"{split}: {counts['windows']} windows of {counts['pieces']} pieces; left out: {', '.join(reasons) or 'none'}"
    )
