"""A network that reads the tokens of a piece and gives one logit: what every token critic is built on.

It reads the music and not its file: notes are encoded again in canonical tokens, with one velocity for all. It knows
nothing of styles, of realism, or of nats.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
)

from mgen.encoding.remi import Kind, Remi
from mgen.errors import MgenError
from mgen.models.pretrained import load_model, quiet
from mgen.models.transformer import context_length, llama_config, load_policy
from mgen.notes import Notes
from mgen.speed import PLAIN, Speed
from mgen.stored import explain_damage, read_json

FILE = "critic.json"
REMEDY = "train the critic again"
TokenRow = NDArray[np.int64]
_DROPOUT = re.compile("dropout|pdrop$|^layerdrop$")


class SequenceCritic:
    """A sequence classifier of any causal architecture with one raw logit, and how notes are encoded for it.

    Args:
        model: the network; `num_labels` is 1.
        remi: the encoding that its vocabulary is.
        max_tokens: longer pieces are cut to this length; the EOS that follows is where the logit is read.
        speed: precision of the layers; the last, which gives the logit, stays in float32.

    Raises:
        MgenError: The network is too short for `max_tokens`, or its vocabulary is not that of `remi`.
    """

    def __init__(self, model: PreTrainedModel, remi: Remi, max_tokens: int, speed: Speed = PLAIN) -> None:
        context = context_length(model.config)
        if max_tokens + 1 > context:
            raise MgenError(
                f"max_tokens ({max_tokens}) and an EOS do not fit the network's context of {context}; try {context - 1}"
            )
        if model.config.vocab_size != remi.vocab_size:
            sizes = f"the network has {model.config.vocab_size} tokens, its encoding {remi.vocab_size}"
            raise MgenError(f"{sizes}; train the critic on this corpus")
        self.model, self.remi, self.max_tokens, self.speed = model, remi, max_tokens, speed
        self._canonical = _with_one_velocity(remi)

    @classmethod
    def new(
        cls,
        remi: Remi,
        init: Path | str | None = None,
        size: str = "tiny",
        max_tokens: int | None = None,
        label: str = "yes",
        seed: int = 0,
        speed: Speed = PLAIN,
    ) -> SequenceCritic:
        """Builds an untrained network.

        Args:
            init: folder of a pretrained policy whose backbone is copied; such a critic learns in fewer steps, and
                notices repetition sooner, than one with random weights.
            size: without `init`, a name of `mgen.models.transformer.SIZES`.
            max_tokens: by default what the policy's context holds, or 511.
            label: name of the class that the logit is for, for readers of config.json.
            seed: of the random weights.

        Raises:
            MgenError: The folder holds no policy, one with another vocabulary, or one that no critic can be built on.
        """
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if init is None:
                config = llama_config(size, remi, (max_tokens or 511) + 1)
                model = classifier(config, label)
            else:
                policy, its_remi = load_policy(init)
                _check_fingerprint(init, its_remi, remi)
                model = classifier(policy.config, label)
                model.base_model.load_state_dict(policy.base_model.state_dict())
        model.to(PartialState().device)
        return cls(model, remi, max_tokens or context_length(model.config) - 1, speed)

    def rows(self, notes: Notes) -> list[TokenRow]:
        """Encodes B pieces for the network: canonical ids, one velocity, cut to `max_tokens`, then EOS."""
        return [
            np.append(self.remi.merge(self._canonical[ids])[: self.max_tokens], self.remi.eos_id)
            for ids in self.remi.base.encode(notes)[: notes.n_pieces]
        ]

    def pad(self, rows: Sequence[TokenRow]) -> Tensor:
        """(B, T) ids, padded on the right, on the network's device."""
        return torch.from_numpy(pad_rows(rows, self.remi.pad_id)).to(self.model.device)

    def logits(self, notes: Notes, batch_size: int = 64) -> NDArray[np.float32]:
        """(B,) raw logit of each piece."""
        return self.row_logits(self.rows(notes), batch_size)

    def batch_logits(self, ids: Tensor) -> Tensor:
        """(B,) float32 logits of ids (B, T) padded on the right."""
        # No attention mask: behind a causal mask nothing attends to padding on the right.
        if self.speed.dtype is None:
            return self.model(input_ids=ids).logits[:, 0].float()  # type: ignore[no-any-return]
        with self.speed.autocast(ids.device):
            hidden = self.model.base_model(input_ids=ids).last_hidden_state
        last = (ids != self.remi.pad_id).sum(1) - 1
        return self.model.score(hidden[torch.arange(len(ids), device=ids.device), last].float())[:, 0]  # type: ignore[no-any-return]

    @torch.no_grad()
    def row_logits(self, rows: Sequence[TokenRow], batch_size: int = 64) -> NDArray[np.float32]:
        """(B,) raw logit of each row. Rows of similar length share a batch, to save time."""
        out = np.zeros(len(rows), np.float32)
        order = np.argsort([len(row) for row in rows], kind="stable")
        training = self.model.training
        self.model.eval()
        for begin in range(0, len(order), batch_size):
            part = order[begin : begin + batch_size]
            out[part] = self.batch_logits(self.pad([rows[i] for i in part])).cpu().numpy()
        self.model.train(training)
        return out

    def save_pretrained(self, folder: Path | str, **facts: Any) -> None:
        """Writes the network, the tokenizer and critic.json with `facts`.

        Tokens that differ in velocity alone get one embedding, so that the network ignores velocity without this class
        too, as when TRL loads it (nearly so with merges, which may join notes of one velocity and not of another).
        """
        folder = Path(folder)
        embedding = self.model.get_input_embeddings().weight.data
        embedding[:] = embedding[self._canonical]
        with quiet():
            self.model.save_pretrained(folder)
        self.remi.save_pretrained(folder)
        (folder / FILE).write_text(json.dumps({"max_tokens": self.max_tokens, **facts}, indent=1))

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, remi: Remi | None = None, speed: Speed = PLAIN
    ) -> tuple[SequenceCritic, dict[str, Any]]:
        """Reads what `save_pretrained` wrote: the critic and its facts.

        Args:
            remi: the encoding of the music to be judged; None if it need not be the critic's own.

        Raises:
            MgenError: The folder has no critic, or one of another vocabulary.
        """
        folder = Path(folder)
        if not (folder / FILE).is_file():
            raise MgenError(f"{folder}: expected a critic ({FILE}), found none; give RUN/model of a run of mgen critic")
        facts = read_json(folder / FILE, REMEDY)
        with explain_damage(folder / FILE, REMEDY):
            max_tokens = int(facts["max_tokens"])
        if max_tokens < 1:
            raise MgenError(f"{folder / FILE}: max_tokens is {max_tokens}, expected at least 1; {REMEDY}")
        own = Remi.from_pretrained(folder)
        if remi is not None:
            _check_fingerprint(folder, own, remi)
        model = load_model(folder, classifier_class)
        return cls(model.to(PartialState().device).eval(), own, max_tokens, speed), facts


