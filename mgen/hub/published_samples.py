"""Generated pieces on a model card: what the model wrote, and what the pretrained model wrote for the same prompts.

Only generated music is published. Real music, and prompts taken from it, are left out: the person who publishes the
model may have no right to distribute them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.models.pretrained import stated_context
from mgen.models.transformer import load_policy
from mgen.notes import Notes
from mgen.render.audio import ogg, synthesise
from mgen.sampling.samples import Samples
from mgen.sampling.systems import sample_completions

FOLDER = "samples"
TEMPO = 120.0
SEED = 0
FALLBACK_CONTEXT = 1024  # tokens of a piece where the model's configuration sets no limit

Piece = tuple[Sequence[int], Sequence[int]]  # tokens of a prompt and of its completion


@dataclass(frozen=True)
class PublishedSamples:
    """The pieces to publish.

    Attributes:
        pieces: column heading -> one piece per prompt; the same prompts in every column.
        tempo: quarters per minute.
        source: where the pieces come from, as a sentence for the card.
    """

    pieces: Mapping[str, Sequence[Piece]]
    tempo: float
    source: str


def from_evaluation(samples: Samples, name: str, pretrained: str, count: int) -> PublishedSamples | None:
    """Takes the first `count` prompts of an evaluation, completed by this model and by the pretrained one.

    Unconditional prompts are preferred, then continuations, then style transfer.

    Returns:
        None if the evaluation kept no piece of the model.
    """
    types = {item.prompt_type for item in samples.items if item.system == name}
    prompt_type = next((known for known in ("unconditional", "continuation", "transfer") if known in types), None)
    if prompt_type is None or count < 1:
        return None
    systems = {"pretrained": pretrained, "this model": name} if pretrained != name else {"this model": name}
    by_prompt: dict[str, dict[str, Piece]] = {}
    for item in samples.items:
        if item.prompt_type == prompt_type and item.system in systems.values():
            by_prompt.setdefault(item.prompt, {})[item.system] = (item.prompt_ids, item.completion_ids)
    complete = [pieces for pieces in by_prompt.values() if len(pieces) == len(systems)][:count]
    source = (
        f"Generated from the style token alone ({samples.target})."
        if prompt_type == "unconditional"
        else "The prompts were real music and are cut off: only the completions are published."
    )
    source += f" These are the first {len(complete)} prompts of the evaluation, not a selection."
    pieces = {heading: [pieces[system] for pieces in complete] for heading, system in systems.items()}
    return PublishedSamples(pieces, samples.tempo, source)


def from_model(model: Path, style: str, count: int) -> PublishedSamples | None:
    """Samples `count` unconditional pieces at temperature 1 with a fixed seed.

    Args:
        model: folder of a policy.
        style: style token of the prompt; empty for none.
    """
    if count < 1:
        return None
    policy, remi = load_policy(model)
    prompt = [remi.bos_id, *([remi.style_ids[style]] if style else [])]
    context = stated_context(policy.config) or FALLBACK_CONTEXT
    completions = sample_completions(policy, [prompt] * count, context - len(prompt), remi, SEED)
    prompted = f"the style token alone ({style})" if style else "an empty prompt"
    source = f"Generated from {prompted}; temperature 1, seed {SEED}, the first {count}, not a selection."
    return PublishedSamples({"this model": [(prompt, completion) for completion in completions]}, TEMPO, source)


def write_samples(folder: Path, samples: PublishedSamples, remi: Remi) -> dict[str, list[str | None]]:
    """Writes `samples/<number>_<heading>.mid` and `.ogg`: completions only, never a prompt.

    Returns:
        heading -> the path in the repository of the files for each prompt, without `.mid` or `.ogg`; None where the
            model wrote no note.

    Raises:
        MgenError: The folder cannot be written to.
    """
    place = folder / FOLDER
    out: dict[str, list[str | None]] = {}
    try:
        place.mkdir(parents=True, exist_ok=True)
        for heading, pieces in samples.pieces.items():
            prompts, completions = [list(prompt) for prompt, _ in pieces], [list(piece) for _, piece in pieces]
            notes = Notes.from_completions(prompts, completions, remi)
            out[heading] = [
                _write(folder, f"{i + 1:02d}_{heading.replace(' ', '_')}", notes, i, samples.tempo) if count else None
                for i, count in enumerate(notes.counts)
            ]
    except OSError as error:
        raise MgenError(f"{place}: cannot be written ({error.strerror or error}); choose another folder") from error
    return out


def _write(folder: Path, stem: str, notes: Notes, piece: int, tempo: float) -> str:
    name, score = f"{FOLDER}/{stem}", notes.to_score(piece, tempo)
    score.dump_midi(folder / f"{name}.mid")
    (folder / f"{name}.ogg").write_bytes(ogg(synthesise(score)))
    return name
