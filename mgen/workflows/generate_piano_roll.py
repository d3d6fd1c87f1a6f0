"""What `mgen generate` writes of a run of `mgen baseline piano-roll`."""

from __future__ import annotations

from typing import Any

import torch

from mgen.encoding.piano_roll import DEFAULT_TEMPO, notes_in, read_midi, to_midi
from mgen.errors import MgenError, RejectedFile
from mgen.models.baselines.piano_roll import PianoRollModel
from mgen.models.pretrained import load_model
from mgen.runs.folder import MODEL, REMEDY
from mgen.sampling.piano_roll import RollDecoding, continue_rolls
from mgen.workflows.baseline_options import BaselineOptions
from mgen.workflows.prompt_file import START_TOKENS


def generate_piano_rolls(options: BaselineOptions) -> dict[str, Any]:
    """Writes continuations of a piano-roll, or of silence.

    Returns:
        The content of index.json.

    Raises:
        MgenError: The model or the prompt cannot be read.
    """
    folder = options.run / MODEL
    model = load_model(folder, lambda config: PianoRollModel)
    if not isinstance(model, PianoRollModel) or model.config.model_type != "mgen_piano_roll":
        raise MgenError(f"{folder}: expected a piano-roll model, found {model.config.model_type}; {REMEDY}")
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    rate, tempo = model.config.rate, DEFAULT_TEMPO
    prompt = torch.zeros(0, model.head.out_features, dtype=torch.bool)
    if options.prompt:
        try:
            roll, tempo = read_midi(options.prompt, rate)
        except RejectedFile as error:
            raise MgenError(f"--prompt {options.prompt}: {error}; give another MIDI file") from error
        kept = slice(options.prompt_tokens or START_TOKENS)
        if options.prompt_from == "end":
            kept = slice(-options.prompt_tokens or None, None)
        prompt = torch.from_numpy(roll[kept])
    tempo = options.tempo or tempo
    decoding = RollDecoding(options.threshold, options.temperature, options.top_k)
    prompts = prompt.expand(options.n, *prompt.shape)
    rolls = continue_rolls(model, prompts, options.max_new_tokens or model.config.window, decoding, options.seed).cpu()
    if options.include_prompt:
        rolls = torch.cat([prompts, rolls], dim=1)
    options.out.mkdir(parents=True, exist_ok=True)
    pieces = []
    for i, roll in enumerate(rolls.numpy()):
        name = f"{i:04d}.mid"
        to_midi(roll, rate, tempo).write(str(options.out / name))
        pieces.append(
            {"file": name, "notes": len(notes_in(roll)[0]), "steps": len(roll), "density": float(roll.mean())}
        )
    return {
        "baseline": str(options.run),
        **{name: getattr(options, name) for name in ("prompt", "prompt_from", "seed", "include_prompt")},
        "tempo": round(tempo, 3),
        "steps_per_beat": None if rate.per_second else rate.per_beat,
        "steps_per_second": rate.per_second or None,
        "decoding": {name: getattr(options, name) for name in ("temperature", "top_k", "threshold")},
        "pieces": pieces,
    }
