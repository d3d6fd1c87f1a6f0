"""Sample MIDI files from a model.

mgen generate --model runs/jazz/model --out pieces --n 8 --style jazz --prompt theme.mid
mgen generate --model runs/base/model --out pieces --style jazz --best-of 8 --critic runs/critic/model
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from mgen.cli.options import parse
from mgen.corpus.clean import normalise
from mgen.encoding.remi import Remi
from mgen.errors import MgenError, RejectedFile
from mgen.files import read_music
from mgen.models.transformer import load_policy
from mgen.notes import Notes
from mgen.runs.judges import judges_of_options, judges_of_run
from mgen.sampling.prompts import Prompts, check_style
from mgen.sampling.rollout import Decoding
from mgen.sampling.systems import BestOf, ModelSystem, System
from mgen.workflows.judges import JUDGES

DECODING = ("temperature", "top_k", "top_p", "guidance", "repetition_penalty", "best_of")
"""Options that say how tokens and pieces were chosen; index.json tells them."""


@dataclass
class GenerateConfig:
    """Options of `mgen generate`."""

    model: str = field(default="", metadata={"help": "Model folder (RUN/model)."})
    out: str = field(default="", metadata={"help": "Folder for the MIDI files and index.json; must be new or empty."})
    n: int = field(default=4, metadata={"help": "Number of pieces."})
    style: str = field(default="", metadata={"help": "Style to ask for; none by default."})
    prompt: str = field(default="", metadata={"help": "MIDI file to continue."})
    prompt_tokens: int = field(
        default=64, metadata={"help": "Tokens of the prompt's music that are used, from its beginning."}
    )
    max_new_tokens: int = field(default=0, metadata={"help": "Tokens to add; 0: what the model's context allows."})
    temperature: float = field(default=1.0, metadata={"help": "0 is greedy."})
    top_k: int = field(default=0, metadata={"help": "Choose among so many tokens; 0: all."})
    top_p: float = field(default=1.0, metadata={"help": "Choose among tokens that hold this share of probability."})
    guidance: float = field(
        default=1.0,
        metadata={"help": "Weight of the style token: above 1 leads away from music of no stated style; 1 is none."},
    )
    repetition_penalty: float = field(
        default=1.0, metadata={"help": "Above 1, pitches that were played are less likely to come again; 1 is none."}
    )
    best_of: int = field(
        default=1, metadata={"help": "Of so many tries at each piece keep the one that the judges like best."}
    )
    judges_of: str = field(default="", metadata={"help": "best_of: run of mgen finetune whose judges choose."})
    critic: str = field(default="", metadata={"help": "best_of: model folder of a style critic."})
    judges: list[str] = field(
        default_factory=list,
        metadata={"help": "best_of: judges with weights, as in mgen finetune; style=1 by default."},
    )
    bands: str = field(
        default="", metadata={"help": "best_of: bands.json of a fine-tuning, for judges that are rules."}
    )
    tempo: float = field(
        default=120.0, metadata={"help": "Quarter notes a minute in the files; the model knows no tempo."}
    )
    seed: int = field(default=0, metadata={"help": "The same seed gives the same pieces."})
    json: bool = field(default=False, metadata={"help": "Print the index as one JSON object."})

    def __post_init__(self) -> None:
        for name in ("model", "out"):
            if not getattr(self, name):
                raise ValueError(f"expected --{name}, got none; see --help")
        if self.n < 1 or self.tempo <= 0:
            raise ValueError(f"n ({self.n}) must be at least 1 and tempo ({self.tempo}) above 0")
        if self.best_of < 1:
            raise ValueError(f"best_of ({self.best_of}) must be at least 1")
        named = self.critic or self.judges or self.bands
        if self.best_of == 1 and (named or self.judges_of):
            raise ValueError("critic, judges, bands and judges_of choose among tries; give --best_of 8 as well")
        if named and self.judges_of:
            raise ValueError("judges_of takes the judges of a run; leave out critic, judges and bands")
        if self.best_of > 1 and self.temperature == 0:
            raise ValueError(
                f"best_of ({self.best_of}) of greedy pieces is one and the same; give a temperature above 0"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Generate; returns the exit code."""
    (config,) = parse(
        argv,
        GenerateConfig,
        program="mgen generate",
        example="mgen generate --model runs/jazz/model --out pieces --n 8 --style jazz",
    )
    out = Path(config.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MgenError(f"{out}: not empty; choose another --out")
    model, remi = load_policy(config.model)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    prompts = _prompts(config, remi)
    prompt: list[int] = prompts.ids[0].tolist()
    room = model.config.max_position_embeddings - len(prompt)
    length = config.max_new_tokens or room
    try:
        player = _player(config, model, remi, length)
        played = player.complete(prompts, length, config.seed)
    except ValueError as error:
        raise MgenError(f"mgen generate: {error}") from error
    completions = played.token_ids
    notes = Notes.from_ids([prompt + completion for completion in completions], remi)
    out.mkdir(parents=True, exist_ok=True)
    index: list[dict[str, Any]] = []
    for i in range(config.n):
        name = f"{i:04d}.mid"
        notes.to_score(i, config.tempo).dump_midi(out / name)
        index.append(
            {
                "file": name,
                "notes": int(notes.counts[i]),
                "bars": int(np.diff(notes.bar_starts)[i]),
                "tokens": len(completions[i]),
                "ended": completions[i][-1] == remi.eos_id,
                "broken_tokens": int(notes.n_broken[i]),
                "nats_per_token": None if played.logprobs is None else -float(np.mean(played.logprobs[i])),
            }
        )
    facts = {
        "model": config.model,
        "style": config.style,
        "prompt": config.prompt,
        "seed": config.seed,
        "decoding": {name: getattr(config, name) for name in DECODING},
        "pieces": index,
    }
    (out / "index.json").write_text(json.dumps(facts, indent=1))
    if config.json:
        print(json.dumps(facts))
    else:
        for entry in index:
            counts = (f"{entry['notes']} notes", f"{entry['bars']} bars", f"{entry['broken_tokens']} broken tokens")
            print(f"{out / entry['file']}: {', '.join(counts)}")
    return 0


def _player(config: GenerateConfig, model: PreTrainedModel, remi: Remi, length: int) -> System:
    decoding = Decoding(
        config.temperature, config.top_k, config.top_p, length, config.guidance, config.repetition_penalty
    )
    player = ModelSystem(model, remi, decoding)
    if config.best_of == 1:
        return player
    if config.judges_of:
        judges = judges_of_run(config.judges_of, JUDGES, remi)
    else:
        judges = judges_of_options(config.judges, JUDGES, remi, config.critic, config.bands)
    return BestOf(player, remi, config.best_of, judges)


def _prompts(config: GenerateConfig, remi: Remi) -> Prompts:
    """The one prompt, n times."""
    head = [remi.bos_id]
    if config.style:
        check_style(config.style, remi)
        head.append(remi.style_ids[config.style])
    music = np.zeros(0, np.int64)
    if config.prompt:
        try:
            score = read_music(Path(config.prompt)).score
            music = remi.encode(normalise(score, "band" if remi.multi else "piano"))[0][: config.prompt_tokens]
        except RejectedFile as error:
            raise MgenError(f"--prompt {config.prompt}: {error}; give another MIDI file") from error
    ids = np.tile(np.concatenate([head, music]).astype(np.int64), (config.n, 1))
    prompt_type = "continuation" if config.prompt else "unconditional"
    return Prompts(prompt_type, ids, ids[:, len(head) :], len(music), np.full(config.n, config.prompt))
