"""`mgen.generate`: samples MIDI files from a model or a baseline, each with its sound and its piano-roll."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from symusic import Score, core

from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.files import check_new_folder, free_folder
from mgen.formats.mending import TEMPO_RANGE
from mgen.models.transformer import context_length, load_policy
from mgen.notes import Notes
from mgen.options import from_keywords, option
from mgen.progress import Progress, counted, silent
from mgen.render.audio import ogg, synthesise
from mgen.render.pianoroll import pianoroll_file
from mgen.runs.judges import WeightedJudges, judges_of_options, judges_of_run
from mgen.sampling.decoding import Decoding
from mgen.sampling.prompts import check_style
from mgen.sampling.sliding import Continuation, Length, extend
from mgen.sampling.systems import ModelSystem, best_of
from mgen.speed import SPEED_HELP, SPEEDS, choose_speed
from mgen.workflows.baseline_options import BaselineOptions
from mgen.workflows.generate_baseline import generate_from_baseline
from mgen.workflows.judges import JUDGES
from mgen.workflows.prompt_file import DEFAULT_TEMPO, START_TOKENS, MusicPrompt, read_prompt

DECODING = ("temperature", "top_k", "top_p", "min_p", "guidance", "repetition_penalty", "grammar", "best_of")
"""Options of decoding, as recorded in index.json."""
ASKED = ("max_new_tokens", "notes", "bars", "ending")
"""Options of length, as recorded in index.json."""
OUTPUT = {"baseline", "out", "audio", "picture", "play"}
BASELINE = {"n", "prompt", "prompt_from", "prompt_tokens", "max_new_tokens", "temperature", "top_k", "include_prompt"}
BASELINE |= {"threshold", "tempo", "seed"}
"""Options that sampling from a baseline has, besides `OUTPUT`."""

DEMO = Path("runs") / "demo"
DEMO_POLICIES = tuple(DEMO / name / "model" for name in ("tuned", "base", "quick/base"))
"""Policies of `mgen demo`, which are used without --model; the first that exists."""
DEMO_STYLE = "jazz"
PIECES = "pieces"  # folder without --out, and the beginning of the names of further ones

NOTE_TOKENS, BAR_TOKENS = 16, 1024  # most tokens for each note or bar that is asked for
ENDING_TIMES, ENDING_TRIES = 2, 8  # longest piece that is to end, over what is asked for; tries to get there
MAX_SECONDS = 600.0  # of a piece that is rendered
BAR_WIDTH, LEAST_WIDTH = 60, 960  # of piano-rolls, in their own units


@dataclass
class GenerateConfig:
    """Options of `mgen generate`."""

    model: str = option("", "Model folder (RUN/model); by default the policy of mgen demo in runs/demo.")
    baseline: str = option("", "In place of a model: run of mgen baseline piano-roll or drum-bass.")
    out: str = option("", "Folder for the files and index.json, new or empty; by default pieces, pieces-2, ...")
    n: int = option(4, "Number of pieces.", least=1)
    style: str = option("", "Style token of the prompt; none by default, jazz for the policy of mgen demo.")
    prompt: str = option("", "MIDI file to continue.")
    prompt_from: str = option(
        "end",
        "Continue from the prompt's end, or from an early place: only its first prompt_tokens are kept.",
        words=("end", "start"),
    )
    prompt_tokens: int = option(
        0,
        f"Tokens (of a piano-roll, steps) of the prompt that are kept; 0: all, with prompt_from start {START_TOKENS}.",
        least=0,
    )
    bars: int = option(0, "Bars to add; beyond the context, the model reads the last part.", least=0)
    notes: int = option(0, "Notes to add.", least=0)
    max_new_tokens: int = option(
        0, "Tokens or steps to add, at most; 0: to the end of the context, and at least half a context.", least=0
    )
    ending: bool = option(
        False,
        f"Go on to the end of the piece: the first of {ENDING_TRIES} tries, within {ENDING_TIMES} times the length.",
    )
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
    audio: bool = option(True, "Write the sound of each piece (.ogg) next to it.")
    picture: bool = option(True, "Write the piano-roll of each piece (.svg) next to it.")
    play: bool = option(False, "Play the pieces, where there is a sound device.")
    speed: str = option("auto", SPEED_HELP, words=SPEEDS)
    seed: int = option(0, "The same seed gives the same pieces.")

    def __post_init__(self) -> None:
        changed = {field.name for field in fields(self) if getattr(self, field.name) not in (field.default, [])}
        if self.baseline and changed - BASELINE - OUTPUT:
            raise ValueError(f"{min(changed - BASELINE - OUTPUT)} is not for a baseline; leave it out")
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
    prompt_changes: str = ""  # what of the prompt was flattened or dropped, in words


def generate(model: Path | str, out: Path | str, *, progress: Progress = silent, **options: Any) -> GenerateResult:
    """Samples pieces from a model and writes them as MIDI files.

    Args:
        model: model folder, RUN/model.
        out: for the files and index.json; new or empty.
        progress: takes the count of the pieces.
        options: other fields of `GenerateConfig`.

    Raises:
        MgenError: An option does not exist or is out of range, the model or the prompt cannot be read, or `out` is not
            empty.
    """
    options |= {"model": str(model), "out": str(out)}
    return run_generate(from_keywords(GenerateConfig, "generate", options), progress)


def run_generate(config: GenerateConfig, progress: Progress = silent) -> GenerateResult:
    """As `generate`, for options that are a `GenerateConfig` already."""
    config = replace(config, out=str(check_new_folder(config.out) if config.out else free_folder(PIECES)))
    result = _from_baseline(config) if config.baseline else _from_model(config, progress)
    for i, piece in enumerate(counted(progress, "files", result.facts["pieces"])):
        piece |= _render(result, i, config)
    (result.folder / "index.json").write_text(json.dumps(result.facts, indent=1), encoding="utf-8")
    return result


def sound_of(file: Path) -> NDArray[np.float32]:
    """(S,) samples of a MIDI file that was written."""
    score: Any = Score(file)
    return synthesise(score, max_seconds=MAX_SECONDS)


def _from_baseline(config: GenerateConfig) -> GenerateResult:
    values = {name: getattr(config, name) for name in BASELINE}
    out = Path(config.out)
    facts = generate_from_baseline(BaselineOptions(run=Path(config.baseline), out=out, **values))
    scores: list[Any] = [Score(out / piece["file"]) for piece in facts["pieces"]]
    return GenerateResult(out, Notes.from_scores(scores), facts)


def _from_model(config: GenerateConfig, progress: Progress) -> GenerateResult:
    if not config.model:
        config = replace(config, model=str(_demo_policy()), style=config.style or DEMO_STYLE)
    model, remi = load_policy(config.model)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    head = [remi.bos_id]
    if config.style:
        check_style(config.style, remi)
        head.append(remi.style_ids[config.style])
    music = MusicPrompt(np.zeros(0, np.int64), DEFAULT_TEMPO, {}, {})
    if config.prompt:
        music = read_prompt(config.prompt, remi, config.prompt_from, config.prompt_tokens)
    speed = choose_speed(config.speed, model.device)
    try:
        decoding = {field.name: getattr(config, field.name) for field in fields(Decoding) if field.name in DECODING}
        system = ModelSystem(model, remi, Decoding(**decoding), speed.dtype, config.grammar)
        pieces = _continue(config, system, [*head, *music.ids.tolist()], len(head), progress)
    except ValueError as error:
        raise MgenError(f"mgen generate: {error}") from error
    out, tempo, given = Path(config.out), config.tempo or music.tempo, len(head) + len(music.ids)
    rows = [[*piece.prompt, *piece.completion] for piece in pieces]
    notes = Notes.from_ids(rows, remi, 0 if config.include_prompt else given)
    out.mkdir(parents=True, exist_ok=True)
    entries = []
    for i, piece in enumerate(pieces):
        entries.append(_describe(i, piece, notes, config, remi))
        _write(out / entries[i]["file"], notes, i, tempo, music.names, entries[i]["prompt_end"])
    facts = {
        **{name: getattr(config, name) for name in ("model", "style", "prompt", "prompt_from", "seed")},
        "prompt_tokens": len(music.ids),
        "prompt_changes": music.changes,
        "include_prompt": config.include_prompt,
        "tempo": round(tempo, 3),
        "speed": speed.reason,
        "asked": {name: getattr(config, name) for name in ASKED},
        "decoding": {name: getattr(config, name) for name in DECODING},
        "pieces": entries,
    }
    return GenerateResult(out, notes, facts, music.line)


def _demo_policy() -> Path:
    found = next((folder for folder in DEMO_POLICIES if (folder / "config.json").is_file()), None)
    if found is None:
        raise MgenError(
            f"expected --model RUN/model, got none, and {DEMO} has no policy; run mgen demo --quick, which makes a "
            "small one in about a minute"
        )
    return found


def _continue(
    config: GenerateConfig, system: ModelSystem, prompt: list[int], head: int, progress: Progress
) -> list[Continuation]:
    """The pieces; with best_of the judges' best of that many for each."""
    judges = _judges(config, system.remi) if config.best_of > 1 else None
    pieces = [Continuation(prompt) for _ in range(config.n * config.best_of)]
    generator = torch.Generator(system.model.device).manual_seed(config.seed)
    for length, may_end in _stages(config, context_length(system.model.config), len(prompt), len(prompt) > head):
        extend(system, pieces, length, generator, head, may_end, progress)
    if config.ending:
        pieces = [_with_ending(piece, system, generator, head) for piece in counted(progress, "endings", pieces)]
    if judges is None:
        return pieces
    completions = [piece.completion for piece in pieces]
    score = judges(Notes.from_completions([prompt] * len(pieces), completions, system.remi))
    best = best_of(np.asarray(score, np.float64).reshape(config.n, -1)) + config.best_of * np.arange(config.n)
    return [pieces[i] for i in best]


