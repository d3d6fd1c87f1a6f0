"""What there is to hear: the takes of evaluations and of folders of MIDI files, brought onto common prompts.

Models are played in `mgen.cli.listen`, which leaves an evaluation's samples to be read here.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mgen.errors import MgenError
from mgen.files import MIDI_EXTENSIONS
from mgen.listen.store import Take
from mgen.sampling.samples import INDEX, Sample, read_samples

STEPS_PER_QUARTER = 24


@dataclass(frozen=True, slots=True)
class Recording:
    """A take and where it is.

    Attributes:
        file: MIDI file.
        prompt_seconds: how long the part that all takes of the prompt share lasts; 0 without one.
    """

    take: Take
    file: Path
    prompt_seconds: float = 0.0


def is_evaluation(folder: Path) -> bool:
    """Whether `read_samples` can read it: the folder of an evaluation, or its samples."""
    if (folder / "samples" / INDEX).is_file():
        return True
    return "items" in _index(folder)


def from_samples(folder: Path, players: Sequence[str] = ()) -> list[Recording]:
    """The takes of an evaluation, of some of its players or of all.

    Two evaluations share a prompt where its name and its tokens are equal.

    Raises:
        MgenError: The samples cannot be read, or there are none of these players.
    """
    samples = read_samples(folder)
    out = [
        _recording(samples.folder / item.file, item, samples.tempo)
        for item in samples.items
        if not players or item.system in players
    ]
    if not out:
        wanted = f"none of {', '.join(players)} among {', '.join(samples.systems)}" if players else "no samples in it"
        raise MgenError(f"{folder}: {wanted}; choose --players, or evaluate again")
    return out


def from_midi(folder: Path, player: str) -> list[Recording]:
    """The MIDI files of a folder (not of those in it) as takes of one player, each of a prompt with the file's name.

    The index that `mgen generate` leaves tells what was continued: files of two folders with one name share a prompt
    only if their folders share what was continued.

    Raises:
        MgenError: There is no MIDI file.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in MIDI_EXTENSIONS and path.is_file())
    except OSError as error:
        raise MgenError(f"{folder}: {error.strerror}; give a folder of MIDI files, or an evaluation's") from error
    if not files:
        raise MgenError(
            f"{folder}: expected samples of mgen evaluate, MIDI files or a model, found none; evaluate first"
        )
    continued = _index(folder).get("prompt")
    mark = f" of {Path(continued).name}" if isinstance(continued, str) and continued else ""
    return [Recording(Take(player, f"{path.stem}{mark}", "", _digest(path)), path) for path in files]


def join(runs: Mapping[str, Sequence[Recording]], chosen: Sequence[str] = (), seed: int = 0) -> list[Recording]:
    """All takes on common prompts.

    A player of two runs gets the run's name in front, unless both mean the same music (real music of the same prompts
    is one player). Folders of files that share no prompt with any other run are set against the others at random.

    Args:
        runs: the takes of each run, by its name.
        chosen: players to keep; all without it.

    Raises:
        MgenError: A chosen player does not exist, or there is one player only.
    """
    known: dict[tuple[str, str], Recording] = {}
    owner: dict[str, str] = {}
    for run, recordings in runs.items():
        for player in dict.fromkeys(recording.take.player for recording in recordings):
            own = [recording for recording in recordings if recording.take.player == player]
            same = [known.get((player, recording.take.prompt)) for recording in own]
            twins = [other for other in same if other is not None]
            clash = any(
                other is not None and other.take.digest != recording.take.digest
                for other, recording in zip(same, own, strict=True)
            )
            is_other = player in owner and owner[player] != run and (clash or (player != "real" and not twins))
            name = f"{run}/{player}" if is_other else player
            owner.setdefault(name, run)
            for recording in own:
                known.setdefault((name, recording.take.prompt), _named(recording, name))
    players = list(dict.fromkeys(player for player, _ in known))
    for player in chosen:
        if player not in players:
            raise MgenError(f"--players {player}: expected some of {', '.join(players)}")
    players = [player for player in players if not chosen or player in chosen]
    if len(players) < 2:
        raise MgenError(
            f"expected two or more players to compare, found {', '.join(players) or 'none'}; "
            "give another RUN, or name more --players"
        )
    out = [recording for (player, _), recording in known.items() if player in players]
    return _matched(out, players, seed)


