"""Publishes a trained run on the Hugging Face Hub: weights, tokenizers, model card with its evaluation, samples.

    mgen push runs/finetune ada/music-policy --evaluation runs/evaluation --license cc-by-4.0
    mgen push runs/finetune ada/music-policy --evaluation runs/evaluation --dry-run repository

For policies, critics and reward models. RUN/hub is written and uploaded; with --dry-run DIR is written, and nothing is
uploaded. No music of the corpus, no local path and no token is published; a licence is never guessed.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from mgen.cli.options import Output, parse, print_result
from mgen.workflows.push import PushConfig, push


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the repository and uploads it; returns the exit code."""
    arguments = {
        "run": {"metavar": "RUN", "help": "folder of a finished training run"},
        "repo": {"metavar": "REPO", "nargs": "?", "default": "", "help": "user/name; optional with --dry-run"},
    }
    config, output, words = parse(
        positionals_first(sys.argv[1:] if argv is None else argv), PushConfig, Output, doc=__doc__, arguments=arguments
    )
    result = push(words.run, words.repo, **vars(config))
    state = f"pushed to {result.url}" if result.url else "nothing was pushed"
    summary = f"{result.folder}: {len(result.files)} files, {result.bytes / 1e6:.1f} MB, {state}"
    return print_result("\n".join([*result.remarks, summary]), result.to_json(), output.json)


def positionals_first(words: Sequence[str]) -> list[str]:
    """Moves RUN and REPO before the options: argparse accepts an optional REPO only right after RUN."""
    fields = [*dataclasses.fields(PushConfig), *dataclasses.fields(Output)]
    flags = {f"--{field.name}" for field in fields if isinstance(field.default, bool)} | {"--help", "-h"}
    places: list[str] = []
    options: list[str] = []
    option = ""  # that the next word may be a value of
    for word in words:
        if word.startswith("-"):
            option = "" if "=" in word else word
            options.append(word)
        elif option and not (option in flags and "/" in word):
            options.append(word)
            option = option if option == "--datasets" else ""
        else:
            places.append(word)
            option = ""
    return places + options
