"""Results of a listening study, and its votes as preference pairs for training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.files import write_atomically
from mgen.listen.ranking import StudyResults, study_results
from mgen.listen.vote_store import Preference, VoteStore
from mgen.options import from_keywords, option


@dataclass
class VotesConfig:
    """Options of `mgen votes`."""

    export: str = option("", "File for preference pairs, one JSON object per line.")
    tokenizer: str = option("", "Model folder with the vocabulary of the clips, if the votes file has none.")
    seed: int = option(0, "Seed of the intervals' resamples.")


@dataclass(frozen=True)
class Votes:
    """The votes of a study.

    Attributes:
        question: that raters answered.
        results: see `StudyResults`.
        exported: preference pairs written; None without `export`.
    """

    question: str
    results: StudyResults
    exported: int | None = None

    def to_json(self) -> dict[str, Any]:
        exported = {} if self.exported is None else {"exported": self.exported}
        return {"question": self.question, **self.results.to_json(), **exported}


def count_votes(file: Path | str, **options: Any) -> Votes:
    """Analyses a votes file, also while raters vote.

    Args:
        file: written by `mgen listen`.
        options: fields of `VotesConfig`.

    Raises:
        MgenError: The file holds no votes, or nothing that can be exported.
    """
    config = from_keywords(VotesConfig, "votes", options)
    store = VoteStore.read(file)
    try:
        preferences, systems, question = store.preferences(), store.systems, store.question
        names = store.vocabulary
    finally:
        store.close()
    if not preferences:
        raise MgenError(f"{file}: holds no vote yet; vote on the page of mgen listen first")
    results = study_results(preferences, systems, seed=config.seed)
    return Votes(question, results, _export(preferences, names, config) if config.export else None)


def _export(preferences: Sequence[Preference], names: Sequence[str] | None, config: VotesConfig) -> int:
    """Writes preference pairs; returns their number."""
    if config.tokenizer:
        names = Remi.from_pretrained(config.tokenizer).names
    exported = [
        vote
        for vote in preferences
        if vote.preferred is not None
        and vote.first.completion_ids is not None
        and vote.second.completion_ids is not None
    ]
    if not exported:
        raise MgenError(
            f"--export {config.export}: no preference between clips with tokens among {len(preferences)} votes; "
            "vote on samples of mgen evaluate or on models"
        )
    if names is None:
        raise MgenError(
            f"--export {config.export}: the votes file does not name its tokens; give --tokenizer RUN/model"
        )
    out = Path(config.export)
    try:
        pairs = "".join(f"{json.dumps(preference_pair(vote, names))}\n" for vote in exported)
    except IndexError as error:
        raise MgenError(
            f"--tokenizer {config.tokenizer}: has fewer tokens than the clips; give their model's"
        ) from error
    write_atomically(out, pairs)
    return len(exported)


def preference_pair(vote: Preference, names: Sequence[str]) -> dict[str, Any]:
    """Formats a vote for the preference trainers of TRL, with music as concatenated token names."""
    clips = (vote.first, vote.second)
    chosen, rejected = clips if vote.preferred == 0 else clips[::-1]

    def text(ids: Sequence[int] | None) -> str:
        return "".join(names[token] for token in ids or ())

    return {
        "prompt": text(chosen.prompt_ids),
        "chosen": text(chosen.completion_ids),
        "rejected": text(rejected.completion_ids),
        "rater": vote.rater,
        "pair": vote.pair,
        "chosen_system": chosen.system,
        "rejected_system": rejected.system,
    }
