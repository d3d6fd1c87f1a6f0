"""A trained run to the Hugging Face Hub: weights, tokenizers, a card with what was measured, and sounds.

    mgen push runs/jazz ada/jazz --evaluation runs/evaluation --license cc-by-4.0
    mgen push runs/jazz ada/jazz --evaluation runs/evaluation --dry-run jazz_repository

For policies and for critics. The folder that is pushed is RUN/hub; with --dry-run it is DIR, and nothing is pushed. No
music of the corpus is published, no folder of this machine and no token; a licence is never guessed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mgen.cli.options import parse
from mgen.errors import MgenError
from mgen.hub.card import Statement
from mgen.hub.clips import Choice, from_evaluation, from_model
from mgen.hub.licences import near, slug
from mgen.hub.push import check_repo, endpoint, push
from mgen.hub.repository import Contents, write_repository
from mgen.hub.results import Results
from mgen.hub.trained import POLICY, Trained
from mgen.sampling.samples import read_samples

FOLDER = "hub"
"""Below RUN: what is pushed."""

NOBODY = "your-name"
"""The user in a card that was made without REPO."""


@dataclass
class PushConfig:
    """Options of `mgen push`."""

    evaluation: str = field(
        default="", metadata={"help": "Folder of mgen evaluate with this model in it: its numbers and samples."}
    )
    name: str = field(
        default="", metadata={"help": "Row of the evaluation that is this model; the run's name if not given."}
    )
    license: str = field(default="", metadata={"help": "Licence of the weights, as the Hub calls it; none by default."})
    license_link: str = field(default="", metadata={"help": "Where the text of that licence stands."})
    data_license: str = field(default="", metadata={"help": "Licence of the music, in words."})
    datasets: list[str] = field(
        default_factory=list, metadata={"help": "Hub ids of the data sets it was trained on, if they are there."}
    )
    base_model: str = field(default="", metadata={"help": "Hub id of the model it was tuned from, if it is there."})
    eval_dataset: str = field(
        default="",
        metadata={
            "help": "Hub id of the data set that results are reported for; USER/mgen-HASH OF THE CORPUS by default."
        },
    )
    corpus: str = field(default="", metadata={"help": "The corpus, if it is no longer where the run found it."})
    samples: int = field(default=3, metadata={"help": "Prompts of which the pieces can be heard; 0 for none."})
    private: bool = field(default=False, metadata={"help": "A repository that is made now is private."})
    revision: str = field(default="", metadata={"help": "Branch; main by default."})
    message: str = field(default="", metadata={"help": "Of the commit."})
    dry_run: str = field(default="", metadata={"help": "Make the folder DIR, new or empty, and push nothing."})
    json: bool = field(default=False, metadata={"help": "Print what was made as one JSON object."})

    def __post_init__(self) -> None:
        if self.samples < 0:
            raise ValueError(f"samples ({self.samples}) must be at least 0")
        for option, ids in (
            ("datasets", self.datasets),
            ("base_model", [self.base_model]),
            ("eval_dataset", [self.eval_dataset]),
        ):
            for id_ in filter(None, ids):
                if id_.count("/") > 1 or id_.startswith(("/", ".", "~")):
                    raise ValueError(f"{option} '{id_}': expected a Hub id, such as user/name")


def main(argv: Sequence[str] | None = None) -> int:
    """Make the folder and push it; returns the exit code."""

    def positional(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("run", metavar="RUN", help="folder of a finished training run")
        parser.add_argument(
            "repo", metavar="REPO", nargs="?", default="", help="user/name on the Hub; may be left out with --dry-run"
        )

    config, words = parse(
        places_first(sys.argv[1:] if argv is None else argv),
        PushConfig,
        program="mgen push",
        example="mgen push runs/jazz ada/jazz --evaluation runs/evaluation --license cc-by-4.0",
        positional=positional,
    )
    if not words.repo and not config.dry_run:
        raise MgenError("mgen push: expected REPO (user/name) after RUN, got none; see --help")
    if words.repo:
        check_repo(words.repo)
    contents = gather(Path(words.run), words.repo, config)
    out = Path(config.dry_run) if config.dry_run else contents.trained.run / FOLDER
    if not config.dry_run and out.exists():
        shutil.rmtree(out)  # of the push before
    made = write_repository(out, contents)
    size = sum((out / name).stat().st_size for name in made)
    facts = {"folder": str(out), "files": made, "bytes": size, "repo": contents.statement.repo, "url": "", "commit": ""}
    if not config.dry_run:
        message = config.message or f"{contents.trained.name}: mgen {contents.trained.command}"
        pushed = push(out, words.repo, message, config.private, config.revision)
        facts |= {"url": pushed.url, "commit": pushed.commit}
    if config.json:
        print(json.dumps(facts))
    else:
        _summary(out, made, size, contents, str(facts["url"]))
    return 0


def places_first(words: Sequence[str]) -> list[str]:
    """RUN and REPO before the options, wherever they were: argparse takes an optional REPO only right after RUN."""
    flags = {f"--{item.name}" for item in dataclasses.fields(PushConfig) if isinstance(item.default, bool)} | {
        "--help",
        "-h",
    }
    places: list[str] = []
    options: list[str] = []
    open_option = ""  # the option whose value may come next
    for word in words:
        if word.startswith("-"):
            open_option = "" if "=" in word else word
            options.append(word)
        elif open_option and not (open_option in flags and "/" in word):
            options.append(word)
            open_option = open_option if open_option == "--datasets" else ""
        else:
            places.append(word)
            open_option = ""
    return places + options


def gather(run: Path, repo: str, config: PushConfig) -> Contents:
    """Everything that the repository will be made of, read and checked before anything is written.

    Raises:
        MgenError: The run, the evaluation or the corpus is not what it has to be.
    """
    trained = Trained.read(run)
    repo = repo or f"{NOBODY}/{slug(trained.name)}"
    results = None
    if config.evaluation:
        if trained.kind != POLICY:
            raise MgenError(
                f"--evaluation: {run} is a {trained.kind}, measured by its own card; leave --evaluation out"
            )
        results = Results.read(config.evaluation, config.name or trained.name)
    data = results.protocol.get("data") if results else trained.facts.get("data")
    statement = Statement(
        repo=repo,
        license=config.license,
        license_link=config.license_link,
        data_license=config.data_license,
        datasets=tuple(config.datasets),
        base_model=config.base_model,
        eval_dataset=config.eval_dataset or f"{repo.partition('/')[0]}/mgen-{data or 'evaluation'}",
        endpoint=endpoint(),
        revision=config.revision or "main",
    )
    return Contents(
        trained,
        statement,
        trained.corpus(config.corpus) or _corpus_of(results, trained),
        results,
        _choice(trained, results, config),
        _places(run, config),
    )


def _corpus_of(results: Results | None, trained: Trained) -> dict[str, object]:
    """What the evaluation kept of the corpus, if it is the one that the run was trained on."""
    found = dict(results.content.get("corpus") or {}) if results else {}
    return found if found.get("fingerprint") == trained.facts.get("data") else {}


def _choice(trained: Trained, results: Results | None, config: PushConfig) -> Choice | None:
    if trained.kind != POLICY or not config.samples:
        return None
    if results and (Path(config.evaluation) / "samples" / "index.json").is_file():
        chosen = from_evaluation(read_samples(config.evaluation), results.name, results.pretrained, config.samples)
        if chosen:
            return chosen
    return from_model(trained.model, trained.style, config.samples)


def _places(run: Path, config: PushConfig) -> dict[str, str]:
    """Folders of this machine that no published file may name."""
    places = {str(Path.home()): "your home folder", str(Path.cwd()): "the working folder"}
    places |= {tempfile.gettempdir(): "the folder for temporary files"}
    named = {"RUN": str(run), "--evaluation": config.evaluation, "--corpus": config.corpus}
    places |= {str(Path(path).resolve()): f"the folder of {option}" for option, path in named.items() if path}
    return places


def _summary(out: Path, made: list[str], size: int, contents: Contents, url: str) -> None:
    statement = contents.statement
    meant = near(statement.license)
    if meant:
        print(f"--license {statement.license}: not one of the Hub's; written as 'other'. Did you mean {meant}?")
    elif not statement.license:
        print("no licence was stated: nobody may use the weights without asking; --license states one")
    if contents.results is None and contents.trained.kind == POLICY:
        print("the card has no numbers: --evaluation DIR gives it those of mgen evaluate")
    if statement.repo.startswith(f"{NOBODY}/"):
        print(f"the card calls it {statement.repo}: give REPO, and it has its real name")
    state = f"pushed to {url}" if url else "nothing was pushed"
    print(f"{out}: {len(made)} files, {size / 1e6:.1f} MB, {state}")
