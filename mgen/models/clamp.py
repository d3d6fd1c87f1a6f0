"""CLaMP 2 and 3 as embedders of pieces: their published weights, read from a local file.

A piece is written as the text of its MIDI messages, split into patches of characters as in the training of these
models, and embedded by the symbolic encoder. The text and audio towers are not used. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from mgen.arrays import Floats
from mgen.errors import MgenError
from mgen.models.pretrained import check_finite, check_size
from mgen.notes import STEPS_PER_QUARTER, Notes
from mgen.stored import explain_damage

TICKS = 480  # ticks per quarter note in the text, as in most MIDI files of the models' training
TEMPO = 500_000  # microseconds per quarter note in the text; `Notes` have no tempo
LETTERS = 128  # size of the alphabet of a patch
PAD, BEGIN, END = 0, 1, 2
HEAD_SIZE = 64
"""Width of an attention head in every published model."""

TOWERS = {
    "symbolic_model.": "symbolic_proj.",  # CLaMP 3
    "music_model.": "music_proj.",  # CLaMP 2
    "encoder.": None,  # M3, the base of both: mean over patches, no projection
}
SUFFIXES = (".pth", ".pt", ".safetensors")


class ClampEmbedder:
    """Embeds B pieces as (B, D); NaN for a piece without notes.

    Pieces longer than the encoder's context are embedded in parts, and the parts averaged with weights by length, as in
    the models' own code. The tempo is 120; the metre is that of the bars.

    Args:
        encoder: the symbolic tower.
        patch_embedding: from the one-hot characters of a patch to the encoder's width.
        projection: to the space that music and text share; None for M3.
    """

    def __init__(self, encoder: BertModel, patch_embedding: nn.Linear, projection: nn.Linear | None) -> None:
        self.encoder, self.patch_embedding = encoder.eval(), patch_embedding
        self.projection: nn.Module = projection or nn.Identity()
        self.width = (projection or patch_embedding).out_features
        self.patch_size = patch_embedding.in_features // LETTERS
        self.context = int(encoder.config.max_position_embeddings)

    @classmethod
    def load(cls, path: Path | str) -> ClampEmbedder:
        """Loads published weights from a file, or from a folder with exactly one such file.

        Supported are `weights_clamp3_*.pth`, `weights_clamp2_*.pth` and `weights_m3_*.pth` as their authors publish
        them (a dict with the state in `model`), or the same tensors in a safetensors file. All sizes are taken from the
        tensors. CLaMP 1 is not supported, because its encoder reads ABC notation only.

        Raises:
            MgenError: There is no such file, or no symbolic tower of this architecture in it.
        """
        file = _weights_file(Path(path))
        state = _state(file)
        prefix = next((name for name in TOWERS if f"{name}patch_embedding.weight" in state), None)
        if prefix is None:
            raise MgenError(
                f"{file}: expected tensors symbolic_model.*, music_model.* or encoder.* with a patch_embedding, found "
                f"{', '.join(sorted(state)[:3]) or 'none'}; give weights of CLaMP 2, CLaMP 3 or M3"
            )
        tower = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        check_finite(file, tower)
        with explain_damage(file, "another architecture: give weights of CLaMP 2, CLaMP 3 or M3"):
            encoder, patch_embedding = _build_encoder(tower)
            projected = TOWERS[prefix]
            projection = _linear(state, projected) if projected else None
            return cls(encoder, patch_embedding, projection)

    @torch.no_grad()
    def __call__(self, notes: Notes) -> Floats:
        out = np.full((notes.n_pieces, self.width), np.nan)
        for piece in np.flatnonzero(notes.counts > 0).tolist():
            ids = patches(messages(notes, piece), self.patch_size)
            starts = range(0, len(ids), self.context)
            # the last part overlaps the one before, and is weighted by the patches that it adds
            parts = [ids[max(min(start, len(ids) - self.context), 0) :][: self.context] for start in starts]
            added = [min(self.context, len(ids) - start) for start in starts]
            rows = np.stack([self._embed(part) for part in parts])
            out[piece] = np.average(rows, axis=0, weights=added)
        return out

    def _embed(self, ids: NDArray[np.int64]) -> Floats:
        hot = nn.functional.one_hot(torch.from_numpy(ids), LETTERS).flatten(1).float()
        embedded = self.patch_embedding(hot.to(self.patch_embedding.weight.device))[None]
        hidden = self.encoder(inputs_embeds=embedded).last_hidden_state.mean(dim=1)
        pooled: Floats = self.projection(hidden)[0].double().cpu().numpy()
        return pooled


# ------------------------------------------------------------- music as text


def messages(notes: Notes, piece: int) -> list[str]:
    """The MIDI messages of one piece in time order, each with its type and values (time since the previous message,
    channel, ...): the format that the models' authors call MTF.
    """
    one = notes.pieces([piece])
    scale = TICKS // STEPS_PER_QUARTER
    channel = _channels(one.program)
    events: list[tuple[int, int, str, str]] = [(0, 1, "set_tempo", str(TEMPO))]
    for onset, beats, unit in one.bars.changes():
        events.append((onset * scale, 0, "time_signature", f"{beats} {unit} 24 8"))
    for program, place in sorted(set(zip(one.program.tolist(), channel.tolist(), strict=True))):
        events.append((0, 2, "program_change", f"{place} {max(program, 0)}"))
    columns = (one.onset * scale, (one.onset + one.duration) * scale, channel, one.pitch, one.velocity)
    for begin, end, place, pitch, velocity in zip(*(column.tolist() for column in columns), strict=True):
        events.append((begin, 4, "note_on", f"{place} {pitch} {velocity}"))
        events.append((end, 3, "note_off", f"{place} {pitch} {velocity}"))
    events.sort(key=lambda event: event[:2])  # at equal times, note-offs first
    out, now = [f"ticks_per_beat {TICKS}"], 0
    for time, _, kind, values in events:
        # the time is the second word, but the last one in meta messages
        meta = kind in {"set_tempo", "time_signature"}
        out.append(f"{kind} {values} {time - now}" if meta else f"{kind} {time - now} {values}")
        now = time
    return [*out, "end_of_track 0"]


def _channels(program: NDArray[np.int32]) -> NDArray[np.int64]:
    """(N,) one channel per program, drums on 9; more than 15 programs share channels."""
    free = np.array([channel for channel in range(16) if channel != 9])
    pitched = np.unique(program[program >= 0])
    return np.where(program < 0, 9, free[np.searchsorted(pitched, program) % len(free)])


def patches(lines: Sequence[str], size: int) -> NDArray[np.int64]:
    """(P, size) character codes; consecutive messages of one type share a patch if they fit, between two special
    patches.
    """
    texts: list[str] = []
    for line in lines:
        kind, _, values = line.partition(" ")
        room = size - 2
        if texts and texts[-1].startswith(kind) and len(texts[-1]) + len(values) + 1 <= room:
            texts[-1] = f"{texts[-1][:-1]}\t{values}\n"
        else:
            texts.append(line + "\n")
    out = np.full((len(texts) + 2, size), PAD, np.int64)
    out[0] = BEGIN
    out[-1] = [BEGIN] + [END] * (size - 1)
    for row, text in zip(out[1:-1], [*texts[:-1], texts[-1].rstrip("\n")] if texts else [], strict=True):
        codes = [BEGIN, *text.encode("ascii"), END][:size]
        row[: len(codes)] = codes
    return out


# ------------------------------------------------------------- weights


def _weights_file(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(file for file in path.glob("*") if file.suffix in SUFFIXES) if path.is_dir() else []
    if len(found) != 1:
        raise MgenError(
            f"{path}: expected a file of CLaMP weights ({', '.join(SUFFIXES)}), or a folder with exactly one, "
            f"found {len(found)}; give the path of weights_clamp3_*.pth"
        )
    return found[0]


def _state(file: Path) -> dict[str, Tensor]:
    with explain_damage(file, "download it again"):
        if file.suffix == ".safetensors":
            return load_file(file)
        stored: Any = torch.load(file, map_location="cpu", weights_only=True)
    state = stored.get("model", stored) if isinstance(stored, dict) else {}
    return (
        {name: value for name, value in state.items() if isinstance(value, Tensor)} if isinstance(state, dict) else {}
    )


def _build_encoder(tower: dict[str, Tensor]) -> tuple[BertModel, nn.Linear]:
    base = {name.removeprefix("base."): value for name, value in tower.items() if name.startswith("base.")}
    base.pop("embeddings.position_ids", None)  # a buffer in old versions of transformers
    hidden = tower["patch_embedding.weight"].shape[0]
    layers = {int(name.split(".")[2]) for name in base if name.startswith("encoder.layer.")}
    config = BertConfig(
        vocab_size=base["embeddings.word_embeddings.weight"].shape[0],
        hidden_size=hidden,
        num_hidden_layers=len(layers),
        num_attention_heads=max(hidden // HEAD_SIZE, 1),
        intermediate_size=base["encoder.layer.0.intermediate.dense.weight"].shape[0],
        max_position_embeddings=base["embeddings.position_embeddings.weight"].shape[0],
    )
    check_size(lambda: BertModel(config), {name: weight.shape for name, weight in base.items()})
    encoder = BertModel(config)
    encoder.load_state_dict(base)
    return encoder, _linear(tower, "patch_embedding.")


def _linear(state: dict[str, Tensor], prefix: str) -> nn.Linear:
    weights = {name: state[f"{prefix}{name}"] for name in ("weight", "bias")}
    layer = nn.Linear(weights["weight"].shape[1], weights["weight"].shape[0], device="meta")
    layer.load_state_dict(weights, assign=True)
    return layer