def _with_one_velocity(remi: Remi) -> NDArray[np.int64]:
    """(V,) the token with a medium velocity in place of each token's own; the token itself if there is no such one."""
    base = np.arange(remi.base_size)
    velocities = np.flatnonzero(remi.kind == Kind.VELOCITY)
    base[velocities] = velocities[len(velocities) // 2 :][:1]
    id_of = {part: id_ for id_, part in enumerate(remi.parts)}
    return np.array([id_of.get(tuple(base[list(part)].tolist()), id_) for id_, part in enumerate(remi.parts)])


def pad_rows(rows: Sequence[TokenRow], pad_id: int) -> NDArray[np.int64]:
    """(B, T) rows padded on the right."""
    out = np.full((len(rows), max((len(row) for row in rows), default=0)), pad_id)
    for place, row in zip(out, rows, strict=True):
        place[: len(row)] = row
    return out


def transpose_rows(rows: Sequence[TokenRow], remi: Remi, rng: np.random.Generator) -> list[TokenRow]:
    """Transposes each row to one of 12 keys, drawn uniformly, as far as its range allows; band music stays as it is.

    A row keeps at most its number of tokens.
    """
    if remi.multi or not rows:
        return list(rows)
    base = [remi.expand(row)[0] for row in rows]
    keys = [remi.keys(row) for row in base]
    shift = rng.integers([key.start for key in keys], [key.stop for key in keys])
    moved = [remi.transpose(row, int(by)) for row, by in zip(base, shift, strict=True)]
    if not remi.merges:
        return moved
    # In another key a row may have more tokens; the last one, EOS, stays.
    cut = [remi.merge(row[:-1])[: len(own) - 1] for row, own in zip(moved, rows, strict=True)]
    return [np.append(row, own[-1]) for row, own in zip(cut, rows, strict=True)]


def classifier(config: PreTrainedConfig, label: str) -> PreTrainedModel:
    """An untrained classifier with one logit on the backbone that a policy's `config` describes.

    It has no dropout: so training draws nothing from torch's global generator, and resuming is exact.

    Args:
        label: name of the class that the logit is for, for readers of config.json.

    Raises:
        MgenError: As `classifier_class`.
    """
    changes = {"num_labels": 1, "id2label": {0: label}, "label2id": {label: 0}, "use_cache": False}
    values = config.to_dict()
    changes |= {name: 0.0 for name in values if _DROPOUT.search(name) and isinstance(values[name], float)}
    config = type(config).from_dict({**values, **changes, "architectures": None})
    model: PreTrainedModel = classifier_class(config)(config)
    return model


def classifier_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The sequence classifier of an architecture: its own, or transformers' generic one over its backbone.

    Raises:
        MgenError: The architecture has no causal model, or its classifier has no linear layer `score`.
    """
    if type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        known: type[PreTrainedModel] = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
        return known
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise MgenError(f"a critic is built on a causal language model; {config.model_type} has none")
    causal = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    base = next(kind for kind in causal.__mro__ if PreTrainedModel in kind.__bases__)
    name = base.__name__.replace("PreTrainedModel", "ForSequenceClassification")
    return type(name, (GenericForSequenceClassification, base), {"base_model_prefix": causal.base_model_prefix})


def _check_fingerprint(folder: Path | str, found: Remi, expected: Remi) -> None:
    if found.fingerprint != expected.fingerprint:
        raise MgenError(
            f"{folder}: its tokenizer ({found.fingerprint}, {found.vocab_size} tokens) is not that of the "
            f"music ({expected.fingerprint}, {expected.vocab_size} tokens); use one trained on this corpus"
        )
