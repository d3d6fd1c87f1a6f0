"""A complete model repository in a folder: weights, tokenizers, card, results, sounds. Sends nothing anywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from transformers import GenerationConfig

from mgen.encoding.remi import MIDITOK_FILE
from mgen.errors import MgenError
from mgen.hub.card import RELIABILITY, Page, Statement, write_card
from mgen.hub.clips import Choice, write_clips
from mgen.hub.private import check_private, public
from mgen.hub.results import Results, critic_numbers, preference_numbers, write_eval_results
from mgen.hub.trained import CRITIC_FILE, POLICY, Trained
from mgen.stats.intervals import Interval

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
COPIED = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    MIDITOK_FILE,
    CRITIC_FILE,
)
"""What is taken from RUN/model as it is, where it is there; nothing else of a run's files is published unread."""

TRAINING = "training"
EVALUATION = "evaluation"


@dataclass(frozen=True)
class Contents:
    """What a repository is made of.

    Attributes:
        trained: the run.
        statement: what only the person who publishes can say.
        corpus: corpus.json of the music; empty if not at hand.
        results: the evaluation; None without one.
        choice: pieces to listen to; None for none.
        places: what must not be named in any file -> what it is, in words.
    """

    trained: Trained
    statement: Statement
    corpus: Mapping[str, Any]
    results: Results | None
    choice: Choice | None
    places: Mapping[str, str]


def write_repository(out: Path, contents: Contents) -> list[str]:
    """Write the folder `out`: aside, looked through, then renamed into place.

    Returns:
        Its files, relative to it.

    Raises:
        MgenError: `out` is not empty, cannot be written, or a file would give away a place or a token.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MgenError(f"{out}: not empty; choose another folder")
    aside = out.with_name(f"{out.name}.part")
    try:
        if aside.exists():
            shutil.rmtree(aside)
        aside.mkdir(parents=True)
        _copy_model(contents.trained, aside)
        _write_training(contents.trained, aside)
        _write_measured(contents, aside)
        made = write_clips(aside, contents.choice, contents.trained.vocabulary) if contents.choice else {}
        source = contents.choice.source if contents.choice else ""
        write_card(
            aside / "README.md",
            Page(contents.trained, contents.statement, contents.corpus, contents.results, made, source),
        )
        check_private(aside, contents.places)
        if out.exists():
            out.rmdir()
        aside.rename(out)
    except OSError as error:
        raise MgenError(f"{out}: cannot be written ({error.strerror or error}); choose another folder") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


def generation_config(trained: Trained) -> GenerationConfig:
    """How the model is meant to be sampled: temperature 1 and nothing cut off, as it was trained and measured.

    Left to itself, `generate` keeps 50 tokens and does not cache.
    """
    remi = trained.vocabulary
    return GenerationConfig(
        bos_token_id=remi.bos_id,
        eos_token_id=remi.eos_id,
        pad_token_id=remi.pad_id,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_length=trained.context,
        use_cache=True,
    )


def measured(contents: Contents) -> dict[str, dict[str, Interval]]:
    """group -> metric -> number, of the evaluation or of what the run measured itself."""
    if contents.results:
        return contents.results.numbers()
    return critic_numbers(contents.trained.card) or preference_numbers(contents.trained.facts)


def _copy_model(trained: Trained, folder: Path) -> None:
    for pattern in WEIGHTS:
        for path in trained.model.glob(pattern):
            shutil.copyfile(path, folder / path.name)
    for name in COPIED:
        if (trained.model / name).is_file():
            shutil.copyfile(trained.model / name, folder / name)
    if trained.kind == POLICY:
        generation_config(trained).save_pretrained(folder)


def _write_training(trained: Trained, folder: Path) -> None:
    place = folder / TRAINING
    place.mkdir()
    (place / "config.yaml").write_text(yaml.safe_dump(public(trained.config), sort_keys=True))
    (place / "run.json").write_text(json.dumps(public(trained.facts), indent=1))
    log = trained.run / "metrics.jsonl"
    if log.is_file():
        lines = [json.dumps(public(json.loads(line))) for line in log.read_text().splitlines() if line.strip()]
        (place / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))


def _write_measured(contents: Contents, folder: Path) -> None:
    content = contents.results.content if contents.results else contents.trained.card
    if content:
        name = "metrics.json" if contents.results else "card.json"
        (folder / EVALUATION).mkdir()
        (folder / EVALUATION / name).write_text(json.dumps(public(content), indent=1))
        picture = contents.trained.run / RELIABILITY.name
        if picture.is_file() and not contents.results:
            shutil.copyfile(picture, folder / RELIABILITY)
    write_eval_results(
        folder,
        measured(contents),
        contents.statement.eval_dataset,
        contents.statement.url,
        contents.results.said() if contents.results else "",
    )
