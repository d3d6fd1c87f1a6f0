"""What the page of a critic of traits says of it: it is no stock model, so little of the other pages fits.

Reads critic.json and card.json as data; knows no critic.
"""

from __future__ import annotations

from typing import Any

from mgen.hub.trained import Trained


def what(trained: Trained, size: str) -> str:
    """The first paragraph.

    Args:
        size: of its networks together, in words; may be empty.
    """
    return (
        f"An ensemble of {len(_members(trained))} small networks{size} that hears a piece of symbolic music (MIDI) by "
        "its traits: harmony, melody, rhythm, texture and what returns, as shares and means that music has in any file "
        f"format. It says log P({trained.style or 'its style'} | piece) in nats, both styles being equally likely "
        "beforehand."
    )


def how(trained: Trained) -> str:
    """What it was trained on, in a sentence."""
    about = trained.critic.get("trained_on") or {}
    counts = f"{about['excerpts']:,} excerpts of {about['works']:,} works, " if "excerpts" in about else "excerpts "
    lengths = about.get("lengths") or []
    span = f"of {min(lengths)} to {max(lengths)} notes, " if lengths else ""
    ways = f" in {len(about['broken'])} ways" if about.get("broken") else ""
    return (
        f"It was trained on {counts}{span}on copies of them in other formats (other grids, uneven timing, other keys, "
        f"other loudness), and against music that was broken{ways} and kept its format."
    )


def shape(trained: Trained, parameters: str) -> list[tuple[str, str]]:
    """What the model is, as name and value."""
    asked: dict[str, list[str]] = {}
    for member in _members(trained):
        asked.setdefault(str(member.get("question")), []).append(str(member.get("view")))
    questions = {"style": "the style or other music", "whole": "music or broken music"}
    return [
        ("architecture", "networks of one hidden layer on traits, in mgen's own files: no `transformers` model"),
        ("parameters", parameters),
        *((f"asked for {questions.get(key, key)}", f"views {', '.join(views)}") for key, views in asked.items()),
        ("answer", "mean of the members less their spread, calibrated; tokens and tokenizers do not enter"),
    ]


def calibrated(trained: Trained, test: dict[str, Any]) -> list[str]:
    """How the score became nats, and when it says nothing."""
    parts = [
        f"{name} scale {line['scale']:.3f}, bias {line['bias']:.3f}"
        for key, name in (("style", "style"), ("whole", "whole music"))
        if isinstance(line := trained.critic.get(key), dict)
    ]
    prior = trained.critic.get("broken_prior")
    supposed = f"; {prior:.0%} of the pieces that come in are supposed to be no whole music" if prior else ""
    return [
        f"Calibrated on the valid split: {'; '.join(parts)}{supposed}. Expected calibration error on test "
        f"{test.get('ece', 0):.3f}."
    ]


def limits(trained: Trained) -> list[str]:
    """What it cannot hear, and when it does not judge."""
    worst, fewest = trained.critic.get("worst"), trained.critic.get("min_notes")
    lines = [
        "It hears shares and means: a piece that mixes styles in the right proportions may please it, and form beyond "
        "neighbouring bars is not heard. Key, register, tempo, loudness and the lengths of notes do not enter.",
    ]
    if isinstance(worst, float):
        lines.append(
            f"A piece of fewer than {fewest} notes, or one that is unlike all real music it learned from, is not "
            f"judged: it gets the worst score, {worst:.2f} nats."
        )
    return lines


def _members(trained: Trained) -> list[dict[str, Any]]:
    return list(trained.critic.get("members") or [])
