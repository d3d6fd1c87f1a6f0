"""Pieces to listen to on a model's page: what the model made, and what its parent made of the same prompt.

Only music that a model wrote is published. Real music, and prompts taken from it, stay out: they belong to whoever
made them, and the person who pushes may have no right to give them away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.models.transformer import load_policy
from mgen.notes import Notes
from mgen.render.audio import ogg, synthesise
from mgen.sampling.rollout import Decoding, sample
from mgen.sampling.samples import Samples

FOLDER = "samples"
TEMPO = 120.0
SEED = 0

Pair = tuple[Sequence[int], Sequence[int]]
"""Tokens of a prompt and of its completion."""


@dataclass(frozen=True)
class Choice:
    """What is to be published.

    Attributes:
        takes: heading -> one piece a prompt; the same prompts under every heading.
        tempo: quarters a minute.
        source: where the pieces come from, as a sentence for the reader.
    """

    takes: Mapping[str, Sequence[Pair]]
    tempo: float
    source: str


@dataclass(frozen=True)
class Clip:
    """One published piece: its two files, below the folder of the repository."""

    midi: str
    sound: str


def from_evaluation(samples: Samples, name: str, pretrained: str, count: int) -> Choice | None:
    """The first `count` prompts of an evaluation, as this model and the pretrained one went on.

    Prompts without music come first; if there are none, prompts of the style are cut off.

    Returns:
        None if the evaluation kept no piece of the model.
    """
    prompt_types = [item.prompt_type for item in samples.items if item.system == name]
    prompt_type = next((one for one in ("unconditional", "continuation", "transfer") if one in prompt_types), None)
    if prompt_type is None or count < 1:
        return None
    players = {"before": pretrained, "this model": name} if pretrained != name else {"this model": name}
    by_prompt: dict[str, dict[str, Pair]] = {}
    for item in samples.items:
        if item.prompt_type == prompt_type and item.system in players.values():
            by_prompt.setdefault(item.prompt, {})[item.system] = (item.prompt_ids, item.completion_ids)
    whole = [takes for takes in by_prompt.values() if len(takes) == len(players)][:count]
    source = (
        f"Only the style was asked for ({samples.target}); there was no music in the prompt."
        if prompt_type == "unconditional"
        else "The prompts were real music and are cut off: what is heard is the model's own continuation."
    )
    source += f" These are the evaluation's first {len(whole)} prompts; nobody chose them."
    return Choice(
        {heading: [takes[player] for takes in whole] for heading, player in players.items()}, samples.tempo, source
    )


def from_model(model: Path, style: str, count: int) -> Choice | None:
    """`count` pieces that the model writes from nothing, at temperature 1 and with a seed nobody chose.

    Args:
        model: folder of a policy.
        style: that is asked for; empty for none.
    """
    if count < 1:
        return None
    policy, remi = load_policy(model)
    prompt = [remi.bos_id, *([remi.style_ids[style]] if style else [])]
    decoding = Decoding(max_new_tokens=policy.config.max_position_embeddings - len(prompt))
    generator = torch.Generator(policy.device).manual_seed(SEED)
    completions, _ = sample(policy, [prompt] * count, decoding, remi.eos_id, remi.pad_id, generator).lists()
    asked = f"Only the style was asked for ({style})" if style else "Nothing was asked for"
    source = f"{asked}; temperature 1, seed {SEED}, the first {count}; nobody chose them."
    return Choice({"this model": [(prompt, completion) for completion in completions]}, TEMPO, source)


def write_clips(folder: Path, choice: Choice, remi: Remi) -> dict[str, list[Clip | None]]:
    """Write `samples/<number>_<heading>.mid` and `.ogg`: completions alone, never a prompt.

    Returns:
        heading -> a clip for each prompt, None where the model wrote no note.

    Raises:
        MgenError: The folder cannot be written to.
    """
    place = folder / FOLDER
    out: dict[str, list[Clip | None]] = {}
    try:
        place.mkdir(parents=True, exist_ok=True)
        for heading, pairs in choice.takes.items():
            prompts, completions = [list(prompt) for prompt, _ in pairs], [list(made) for _, made in pairs]
            notes = Notes.from_completions(prompts, completions, remi)
            out[heading] = [
                _write(place, f"{i + 1:02d}_{heading.replace(' ', '_')}", notes, i, choice.tempo)
                if notes.counts[i]
                else None
                for i in range(notes.n_pieces)
            ]
    except OSError as error:
        raise MgenError(f"{place}: cannot be written ({error.strerror or error}); choose another folder") from error
    return out


def _write(place: Path, name: str, notes: Notes, piece: int, tempo: float) -> Clip:
    score = notes.to_score(piece, tempo)
    score.dump_midi(place / f"{name}.mid")
    (place / f"{name}.ogg").write_bytes(ogg(synthesise(score)))
    return Clip(f"{FOLDER}/{name}.mid", f"{FOLDER}/{name}.ogg")
