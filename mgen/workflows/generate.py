"""`mgen.generate`: samples MIDI files from a model or a baseline."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from symusic import Score, core
from transformers import PreTrainedModel

from mgen.corpus.beats import repair_beats
from mgen.corpus.clean import normalise
from mgen.encoding.remi import Remi
from mgen.errors import MgenError, RejectedFile
from mgen.files import check_new_folder
from mgen.formats.files import read_music
from mgen.formats.mending import TEMPO_RANGE
from mgen.models.transformer import check_fits, context_length, load_policy
from mgen.notes import Notes
from mgen.options import check_required, from_keywords, option
from mgen.runs.judges import judges_of_options, judges_of_run
from mgen.sampling.decoding import Decoding
from mgen.sampling.prompts import Prompts, check_style
from mgen.sampling.systems import BestOf, Completions, ModelSystem, System
from mgen.speed import SPEED_HELP, SPEEDS, Speed, choose_speed
from mgen.workflows.baseline_options import BaselineOptions
from mgen.workflows.generate_baseline import generate_from_baseline
from mgen.workflows.judges import JUDGES

DEFAULT_TEMPO = 120.0  # quarter notes per minute, of a MIDI file that names none
DECODING = ("temperature", "top_k", "top_p", "min_p", "guidance", "repetition_penalty", "grammar", "best_of")
"""Options of decoding, as recorded in index.json."""
BASELINE = {"out", "n", "prompt", "prompt_tokens", "max_new_tokens", "temperature", "top_k", "include_prompt"}
BASELINE |= {"baseline", "threshold", "tempo", "seed"}
"""Options that sampling from a baseline has."""


@dataclass
class GenerateConfig:
    """Options of `mgen generate`."""

    model: str = option("", "Model folder (RUN/model).")
    baseline: str = option("", "In place of a model: run of mgen baseline piano-roll or drum-bass.")
    out: str = option("", "Folder for the MIDI files and index.json; must be new or empty.")
    n: int = option(4, "Number of pieces.", least=1)
    style: str = option("", "Style token of the prompt; none by default.")
    prompt: str = option("", "MIDI file to continue.")
    prompt_tokens: int = option(
        64, "Tokens of the prompt's music that are used, from its beginning; steps of a piano-roll.", least=1
    )
    max_new_tokens: int = option(0, "Tokens or steps to add, at most; 0: to the end of the context.", least=0)
    temperature: float = option(1.0, "0 is greedy.", least=0)
    top_k: int = option(0, "Sample among the k most likely tokens; 0: all.", least=0)
    top_p: float = option(1.0, "Sample among the likeliest tokens of this total probability.", above=0, most=1)
    min_p: float = option(
        0.0, "Drop tokens below this share of the likeliest one's probability; 0: none.", least=0, most=1
    )
    threshold: float = option(
        0.0, "baseline: what has at least this probability sounds; 0: it is drawn.", least=0, below=1
    )
    guidance: float = option(1.0, "Weight of classifier-free guidance on the style token; 1 is none.", least=0)
    repetition_penalty: float = option(
        1.0, "Above 1, pitches that have occurred become less likely; 1 is none.", above=0
    )
    grammar: bool = option(True, "Sample only what the grammar allows.")
    best_of: int = option(1, "Completions per piece, of which the judges' best is kept.", least=1)
    judges_of: str = option("", "best_of: run of mgen finetune whose judges choose.")
    critic: str = option("", "best_of: model folder of a style critic.")
    judges: list[str] = option(
        [], "best_of: judges with weights, as in mgen finetune; style=1 by default.", mapping=True
    )
    bands: str = option("", "best_of: bands.json of a fine-tuning, for judges that are rules.")
    include_prompt: bool = option(True, "Write the prompt before its continuation; false: the continuation alone.")
    tempo: float | None = option(
        None,
        "Quarter notes per minute in the files. By default those of the prompt, or 120 without one.",
        least=TEMPO_RANGE[0],
        most=TEMPO_RANGE[1],
    )
    speed: str = option("auto", SPEED_HELP, words=SPEEDS)
    seed: int = option(0, "The same seed gives the same pieces.")

    def __post_init__(self) -> None:
        check_required(self, "baseline" if self.baseline else "model", "out")
        changed = {field.name for field in fields(self) if getattr(self, field.name) not in (field.default, [])}
        if self.baseline and changed - BASELINE:
            raise ValueError(f"{min(changed - BASELINE)} is not for a baseline; leave it out")
        if self.threshold and not self.baseline:
            raise ValueError("threshold is for a baseline; give --baseline RUN in place of a model")
        named = self.critic or self.judges or self.bands
        if self.best_of == 1 and (named or self.judges_of):
            raise ValueError("critic, judges, bands and judges_of choose among completions; give --best_of 8 as well")
        if named and self.judges_of:
            raise ValueError("judges_of takes the judges of a run; leave out critic, judges and bands")
        if self.best_of > 1 and self.temperature == 0:
            raise ValueError(
                f"best_of ({self.best_of}) with greedy decoding has only one completion; give a temperature above 0"
            )


@dataclass(frozen=True)
class GenerateResult:
    """Generated pieces."""

    folder: Path  # of the MIDI files
    notes: Notes  # the pieces as written, with their prompts by default
    facts: dict[str, Any]  # the content of index.json


def generate(model: Path | str, out: Path | str, **options: Any) -> GenerateResult:
    """Samples pieces from a model and writes them as MIDI files.

    Args:
        model: model folder, RUN/model.
        out: for the files and index.json; new or empty.
        options: other fields of `GenerateConfig`.

    Raises:
        MgenError: An option does not exist or is out of range, the model or the prompt cannot be read, or `out` is not
            empty.
    """
    return run_generate(from_keywords(GenerateConfig, "generate", {"model": str(model), "out": str(out), **options}))


def run_generate(config: GenerateConfig) -> GenerateResult:
    """As `generate`, for options that are a `GenerateConfig` already."""
    out = check_new_folder(config.out)
    if config.baseline:
        return _from_baseline(config, out)
    model, remi = load_policy(config.model)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    prompts, tempo = make_prompts(config, remi)
    head = prompts.ids.shape[1] - prompts.prompt_tokens
    asked = ("prompt_tokens", prompts.prompt_tokens), ("max_new_tokens", config.max_new_tokens or 1)
    check_fits(config.model, model.config, *asked, head)
    length = config.max_new_tokens or context_length(model.config) - prompts.ids.shape[1]
    speed = choose_speed(config.speed, model.device)
    try:
        drawn = _build_system(config, model, remi, length, speed).complete(prompts, length, config.seed)
    except ValueError as error:
        raise MgenError(f"mgen generate: {error}") from error
    pairs = zip(prompts.ids.tolist(), drawn.token_ids, strict=True)
    start = 0 if config.include_prompt else prompts.ids.shape[1]
    notes = Notes.from_ids([[*prompt, *completion] for prompt, completion in pairs], remi, start)
    out.mkdir(parents=True, exist_ok=True)
    for i in range(config.n):
        notes.to_score(i, tempo).dump_midi(out / _file(i))
    facts = {
        **{name: getattr(config, name) for name in ("model", "style", "prompt", "seed")},
        "include_prompt": config.include_prompt,
        "tempo": round(tempo, 3),
        "speed": speed.reason,
        "decoding": {name: getattr(config, name) for name in DECODING},
        "pieces": [_describe(i, drawn, notes, remi) for i in range(config.n)],
    }
    (out / "index.json").write_text(json.dumps(facts, indent=1))
    return GenerateResult(out, notes, facts)


def _from_baseline(config: GenerateConfig, out: Path) -> GenerateResult:
    values = {name: getattr(config, name) for name in BASELINE - {"baseline", "out"}}
    facts = generate_from_baseline(BaselineOptions(run=Path(config.baseline), out=out, **values))
    scores: list[Any] = [Score(out / piece["file"]) for piece in facts["pieces"]]
    return GenerateResult(out, Notes.from_scores(scores), facts)


def make_prompts(config: GenerateConfig, remi: Remi) -> tuple[Prompts, float]:
    """The one prompt, n times, and the tempo of the files.

    Raises:
        MgenError: The style does not exist or the MIDI file cannot be read.
    """
    head = [remi.bos_id]
    if config.style:
        check_style(config.style, remi)
        head.append(remi.style_ids[config.style])
    music, tempo = np.zeros(0, np.int64), DEFAULT_TEMPO
    if config.prompt:
        try:
            score, _ = repair_beats(read_music(Path(config.prompt)).score)
            ids = remi.encode(normalise(score, "band" if remi.multi else "piano"))[0]
            music = remi.beginning(ids, config.prompt_tokens)
            tempo = _first_tempo(score)
        except RejectedFile as error:
            raise MgenError(f"--prompt {config.prompt}: {error}; give another MIDI file") from error
    ids = np.tile(np.concatenate([head, music]).astype(np.int64), (config.n, 1))
    prompt_type = "continuation" if config.prompt else "unconditional"
    prompts = Prompts(prompt_type, ids, ids[:, len(head) :], len(music), np.full(config.n, config.prompt))
    return prompts, config.tempo or tempo


def _first_tempo(score: core.ScoreTick) -> float:
    """The tempo that the first note is played at, in quarter notes per minute."""
    first = min(int(track.notes.numpy()["time"].min()) for track in score.tracks if len(track.notes))
    before = [tempo for tempo in sorted(score.tempos, key=lambda tempo: tempo.time) if tempo.time <= first]
    return before[-1].qpm if before else DEFAULT_TEMPO


def _build_system(config: GenerateConfig, model: PreTrainedModel, remi: Remi, length: int, speed: Speed) -> System:
    decoding = Decoding(
        config.temperature,
        config.top_k,
        config.top_p,
        length,
        config.guidance,
        config.repetition_penalty,
        config.min_p,
    )
    system = ModelSystem(model, remi, decoding, speed.dtype, config.grammar)
    if config.best_of == 1:
        return system
    if config.judges_of:
        judges = judges_of_run(config.judges_of, JUDGES, remi)
    else:
        judges = judges_of_options(config.judges, JUDGES, remi, config.critic, config.bands)
    return BestOf(system, remi, config.best_of, judges)


def _file(piece: int) -> str:
    return f"{piece:04d}.mid"


def _describe(piece: int, drawn: Completions, notes: Notes, remi: Remi) -> dict[str, Any]:
    """A piece's entry in index.json."""
    completion = drawn.token_ids[piece]
    return {
        "file": _file(piece),
        "notes": int(notes.counts[piece]),
        "bars": int(np.diff(notes.bar_starts)[piece]),
        "tokens": len(completion),
        "ended": completion[-1] == remi.eos_id,
        "broken_tokens": int(notes.n_broken[piece]),
        "removed_by_grammar": None if drawn.removed is None else drawn.removed[piece],
        "nats_per_token": None if drawn.logprobs is None else -float(np.mean(drawn.logprobs[piece])),
    }
