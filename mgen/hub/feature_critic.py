"""Parts of the model card of a feature critic, which is no `transformers` model.

Reads critic.json and card.json as data; knows no critic.
"""

from __future__ import annotations

from typing import Any

from mgen.hub.trained_run import TrainedRun


def summary(run: TrainedRun, size: str) -> str:
    """What the model is.

    Args:
        size: of all its networks together, in words; may be empty.
    """
    return (
        f"An ensemble of {len(_members(run))} small networks{size} that estimates log P({run.style or 'its style'} | "
        "piece) of symbolic music (MIDI), in nats with equal prior odds. Its input is style features: statistics of "
        "harmony, melody, rhythm, texture and repetition that do not depend on the file format."
    )


def training(run: TrainedRun) -> str:
    """What it was trained on, in a sentence."""
    data = run.critic.get("trained_on") or {}
    counts = f"{data['excerpts']:,} excerpts of {data['works']:,} works, " if "excerpts" in data else "excerpts "
    lengths = data.get("lengths") or []
    span = f"of {min(lengths)} to {max(lengths)} notes, " if lengths else ""
    ways = f" in {len(data['negatives'])} ways" if data.get("negatives") else ""
    return (
        f"It was trained on {counts}{span}on format augmentations of them (other grids, uneven timing, other keys, "
        f"other loudness), and against music that was corrupted{ways} with its format kept."
    )


def shape(run: TrainedRun, parameters: str) -> list[tuple[str, str]]:
    """Facts about the model, as (name, value)."""
    views: dict[str, list[str]] = {}
    for member in _members(run):
        views.setdefault(str(member.get("question")), []).append(str(member.get("view")))
    tasks = {"style": "the style against other music", "intact": "intact against corrupted music"}
    return [
        ("architecture", "networks with one hidden layer on style features, in files of mgen: no `transformers` model"),
        ("parameters", parameters),
        *((f"members for {tasks.get(task, task)}", f"features {', '.join(names)}") for task, names in views.items()),
        ("output", "mean of the members minus their spread, calibrated; it needs no tokenizer"),
    ]


def calibration(run: TrainedRun, test: dict[str, Any]) -> list[str]:
    """How the score becomes a log-probability."""
    parts = [
        f"{name} scale {line['scale']:.3f}, bias {line['bias']:.3f}"
        for key, name in (("style", "style"), ("intact", "intact music"))
        if isinstance(line := run.critic.get(key), dict)
    ]
    prior = run.critic.get("corrupted_prior")
    assumed = f"; {prior:.0%} of the inputs are assumed to be corrupted" if prior else ""
    return [
        f"Calibrated on the valid split: {'; '.join(parts)}{assumed}. Expected calibration error on test "
        f"{test.get('ece', 0):.3f}."
    ]


def limits(run: TrainedRun) -> list[str]:
    """What the features leave out, and when the critic abstains."""
    worst, fewest = run.critic.get("worst"), run.critic.get("min_notes")
    lines = [
        "It reads shares and means: a mixture of styles in the right proportions may get a high score, and form beyond "
        "neighbouring bars is not seen. Key, register, tempo, loudness and note lengths are not part of its input.",
    ]
    if isinstance(worst, float):
        lines.append(
            f"It abstains on a piece of fewer than {fewest} notes and gives its worst score, {worst:.2f} nats. A piece "
            "farther from real music than nearly all real music loses nats in proportion (out-of-distribution guard)."
        )
    return lines


def _members(run: TrainedRun) -> list[dict[str, Any]]:
    return list(run.critic.get("members") or [])
