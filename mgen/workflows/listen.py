"""Opens a blind listening study: pairs of clips from evaluations, folders of MIDI files and models.

    study = open_study(["runs/evaluation"], out="votes.sqlite")

`mgen.listen.serve.serve` shows it to raters, `mgen.workflows.votes.count_votes` reads the votes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.listen.clips import ClipFile, draw_pairs, from_midi, from_samples, is_evaluation, match_prompts
from mgen.listen.pair_audio import PairAudioCache, read_clip
from mgen.listen.vote_store import Study, VoteStore
from mgen.options import from_keywords, option, target_style
from mgen.progress import Progress, counted, silent
from mgen.sampling.samples import TOKENIZER, SamplePrompt, write_samples
from mgen.stored import read_json

SAMPLED = "sampled.json"  # in a folder of samples: the models and options that they were drawn with
MAX_PROMPTS = 256
PROMPT_TYPE = "continuation"


@dataclass
class ListenConfig:
    """Options of `mgen listen` for the study."""

    corpus: str = option("", "Folder written by mgen prepare; needed to sample from models.")
    systems: list[str] = option([], "Systems to compare; all by default.")
    pairs: int = option(30, "Pairs for each rater.", least=1)
    seconds: float = option(20.0, "Longest playing time of a clip.", least=3, most=120)
    question: str = option("Which do you like better?", "Question above each pair.")
    out: str = option("votes.sqlite", "File of the votes; an existing one is continued.")
    target: str = option("", "Style token in the prompts of models; by default the corpus's own style.")
    prompt_tokens: int = option(64, "Tokens of music in a prompt.", least=1)
    completion_tokens: int = option(192, "Tokens of a completion, real or sampled.", least=1)
    seed: int = option(0, "Seed of prompts, samples, pairs and orders.")

    def __post_init__(self) -> None:
        if not self.question.strip() or len(self.question) > 200:
            raise ValueError(f"question ({len(self.question)} letters) must have from 1 to 200")


@dataclass(frozen=True)
class ListeningStudy:
    """An open study: the votes file and the audio of its pairs."""

    store: VoteStore
    audio: PairAudioCache

    def close(self) -> None:
        self.audio.close()
        self.store.close()


def open_study(runs: Sequence[Path | str], progress: Progress | None = None, **options: Any) -> ListeningStudy:
    """Collects the clips of some runs, draws the pairs and opens the votes file; an earlier session is continued.

    Args:
        runs: each `FOLDER` or `NAME=FOLDER`: an evaluation, a folder of MIDI files, or a trained run or its model,
            which completes prompts of the test split of `corpus`.
        progress: receives a line per model that is sampled.
        options: fields of `ListenConfig`.

    Raises:
        MgenError: A run or an option is invalid, no two systems share a prompt, or the file holds another study.
    """
    config = from_keywords(ListenConfig, "listen", options)
    clip_files, vocabulary = collect_clips(name_runs(runs), config, progress or silent)
    study, pairs = make_study(clip_files, vocabulary, config)
    return ListeningStudy(VoteStore.open(config.out, study), PairAudioCache(pairs, config.seconds))


def name_runs(words: Sequence[Path | str]) -> dict[str, Path]:
    """Reads `NAME=FOLDER` or `FOLDER` words as folders by name; the name of RUN/model is RUN.

    Raises:
        MgenError: Two runs have one name, or a folder does not exist.
    """
    out: dict[str, Path] = {}
    for word in map(str, words):
        name, equals, folder = word.partition("=")
        path = Path(folder if equals else word)
        if not path.is_dir():
            raise MgenError(f"{word}: no such folder; give an evaluation, a folder of MIDI files or a trained run")
        if not equals:
            absolute = path.resolve()
            name = absolute.parent.name if absolute.name == "model" else absolute.name
        if not name or name in out or name == "real":
            raise MgenError(f"{word}: the name '{name}' is taken; give NAME=FOLDER")
        out[name] = path
    return out


def collect_clips(
    runs: Mapping[str, Path], config: ListenConfig, progress: Progress
) -> tuple[list[ClipFile], tuple[str, ...] | None]:
    """Returns the clips of all runs, matched by prompt, and the names of their tokens if there is one vocabulary."""
    found: dict[str, list[ClipFile]] = {}
    vocabularies: list[tuple[str, ...] | None] = []
    models: dict[str, Path] = {}
    for name, folder in runs.items():
        if is_evaluation(folder):
            found[name] = from_samples(folder)
            vocabularies.append(_vocabulary(folder))
        elif model := _model_folder(folder):
            models[name] = model
        else:
            found[name] = from_midi(folder, name)
    if models:
        folder = Path(config.out).with_suffix(".samples")
        sample_models(models, folder, config, progress)
        found = {folder.name: from_samples(folder), **found}
        vocabularies.insert(0, _vocabulary(folder))
    known = set(vocabularies)
    return match_prompts(found, config.systems, config.seed), known.pop() if len(known) == 1 else None


def sample_models(models: Mapping[str, Path], folder: Path, config: ListenConfig, progress: Progress) -> None:
    """Writes completions of the same test prompts by each model, and the real continuations, to a folder.

    A folder that already holds exactly these is kept.

    Raises:
        MgenError: There is no corpus, a model has another vocabulary, or the folder holds something else.
    """
    import numpy as np
    import torch

    from mgen.corpus.shards import Corpus
    from mgen.models.transformer import check_fits, check_vocabulary, load_policy
    from mgen.sampling.prompts import draw_prompts
    from mgen.sampling.systems import sample_completions

    if not config.corpus:
        raise MgenError(f"{', '.join(models)}: models, which need prompts; give --corpus, or an evaluation")
    corpus = Corpus.open(config.corpus)
    target = target_style(config.target, corpus.remi.style_ids)
    n, tokens = min(config.pairs, MAX_PROMPTS), (config.prompt_tokens, config.completion_tokens)
    request: dict[str, Any] = {"corpus": corpus.fingerprint, "n": n, "tokens": list(tokens), "target": target}
    request |= {"seed": config.seed, "models": {name: _weights_hash(path) for name, path in models.items()}}
    if (folder / SAMPLED).is_file():
        if read_json(folder / SAMPLED, "remove the folder or choose another --out") != request:
            raise MgenError(f"{folder}: holds samples of other models or options; choose another --out")
        return
    if folder.exists() and any(folder.iterdir()):
        raise MgenError(f"{folder}: not empty, and not complete; remove it or choose another --out")
    prompts = draw_prompts(corpus, "test", PROMPT_TYPE, n, *tokens, target, np.random.default_rng(config.seed))
    ids, remi = prompts.ids.tolist(), corpus.remi
    completions = {"real": prompts.windows[:, prompts.prompt_tokens :].tolist()}
    for name, path in counted(progress, "models", models.items()):
        model, own = load_policy(path)
        check_vocabulary(path, own, config.corpus, remi)
        check_fits(path, model.config, ("prompt_tokens", tokens[0]), ("completion_tokens", tokens[1]))
        model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        progress(f"{name} completes {n} prompts ...")
        completions[name] = sample_completions(model, ids, config.completion_tokens, remi, config.seed)
    named = [
        SamplePrompt(f"{PROMPT_TYPE}/{i:04d}", PROMPT_TYPE, work, ids[i])
        for i, work in enumerate(prompts.work.tolist())
    ]
    write_samples(folder, target, named, completions, remi)
    (folder / SAMPLED).write_text(json.dumps(request, indent=1))  # last: marks the folder as complete


def make_study(
    clip_files: Sequence[ClipFile], vocabulary: tuple[str, ...] | None, config: ListenConfig
) -> tuple[Study, list[tuple[ClipFile, ClipFile]]]:
    """Draws the pairs and reads each of their files once; returns the study and the files of its pairs."""
    drawn = draw_pairs(clip_files, config.pairs, config.seed)
    used = sorted({i for pair in drawn for i in pair})
    for i in used:
        read_clip(clip_files[i])
    place = {i: at for at, i in enumerate(used)}
    study = Study(
        " ".join(config.question.split()),
        config.seconds,
        config.seed,
        tuple(dict.fromkeys(clip_files[i].clip.system for i in used)),
        tuple(clip_files[i].clip for i in used),
        tuple((place[first], place[second]) for first, second in drawn),
        vocabulary,
    )
    return study, [(clip_files[first], clip_files[second]) for first, second in drawn]


def _model_folder(folder: Path) -> Path | None:
    return next((path for path in (folder / "model", folder) if (path / "config.json").is_file()), None)


def _vocabulary(folder: Path) -> tuple[str, ...] | None:
    for path in (folder / TOKENIZER, folder / "samples" / TOKENIZER):
        if path.is_dir():
            return tuple(Remi.from_pretrained(path).names)
    return None


def _weights_hash(model: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(model.glob("*.safetensors")):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
