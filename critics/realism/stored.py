"""Where a run of `mgen finetune` keeps its discriminators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from critics.sequence import FILE
from mgen.errors import MgenError
from mgen.judgement import UnavailableJudge
from mgen.runs.checkpoints import checkpoint_folders, is_complete
from mgen.runs.folder import CHECKPOINTS
from mgen.runs.judges import DISCRIMINATOR_FILE, run_config
from mgen.stored import explain_damage, read_json

REMEDY = "give RUN/realism of a run of mgen finetune"


def read_facts(folder: Path, input_: str) -> dict[str, Any]:
    """The critic.json of a discriminator.

    Args:
        input_: what it judges by, `features` or `tokens`.

    Raises:
        MgenError: The folder has no discriminator of that kind.
    """
    if not (folder / FILE).is_file():
        raise MgenError(f"{folder}: expected a discriminator ({FILE}), found none; {REMEDY}")
    facts = read_json(folder / FILE, REMEDY)
    kind, found = facts.get("kind"), facts.get("input")
    if kind != "realism":
        raise MgenError(f"{folder}: expected a realism critic, found '{kind}'; {REMEDY}")
    if found != input_:
        older = " of an older mgen" if found is None else ""
        name = "realism_tokens" if input_ == "features" else "realism"
        raise MgenError(
            f"{folder}: expected a discriminator of {input_}, found one of {found or 'tokens'}{older}; name the judge "
            f"{name}, or finetune again"
        )
    return facts


@contextmanager
def last_state(run: Path, name: str) -> Iterator[tuple[int, dict[str, Any], dict[str, Any]]]:
    """Step and state of a discriminator in the last complete checkpoint of a run, and the run's options.

    Args:
        name: of the judge.

    Raises:
        UnavailableJudge: The run has no checkpoint yet.
        MgenError: What is stored cannot be read, or, within the context, does not fit.
    """
    complete = [(step, path) for step, path in checkpoint_folders(run / CHECKPOINTS).items() if is_complete(path)]
    if not complete:
        raise UnavailableJudge(name, "no complete checkpoint of the run is there")
    step, last = complete[-1]
    with explain_damage(last / DISCRIMINATOR_FILE, f"remove {last} to use the checkpoint before"):
        stored = torch.load(last / DISCRIMINATOR_FILE, weights_only=True, map_location="cpu")
        yield step, stored[name], run_config(run)
