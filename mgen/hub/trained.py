"""What is published: a finished run, with what it says of itself.

Reads `RUN/model`, `RUN/run.json`, `RUN/config.yaml` and, of a critic, `RUN/card.json`; writes nothing. All models are
stock ones with a vocabulary, but for critics that hear traits: networks of mgen's own, that no token enters.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mgen.corpus.shards import MANIFEST as CORPUS_MANIFEST
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.runs.checkpoints import MANIFEST, check_manifest

CRITIC_FILE = "critic.json"
POLICY, CRITIC, REWARD_MODEL = "policy", "critic", "reward model"
TRAITS = "traits"
"""What `hears` of critic.json says of a critic that is no stock model."""

COMMANDS = {
    "pretrain": "next-token training",
    "finetune": "reinforcement learning against judges",
    "critic": "training of a classifier",
    "prefer": "training on preferences",
}
"""The commands that leave a run with a model, and what each does."""


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        run: its folder.
        kind: `policy` (writes music), `critic` (judges style, calibrated) or `reward model` (a bare logit).
        facts: run.json.
        config: config.yaml, the options as used.
        model_config: config.json of the model; empty for a critic of traits.
        critic: critic.json, empty if there is none.
        card: card.json, what was measured of a critic; empty if there is none.
        remi: the vocabulary; None for a critic of traits, which has none.
    """

    run: Path
    kind: str
    facts: dict[str, Any]
    config: dict[str, Any]
    model_config: dict[str, Any]
    critic: dict[str, Any]
    card: dict[str, Any]
    remi: Remi | None

    @classmethod
    def read(cls, run: Path | str) -> Trained:
        """Open a run's folder.

        Raises:
            MgenError: It is no run, not finished, has no model, or the model's files are not what was written.
        """
        run = Path(run)
        if not (run / "run.json").is_file():
            is_model = any((run / name).is_file() for name in ("config.json", CRITIC_FILE))
            if is_model and (run.parent / "run.json").is_file():
                raise MgenError(f"{run}: is a run's model; give the run itself, {run.parent}")
            raise MgenError(f"{run}: expected a run of mgen (run.json), found none; give RUN, the --out of a training")
        facts = _json(run / "run.json")
        command = facts.get("command")
        if command not in COMMANDS:
            raise MgenError(f"{run}: a run of mgen {command} has no model; expected one of {', '.join(COMMANDS)}")
        if not facts.get("finished"):
            raise MgenError(f"{run}: is not finished; give its mgen {command} command again, then push")
        model = run / "model"
        critic = _json(model / CRITIC_FILE, needed=False)
        own = critic.get("hears") == TRAITS  # a model of our own, with neither config.json nor a vocabulary
        if not (own or (model / "config.json").is_file()) or not list(model.glob("*.safetensors")):
            raise MgenError(f"{model}: expected config.json and *.safetensors, found none; train again")
        if (model / MANIFEST).is_file():
            try:
                check_manifest(model)
            except MgenError as error:
                raise MgenError(f"{run}: its model is not whole ({str(error).split(';')[0]}); train again") from error
        model_config = {} if own else _json(model / "config.json")
        return cls(
            run,
            CRITIC if own else _kind(model, model_config, critic),
            facts,
            _yaml(run / "config.yaml"),
            model_config,
            critic,
            _json(run / "card.json", needed=False),
            None if own else Remi.from_pretrained(model),
        )

    @property
    def model(self) -> Path:
        """Folder of the weights."""
        return self.run / "model"

    @property
    def name(self) -> str:
        """The run's, as `mgen evaluate` calls it too."""
        return self.run.resolve().name

    @property
    def command(self) -> str:
        return str(self.facts["command"])

    @property
    def stock(self) -> bool:
        """Whether stock classes load it: everything but a critic of traits."""
        return self.remi is not None

    @property
    def vocabulary(self) -> Remi:
        """The vocabulary of a stock model.

        Raises:
            MgenError: It has none.
        """
        if self.remi is None:
            raise MgenError(f"{self.run}: a critic that hears traits has no vocabulary")
        return self.remi

    @property
    def style(self) -> str:
        """The style it was trained for; empty if for none."""
        named = self.config.get("positive" if self.kind == CRITIC else "target")
        return str(named) if named and (self.remi is None or named in self.remi.style_ids) else ""

    @property
    def context(self) -> int:
        """Longest sequence, in tokens, of a stock model."""
        return int(self.model_config["max_position_embeddings"])

    def start(self) -> dict[str, Any]:
        """run.json of the run that this one started from; empty if there was none or it is no longer there."""
        folder = self.config.get("policy") or self.config.get("init")
        return _json(Path(str(folder)).parent / "run.json", needed=False) if folder else {}

    def corpus(self, folder: Path | str = "") -> dict[str, Any]:
        """corpus.json of the music it was trained on, where it lies now; empty if it is not found.

        Args:
            folder: the corpus, if it is no longer where the run found it.

        Raises:
            MgenError: `folder` is no corpus, or another one.
        """
        place = Path(folder or str(self.config.get("corpus") or "."))
        found = _json(place / CORPUS_MANIFEST, needed=bool(folder))
        if found.get("fingerprint") == self.facts.get("data"):
            return found
        if folder:
            raise MgenError(
                f"{folder}: is corpus {found.get('fingerprint')}, {self.run} was trained on {self.facts.get('data')}; "
                "give that one, or none"
            )
        return {}


def _kind(model: Path, config: dict[str, Any], critic: dict[str, Any]) -> str:
    names = [str(name) for name in config.get("architectures") or []]
    if any(name.endswith("ForCausalLM") for name in names):
        return POLICY
    if any(name.endswith("ForSequenceClassification") for name in names):
        return CRITIC if critic.get("kind") == "style" else REWARD_MODEL
    raise MgenError(f"{model}: holds {', '.join(names) or 'no architecture'}; expected a causal model or a classifier")


def _json(path: Path, needed: bool = True) -> dict[str, Any]:
    if not needed and not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MgenError(f"{path}: cannot be read ({' '.join(str(error).split())}); train again") from error
    if not isinstance(content, dict):
        raise MgenError(f"{path}: expected a JSON object, found {type(content).__name__}; train again")
    return content


def _yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise MgenError(f"{path}: cannot be read ({' '.join(str(error).split())}); train again") from error
    return content if isinstance(content, dict) else {}