def _matched(recordings: list[Recording], players: Sequence[str], seed: int) -> list[Recording]:
    """Players that share no prompt with another get the prompts of the others, or numbers, at random."""
    count = Counter(recording.take.prompt for recording in recordings)
    of = {player: [one for one in recordings if one.take.player == player] for player in players}
    lonely = [player for player in players if all(count[one.take.prompt] == 1 for one in of[player])]
    # Tokens tell that a prompt was another one: only files without them may stand in for any prompt.
    lonely = [player for player in lonely if all(one.take.prompt_ids is None for one in of[player])]
    others = [player for player in players if player not in lonely]
    prompts = list(dict.fromkeys(one.take.prompt for player in others for one in of[player]))
    works = {one.take.prompt: one.take.work for player in others for one in of[player]}
    if not prompts:
        prompts = [f"at random {i:04d}" for i in range(max(map(len, of.values())))]
    for player in lonely:
        shuffled = list(of[player])
        random.Random(f"{seed} {player}").shuffle(shuffled)
        of[player] = [
            replace(one, take=replace(one.take, prompt=prompt, work=works.get(prompt, "")))
            for prompt, one in zip(prompts, shuffled, strict=False)
        ]
    return [one for player in players for one in of[player]]


def draw_pairs(recordings: Sequence[Recording], n: int, seed: int) -> list[tuple[int, int]]:
    """Up to n pairs of takes of one prompt, as indices into `recordings`, the player that came first in it first.

    The prompts are gone through in turn, so that a take is heard again only when there is nothing new; every two
    players meet equally often, to one, where all of them continued the prompts.

    Raises:
        MgenError: No prompt has takes of two players.
    """
    order = {player: i for i, player in enumerate(dict.fromkeys(one.take.player for one in recordings))}
    by_prompt: dict[str, list[int]] = {}
    for i, one in enumerate(recordings):
        by_prompt.setdefault(one.take.prompt, []).append(i)
    chance = random.Random(f"{seed} pairs")
    left: dict[str, list[tuple[int, int]]] = {}
    for prompt, takes in by_prompt.items():
        takes = sorted(takes, key=lambda i: order[recordings[i].take.player])
        left[prompt] = [(one, two) for at, one in enumerate(takes) for two in takes[at + 1 :]]
    left = {prompt: pairs for prompt, pairs in left.items() if pairs}
    if not left:
        raise MgenError(
            f"{', '.join(order)}: no prompt that two of them continued; give runs of one evaluation, or --corpus and "
            "models that continue its prompts"
        )
    met: Counter[tuple[str, str]] = Counter()
    out: list[tuple[int, int]] = []
    while left and len(out) < n:
        for prompt in chance.sample(sorted(left), len(left)):
            if len(out) == n:
                break
            pairs = left[prompt]
            chance.shuffle(pairs)
            best = min(pairs, key=lambda pair: met[_players(recordings, pair)])
            pairs.remove(best)
            met[_players(recordings, best)] += 1
            out.append(best)
            if not pairs:
                del left[prompt]
    return out


def _players(recordings: Sequence[Recording], pair: tuple[int, int]) -> tuple[str, str]:
    first, second = (recordings[i].take.player for i in pair)
    return first, second


def _recording(file: Path, item: Sample, tempo: float) -> Recording:
    prompt = f"{item.prompt} {_hash(item.prompt_ids)[:8]}"
    digest = _hash([item.prompt_ids, item.completion_ids])  # thousands of files need not be read
    take = Take(item.system, prompt, item.work, digest, tuple(item.prompt_ids), tuple(item.completion_ids))
    seconds = (item.prompt_end or 0) / STEPS_PER_QUARTER * 60 / tempo
    return Recording(take, file, seconds)


def _named(recording: Recording, player: str) -> Recording:
    return replace(recording, take=replace(recording.take, player=player))


def _index(folder: Path) -> dict[str, object]:
    try:
        content = json.loads((folder / INDEX).read_text())
    except (OSError, ValueError):  # none, or another program's: then only names tell
        return {}
    return content if isinstance(content, dict) else {}


def _hash(ids: object) -> str:
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise MgenError(f"{file}: {error.strerror}; mend it or leave it out") from error
