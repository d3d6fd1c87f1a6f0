"""What players made of the same prompts, as files: MIDI to open anywhere, and an index that says who played what.

`samples/index.json` lists every file with its prompt and tokens; the files lie beside it, one folder a player, and the
vocabulary in `tokenizer/`.
Nothing here samples or measures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.notes import Notes

INDEX = "index.json"
TOKENIZER = "tokenizer"
_KEYS = ("prompt", "kind", "work", "player", "file", "prompt_end", "prompt_ids", "completion_ids")


@dataclass(frozen=True, slots=True)
class Sample:
    """One player's continuation of one prompt.

    Attributes:
        prompt: its name, the same for every player: `continue/0003`.
        kind: of prompt.
        work: that the prompt was taken from; empty without one.
        player: as in the tables; `real` for what the work itself did next.
        file: MIDI file of prompt and completion, below the folder of the index.
        prompt_end: grid step (24 a quarter) where the prompt ends; None without notes in it.
        prompt_ids, completion_ids: tokens.
    """

    prompt: str
    kind: str
    work: str
    player: str
    file: str
    prompt_end: int | None
    prompt_ids: list[int]
    completion_ids: list[int]


@dataclass(frozen=True, slots=True)
class Samples:
    """Everything in one folder.

    Attributes:
        folder: where the files of `items` lie.
        target: style that was asked for.
        tempo: quarters a minute of the files; the models know none.
        players: in the order of the tables.
    """

    folder: Path
    target: str
    tempo: float
    players: list[str]
    items: list[Sample]


@dataclass(frozen=True, slots=True)
class Whole:
    """A prompt and its completion as one piece.

    Attributes:
        notes: one piece.
        prompt_end: as in `Sample`.
    """

    notes: Notes
    prompt_end: int | None


def whole(prompt_ids: Sequence[int], completion_ids: Sequence[int], remi: Remi) -> Whole:
    """Prompt and completion as one piece; BOS and style tokens in front are no music."""
    named = {remi.bos_id, *remi.style_ids.values()}
    head = next((i for i, token in enumerate(prompt_ids) if token not in named), len(prompt_ids))
    notes = Notes.from_ids([[*prompt_ids, *completion_ids]], remi, start=head)
    given = notes.onset[notes.token < len(prompt_ids) - head]
    return Whole(notes, int(given.max()) + 1 if len(given) else None)


def file_name(player: str) -> str:
    """A player's name as the name of a folder."""
    return re.sub(r"[^\w.+-]+", "_", player).strip("._") or "player"


def write_samples(
    folder: Path,
    target: str,
    prompts: Sequence[tuple[str, str, str, Sequence[int]]],
    completions: Mapping[str, Sequence[Sequence[int]]],
    remi: Remi,
    tempo: float = 120.0,
) -> Samples:
    """Write the MIDI files, the vocabulary and, last, the index.

    Args:
        folder: made if it is not there.
        prompts: name, kind, work and tokens of each.
        completions: player -> tokens of its continuation of each prompt, in the order of `prompts`.

    Raises:
        MgenError: Two players' names make one folder, or a player has not continued every prompt.
    """
    folders = {player: file_name(player) for player in completions}
    if len({TOKENIZER, *folders.values()}) <= len(folders):
        raise MgenError(f"samples: two of the players {', '.join(folders)} make one folder name; rename one")
    items = []
    for player, rows in completions.items():
        if len(rows) != len(prompts):
            raise MgenError(f"samples: {player} continued {len(rows)} of {len(prompts)} prompts; expected all")
        (folder / folders[player]).mkdir(parents=True, exist_ok=True)
        for (name, kind, work, prompt_ids), row in zip(prompts, rows, strict=True):
            piece = whole(prompt_ids, row, remi)
            file = f"{folders[player]}/{name.replace('/', '_')}.mid"
            piece.notes.to_score(0, tempo).dump_midi(folder / file)
            ids = [int(token) for token in prompt_ids], [int(token) for token in row]
            items.append(Sample(name, kind, work, player, file, piece.prompt_end, *ids))
    remi.save_pretrained(folder / TOKENIZER)
    index = {"target": target, "tempo": tempo, "players": list(completions), "items": [asdict(item) for item in items]}
    aside = folder / f"{INDEX}.part"
    aside.write_text(json.dumps(index))
    aside.replace(folder / INDEX)
    return Samples(folder, target, tempo, list(completions), items)


def read_samples(folder: Path | str) -> Samples:
    """What `write_samples` wrote; `folder` may also be the evaluation's, with `samples/` in it.

    Raises:
        MgenError: There is no index, it cannot be read, or it names a file that is outside the folder or missing.
    """
    folder = Path(folder)
    if not (folder / INDEX).is_file() and (folder / "samples" / INDEX).is_file():
        folder = folder / "samples"
    path = folder / INDEX
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        items = [Sample(**{key: item[key] for key in _KEYS}) for item in content["items"]]
        samples = Samples(folder, content["target"], float(content["tempo"]), list(content["players"]), items)
    except OSError as error:
        raise MgenError(f"{path}: {error.strerror}; give the folder of an evaluation, which has samples/") from error
    except (ValueError, KeyError, TypeError) as error:
        raise MgenError(f"{path}: no index of samples ({error!r}); evaluate again") from error
    for item in samples.items:
        file = folder / item.file
        if not file.resolve().is_relative_to(folder.resolve()) or not file.is_file():
            raise MgenError(f"{path}: names {item.file}, which is not a file in {folder}; evaluate again")
    return samples
