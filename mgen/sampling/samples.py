"""Completions of the same prompts by several systems, as files: MIDI to open anywhere, and an index of them.

`samples/index.json` lists every file with its prompt and tokens. The files are in the same folder, one subfolder per
system, and the vocabulary is in `tokenizer/`. Nothing here samples or measures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.files import write_atomically
from mgen.notes import Notes
from mgen.renames import check_metrics_keys
from mgen.stored import explain_damage, finite, read_json

INDEX = "index.json"
TOKENIZER = "tokenizer"


@dataclass(frozen=True, slots=True)
class SamplePrompt:
    """One prompt of `write_samples`.

    Attributes:
        name: such as `continuation/0003`.
        prompt_type: one of `mgen.sampling.prompts.PROMPT_TYPES`.
        work: that the prompt was taken from; empty without one.
        token_ids: of the prompt, BOS and style token included.
    """

    name: str
    prompt_type: str
    work: str
    token_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Sample:
    """One system's completion of one prompt.

    Attributes:
        prompt, prompt_type, work: see `SamplePrompt`; the same for every system.
        system: as in the tables; `real` for the work's own continuation.
        file: MIDI file of prompt and completion, relative to the folder of the index.
        prompt_end: grid step (24 per quarter) where the prompt ends; None if it has no notes.
        prompt_ids, completion_ids: tokens.
    """

    prompt: str
    prompt_type: str
    work: str
    system: str
    file: str
    prompt_end: int | None
    prompt_ids: list[int]
    completion_ids: list[int]


@dataclass(frozen=True, slots=True)
class Samples:
    """All samples in one folder.

    Attributes:
        folder: where the files of `items` are.
        target: target style of the prompts.
        tempo: of the files, in quarter notes per minute; the models know none.
        systems: in the order of the tables.
    """

    folder: Path
    target: str
    tempo: float
    systems: list[str]
    items: list[Sample]


@dataclass(frozen=True, slots=True)
class PromptedPiece:
    """A prompt and its completion as one piece.

    Attributes:
        notes: one piece.
        prompt_end: as in `Sample`.
    """

    notes: Notes
    prompt_end: int | None


def decode_with_prompt(prompt_ids: Sequence[int], completion_ids: Sequence[int], remi: Remi) -> PromptedPiece:
    """Decodes prompt and completion as one piece; leading BOS and style tokens are skipped."""
    special = {remi.bos_id, *remi.style_ids.values()}
    head = next((i for i, token in enumerate(prompt_ids) if token not in special), len(prompt_ids))
    notes = Notes.from_ids([[*prompt_ids, *completion_ids]], remi, start=head)
    given = notes.onset[notes.token < len(prompt_ids) - head]
    return PromptedPiece(notes, int(given.max()) + 1 if len(given) else None)


def folder_name(system: str) -> str:
    """Turns a system's name into the name of a folder."""
    return re.sub(r"[^\w.+-]+", "_", system).strip("._") or "system"


def write_samples(
    folder: Path,
    target: str,
    prompts: Sequence[SamplePrompt],
    completions: Mapping[str, Sequence[Sequence[int]]],
    remi: Remi,
    tempo: float = 120.0,
) -> Samples:
    """Writes the MIDI files, the vocabulary and, last, the index.

    Args:
        folder: created if it does not exist.
        completions: system -> tokens of its completion of each prompt, in the order of `prompts`.

    Raises:
        MgenError: Two systems' names make one folder name, or a system lacks completions.
    """
    folders = {system: folder_name(system) for system in completions}
    if len({TOKENIZER, *folders.values()}) <= len(folders):
        raise MgenError(f"samples: two of the systems {', '.join(folders)} make one folder name; rename one")
    items = []
    for system, rows in completions.items():
        if len(rows) != len(prompts):
            raise MgenError(f"samples: {system} has completions of {len(rows)} of {len(prompts)} prompts; expected all")
        (folder / folders[system]).mkdir(parents=True, exist_ok=True)
        for prompt, row in zip(prompts, rows, strict=True):
            piece = decode_with_prompt(prompt.token_ids, row, remi)
            file = f"{folders[system]}/{prompt.name.replace('/', '_')}.mid"
            piece.notes.to_score(0, tempo).dump_midi(folder / file)
            ids = [int(token) for token in prompt.token_ids], [int(token) for token in row]
            items.append(Sample(prompt.name, prompt.prompt_type, prompt.work, system, file, piece.prompt_end, *ids))
    remi.save_pretrained(folder / TOKENIZER)
    index = {"target": target, "tempo": tempo, "systems": list(completions), "items": [asdict(item) for item in items]}
    write_atomically(folder / INDEX, json.dumps(index))
    return Samples(folder, target, tempo, list(completions), items)


def read_samples(folder: Path | str) -> Samples:
    """Reads what `write_samples` wrote; `folder` may also be the evaluation's, which has `samples/` in it.

    Raises:
        MgenError: The index is missing, unreadable or of an older version, or it names a missing file or one outside
            the folder.
    """
    folder = Path(folder)
    if not (folder / INDEX).is_file() and (folder / "samples" / INDEX).is_file():
        folder = folder / "samples"
    path = folder / INDEX
    keys = [field.name for field in fields(Sample)]
    content = read_json(path, "give the folder of an evaluation, which has samples/")
    check_metrics_keys(path, content)
    with explain_damage(path, "evaluate again"):
        items = [Sample(**{key: item[key] for key in keys}) for item in content["items"]]
        target, tempo, systems = content["target"], finite(content["tempo"]), content["systems"]
        typed = isinstance(target, str) and isinstance(systems, list) and all(map(_is_sample, items))
        if tempo <= 0 or not typed:
            raise ValueError("the target, the tempo or a sample has values of other types")
        for item in items:
            file = folder / item.file
            if not file.resolve().is_relative_to(folder.resolve()) or not file.is_file():
                raise MgenError(f"{path}: names {item.file}, which is not a file in {folder}; evaluate again")
        return Samples(folder, target, tempo, systems, items)


def _is_sample(item: Sample) -> bool:
    """Whether the values of a sample have the types of its fields."""
    texts = (item.prompt, item.prompt_type, item.work, item.system, item.file)
    numbers = [*item.prompt_ids, *item.completion_ids, item.prompt_end or 0]
    return all(isinstance(text, str) for text in texts) and all(type(n) is int and n >= 0 for n in numbers)