def _with_ending(piece: Continuation, system: ModelSystem, generator: torch.Generator, head: int) -> Continuation:
    """The piece up to its end token, in as few further tokens as some tries need; as it is if none gets there."""
    eos = system.remi.eos_id
    if piece.completion[-1] == eos:
        return piece
    most = max(ENDING_TIMES * len(piece.completion), context_length(system.model.config) // 2)
    tries = [deepcopy(piece) for _ in range(ENDING_TRIES)]
    extend(system, tries, Length(most), generator, head)
    return min((one for one in tries if one.completion[-1] == eos), key=lambda one: len(one.completion), default=piece)


def _stages(config: GenerateConfig, context: int, prompt: int, has_music: bool) -> list[tuple[Length, bool]]:
    """Lengths in turn, and whether the piece may end before.

    A number of bars or notes is kept to, and a prompt, though it may be a whole piece, is continued by a bar at least.
    """
    if config.bars or config.notes:
        most = max(BAR_TOKENS * config.bars, NOTE_TOKENS * config.notes)
        return [(Length(config.max_new_tokens or most, config.notes, config.bars), False)]
    tokens = config.max_new_tokens or max(context - prompt, context // 2)
    return [(Length(tokens, bars=1), False)] * has_music + [(Length(tokens), True)]


def _judges(config: GenerateConfig, remi: Remi) -> WeightedJudges:
    if config.judges_of:
        return judges_of_run(config.judges_of, JUDGES, remi)
    return judges_of_options(config.judges, JUDGES, remi, config.critic, config.bands)


def _write(file: Path, notes: Notes, piece: int, tempo: float, names: dict[int, str], prompt_end: int | None) -> None:
    """Writes a piece as MIDI, with the names of the prompt's tracks and a marker where the prompt ends."""
    score = notes.to_score(piece, tempo)
    for track in score.tracks:
        track.name = names.get(-1 if track.is_drum else track.program, track.name)
    if prompt_end is not None:
        score.markers.append(core.TextMetaTick(prompt_end, "prompt ends"))
    score.dump_midi(file)


def _describe(i: int, piece: Continuation, notes: Notes, config: GenerateConfig, remi: Remi) -> dict[str, Any]:
    """A piece's entry in index.json."""
    ended = piece.completion[-1] == remi.eos_id
    drawn = config.best_of == 1 and config.temperature > 0
    prompted = bool(config.prompt) and config.include_prompt
    return {
        "file": f"{i:04d}.mid",
        "notes": int(notes.counts[i]),
        "bars": int(np.diff(notes.bar_starts)[i]),
        "tokens": len(piece.completion),
        "new_notes": int(remi.notes_in[piece.completion].sum()),
        "new_bars": int(remi.opens_bar[piece.completion].sum()),
        "ended": ended,
        "prompt_end": _prompt_end(notes.pieces([i]), len(piece.prompt)) if prompted else None,
        "broken_tokens": int(notes.n_broken[i]),
        "removed_by_grammar": float(np.mean(piece.removed)) if config.grammar else None,
        "nats_per_token": -float(np.mean(piece.logprobs)) if drawn else None,
    }


def _prompt_end(one: Notes, given: int) -> int:
    """Grid step of the first new note; without one, of the end of the prompt's notes."""
    new = one.token >= given
    return int(one.onset[new].min() if new.any() else (one.onset + one.duration).max(initial=0))


def _render(result: GenerateResult, i: int, config: GenerateConfig) -> dict[str, str | None]:
    """Writes sound and piano-roll of a piece next to it; returns their names for index.json."""
    piece = result.facts["pieces"][i]
    file = result.folder / piece["file"]
    names = {"audio": file.with_suffix(".ogg"), "picture": file.with_suffix(".svg")}
    if config.audio:
        names["audio"].write_bytes(ogg(sound_of(file)))
    if config.picture:
        width = max(LEAST_WIDTH, BAR_WIDTH * int(np.diff(result.notes.bar_starts)[i]))
        drawing = pianoroll_file(result.notes, i, piece.get("prompt_end"), file.stem, width)
        names["picture"].write_text(drawing, encoding="utf-8")
    return {name: path.name if getattr(config, name) else None for name, path in names.items()}
