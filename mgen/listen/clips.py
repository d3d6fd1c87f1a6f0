"""Clips of a listening study: completions of evaluations and folders of MIDI files, matched by prompt."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mgen.corpus.scan import scan
from mgen.errors import MgenError, RejectedFile
from mgen.formats.files import read_bytes
from mgen.listen.vote_store import StudyClip
from mgen.notes import STEPS_PER_QUARTER
from mgen.sampling.samples import INDEX, Sample, read_samples
from mgen.stored import read_json


@dataclass(frozen=True, slots=True)
class ClipFile:
    """A clip and its file."""

    clip: StudyClip
    path: Path  # MIDI file
    prompt_seconds: float = 0.0  # length of the prompt, which all clips of the prompt share; 0 without one


def is_evaluation(folder: Path) -> bool:
    """Whether a folder is one of an evaluation, or of its samples."""
    return (folder / "samples" / INDEX).is_file() or "items" in _index(folder)


def from_samples(folder: Path) -> list[ClipFile]:
    """Reads the clips of an evaluation.

    Two evaluations share a prompt if its name and its tokens are equal.

    Raises:
        MgenError: The samples cannot be read, or there are none.
    """
    samples = read_samples(folder)
    if not samples.items:
        raise MgenError(f"{folder}: no samples in it; evaluate again")
    return [_clip_file(samples.folder / item.file, item, samples.tempo) for item in samples.items]


def from_midi(folder: Path, system: str) -> list[ClipFile]:
    """Reads the music files below a folder as clips of one system; a file's path without extension is the prompt.

    If the folder has an index of `mgen generate`, the prompt file in it is part of the prompt's name: files of equal
    names share a prompt only if their folders share the prompt file.

    Raises:
        MgenError: There is no music file, or one cannot be read.
    """
    try:
        sources = scan([folder]).sources
    except MgenError as error:
        raise MgenError(f"{error}, or samples of mgen evaluate, or a model") from error
    prompt = _index(folder).get("prompt")
    suffix = f" of {Path(prompt).name}" if isinstance(prompt, str) and prompt else ""
    names = [(source.file.parent.relative_to(folder) / source.song).as_posix() for source in sources]
    return [
        ClipFile(StudyClip(system, f"{name}{suffix}", "", _digest(source.file)), source.file)
        for name, source in zip(names, sources, strict=True)
    ]


def match_prompts(runs: Mapping[str, Sequence[ClipFile]], chosen: Sequence[str] = (), seed: int = 0) -> list[ClipFile]:
    """Joins the clips of several runs.

    A system of two runs is prefixed with the run's name, unless both have the same music (real music of the same
    prompts is one system). Folders of MIDI files that share no prompt with any other run are matched at random.

    Args:
        runs: name of a run -> its clips.
        chosen: systems to keep; empty for all.

    Raises:
        MgenError: A chosen system does not exist, or there are fewer than two systems.
    """
    known: dict[tuple[str, str], ClipFile] = {}
    owner: dict[str, str] = {}
    for run, files in runs.items():
        for system in dict.fromkeys(one.clip.system for one in files):
            own = [one for one in files if one.clip.system == system]
            pairs = [(known.get((system, one.clip.prompt)), one) for one in own]
            shared = [(other, one) for other, one in pairs if other is not None]
            conflict = any(other.clip.digest != one.clip.digest for other, one in shared)
            is_other = system in owner and owner[system] != run and (conflict or (system != "real" and not shared))
            name = f"{run}/{system}" if is_other else system
            owner.setdefault(name, run)
            for one in own:
                known.setdefault((name, one.clip.prompt), replace(one, clip=replace(one.clip, system=name)))
    systems = list(dict.fromkeys(system for system, _ in known))
    for system in chosen:
        if system not in systems:
            raise MgenError(f"--systems {system}: expected some of {', '.join(systems)}")
    systems = [system for system in systems if not chosen or system in chosen]
    if len(systems) < 2:
        problem = f"expected two or more systems to compare, found {', '.join(systems) or 'none'}"
        raise MgenError(f"{problem}; give another RUN, or name more --systems")
    return _match_unpaired([one for (system, _), one in known.items() if system in systems], systems, seed)


def _match_unpaired(files: list[ClipFile], systems: Sequence[str], seed: int) -> list[ClipFile]:
    """Gives systems that share no prompt with another the prompts of the others, or numbers, at random."""
    count = Counter(one.clip.prompt for one in files)
    of = {system: [one for one in files if one.clip.system == system] for system in systems}
    unpaired = [system for system in systems if all(count[one.clip.prompt] == 1 for one in of[system])]
    # With tokens the prompt is known to differ: only clips without tokens can be matched with any prompt.
    unpaired = [system for system in unpaired if all(one.clip.prompt_ids is None for one in of[system])]
    others = [system for system in systems if system not in unpaired]
    prompts = list(dict.fromkeys(one.clip.prompt for system in others for one in of[system]))
    works = {one.clip.prompt: one.clip.work for system in others for one in of[system]}
    if not prompts:
        prompts = [f"at random {i:04d}" for i in range(max(map(len, of.values())))]
    for system in unpaired:
        shuffled = list(of[system])
        random.Random(f"{seed} {system}").shuffle(shuffled)
        of[system] = [
            replace(one, clip=replace(one.clip, prompt=prompt, work=works.get(prompt, "")))
            for prompt, one in zip(prompts, shuffled, strict=False)
        ]
    return [one for system in systems for one in of[system]]


def draw_pairs(files: Sequence[ClipFile], n: int, seed: int) -> list[tuple[int, int]]:
    """Draws up to n pairs of clips of one prompt, as indices into `files`; the system that comes first there is first.

    Prompts take turns, so that a clip is repeated only when no new one is left; every two systems meet equally often,
    plus or minus one, if all of them completed the prompts.

    Raises:
        MgenError: No prompt has clips of two systems.
    """
    order = {system: i for i, system in enumerate(dict.fromkeys(one.clip.system for one in files))}
    by_prompt: dict[str, list[int]] = {}
    for i, one in enumerate(files):
        by_prompt.setdefault(one.clip.prompt, []).append(i)
    chance = random.Random(f"{seed} pairs")
    left: dict[str, list[tuple[int, int]]] = {}
    for prompt, clips in by_prompt.items():
        clips = sorted(clips, key=lambda i: order[files[i].clip.system])
        left[prompt] = [(first, second) for at, first in enumerate(clips) for second in clips[at + 1 :]]
    left = {prompt: pairs for prompt, pairs in left.items() if pairs}
    if not left:
        remedy = "give runs of one evaluation, or --corpus and models that complete its prompts"
        raise MgenError(f"{', '.join(order)}: no prompt that two of them completed; {remedy}")
    met: Counter[tuple[str, ...]] = Counter()

    def systems(pair: tuple[int, int]) -> tuple[str, ...]:
        return tuple(files[i].clip.system for i in pair)

    out: list[tuple[int, int]] = []
    while left and len(out) < n:
        for prompt in chance.sample(sorted(left), len(left)):
            if len(out) == n:
                break
            pairs = left[prompt]
            chance.shuffle(pairs)
            best = min(pairs, key=lambda pair: met[systems(pair)])
            pairs.remove(best)
            met[systems(best)] += 1
            out.append(best)
            if not pairs:
                del left[prompt]
    return out


def _clip_file(path: Path, item: Sample, tempo: float) -> ClipFile:
    prompt = f"{item.prompt} {_hash(item.prompt_ids)[:8]}"
    digest = _hash([item.prompt_ids, item.completion_ids])  # cheaper than reading thousands of files
    clip = StudyClip(item.system, prompt, item.work, digest, tuple(item.prompt_ids), tuple(item.completion_ids))
    return ClipFile(clip, path, (item.prompt_end or 0) / STEPS_PER_QUARTER * 60 / tempo)


def _index(folder: Path) -> dict[str, object]:
    try:
        return read_json(folder / INDEX, "")
    except MgenError:  # no index, or one of another program
        return {}


def _hash(ids: object) -> str:
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(read_bytes(file)).hexdigest()
    except RejectedFile as error:
        raise MgenError(f"{file}: {error}; repair it or leave it out") from error
