"""Sample MIDI files from a model.

mgen generate --model runs/jazz/model --out pieces --n 8 --style jazz --prompt theme.mid
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mgen.cli.options import parse
from mgen.corpus.clean import normalise
from mgen.encoding.remi import Remi
from mgen.errors import MgenError, RejectedFile
from mgen.files import read_music
from mgen.models.transformer import load_policy
from mgen.notes import Notes
from mgen.rl.prompts import check_style
from mgen.rl.rollout import Decoding, sample


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
    prompt = _prompt(config, remi)
    room = model.config.max_position_embeddings - len(prompt)
    if not config.max_new_tokens:
        config.max_new_tokens = room
    try:
        decoding = Decoding(config.temperature, config.top_k, config.top_p, config.max_new_tokens)
        generator = torch.Generator(model.device).manual_seed(config.seed)
        rollout = sample(model, [prompt] * config.n, decoding, remi.eos_id, remi.pad_id, generator)
    except ValueError as error:
        raise MgenError(f"mgen generate: {error}") from error
    completions, logprobs = rollout.lists()
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
                "nats_per_token": -float(np.mean(logprobs[i])),
            }
        )
    facts = {
        "model": config.model,
        "style": config.style,
        "prompt": config.prompt,
        "seed": config.seed,
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


def _prompt(config: GenerateConfig, remi: Remi) -> list[int]:
    ids = [remi.bos_id]
    if config.style:
        check_style(config.style, remi)
        ids.append(remi.style_ids[config.style])
    if config.prompt:
        try:
            score = read_music(Path(config.prompt)).score
            music = remi.encode(normalise(score, "band" if remi.multi else "piano"))[0]
        except RejectedFile as error:
            raise MgenError(f"--prompt {config.prompt}: {error}; give another MIDI file") from error
        ids += music[: config.prompt_tokens].tolist()
    return ids
