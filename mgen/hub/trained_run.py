"""A finished training run, read for publishing.

Reads `RUN/model`, `RUN/run.json`, `RUN/config.yaml` and, for a critic, `RUN/card.json`; writes nothing. Models are
`transformers` models with a vocabulary, except feature critics: networks of mgen that read no tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from mgen.corpus.shards import MANIFEST as CORPUS_MANIFEST
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.models.lstm import LstmConfig, LstmForCausalLM, LstmForSequenceClassification
from mgen.models.pretrained import read_config, stated_context
from mgen.renames import check_run_folder
from mgen.runs.checkpoints import MANIFEST, check_manifest
from mgen.runs.folder import read_options
from mgen.stored import read_json

CRITIC_FILE = "critic.json"
REMEDY = "train again"
POLICY, CRITIC, REWARD_MODEL = "policy", "critic", "reward model"
FEATURES = "features"
"""Value of `input` in critic.json for a feature critic."""

PUBLISHED = ("run.json", "config.yaml", "card.json", "metrics.jsonl", "reliability.svg", "model/*")
"""Files of a run that are published, or that what is published is made of."""

COMMANDS = ("pretrain", "finetune", "grpo", "critic", "prefer")  # the commands whose runs hold a model


@dataclass(frozen=True)
class TrainedRun:
    """A finished run.

    Attributes:
        folder: of the run.
        kind: `policy` (generates music), `critic` (judges style, calibrated) or `reward model` (an uncalibrated logit).
        facts: run.json.
        options: config.yaml, the options as used.
        model_config: config.json of the model; None for a feature critic.
        critic: critic.json; empty without one.
        card: card.json, the measurements of a critic; empty without one.
        remi: the vocabulary; None for a feature critic.
    """

    folder: Path
    kind: str
    facts: dict[str, Any]
    options: dict[str, Any]
    model_config: PreTrainedConfig | None
    critic: dict[str, Any]
    card: dict[str, Any]
    remi: Remi | None

    @classmethod
    def read(cls, folder: Path | str) -> TrainedRun:
        """Reads a run's folder.

        Raises:
            MgenError: It is no run, is not finished, has no model, the model's files are damaged, or a file that is
                published is a link out of the run or not a regular file.
        """
        folder = Path(folder)
        if not (folder / "run.json").is_file():
            is_model = any((folder / name).is_file() for name in ("config.json", CRITIC_FILE))
            if is_model and (folder.parent / "run.json").is_file():
                raise MgenError(f"{folder}: is a run's model; give the run itself, {folder.parent}")
            raise MgenError(
                f"{folder}: expected a run of mgen (run.json), found none; give RUN, the --out of a training"
            )
        _check_inside(folder)
        facts = _read_json(folder / "run.json")
        command = facts.get("command")
        if command not in COMMANDS:
            raise MgenError(f"{folder}: a run of mgen {command} has no model; expected one of {', '.join(COMMANDS)}")
        if not facts.get("finished"):
            raise MgenError(f"{folder}: is not finished; give its mgen {command} command again, then push")
        options = read_options(folder)
        check_run_folder(folder, str(command), options)
        model = folder / "model"
        critic = _read_json(model / CRITIC_FILE, required=False)
        reads_features = critic.get("input") == FEATURES
        if not (reads_features or (model / "config.json").is_file()) or not list(model.glob("*.safetensors")):
            raise MgenError(f"{model}: expected config.json and *.safetensors, found none; train again")
        if (model / MANIFEST).is_file():
            try:
                check_manifest(model)
            except MgenError as error:
                raise MgenError(f"{folder}: its model is damaged ({str(error).split(';')[0]}); train again") from error
        config = None if reads_features else read_config(model)
        return cls(
            folder,
            CRITIC if config is None else _kind(model, config, critic),
            facts,
            options,
            config,
            critic,
            _read_json(folder / "card.json", required=False),
            None if reads_features else Remi.from_pretrained(model),
        )

    @property
    def model(self) -> Path:
        """Folder of the weights."""
        return self.folder / "model"

    @property
    def name(self) -> str:
        """Name of the run, the same as in `mgen evaluate`."""
        return self.folder.resolve().name

    @property
    def command(self) -> str:
        return str(self.facts["command"])

    @property
    def stock(self) -> bool:
        """Whether the Auto classes of `transformers` load it: all but a feature critic."""
        return self.remi is not None

    @property
    def registered_by(self) -> str:
        """Module of mgen to import before the Auto classes load it; empty for an architecture of `transformers`."""
        own = self.model_config is not None and self.model_config.model_type == LstmConfig.model_type
        return LstmConfig.__module__ if own else ""

    @property
    def vocabulary(self) -> Remi:
        """The vocabulary.

        Raises:
            MgenError: A feature critic has none.
        """
        if self.remi is None:
            raise MgenError(f"{self.folder}: a feature critic has no vocabulary")
        return self.remi

    @property
    def style(self) -> str:
        """The style it was trained for; empty without one."""
        style = self.options.get("target")
        return str(style) if style and (self.remi is None or style in self.remi.style_ids) else ""

    @property
    def architecture(self) -> str:
        """Class of the model, such as `GPT2LMHeadModel`; empty for a feature critic."""
        return _architecture(self.model_config) if self.model_config else ""

    @property
    def context(self) -> int | None:
        """Longest sequence in tokens; None if the configuration sets none."""
        return stated_context(self.model_config) if self.model_config else None

    def initial_run(self) -> dict[str, Any]:
        """run.json of the run whose model this one started from; empty if there is none or it is gone."""
        folder = self.options.get("policy") or self.options.get("init")
        return _read_json(Path(str(folder)).parent / "run.json", required=False) if folder else {}

    def corpus(self, folder: Path | str = "") -> dict[str, Any]:
        """corpus.json of the training corpus; empty if it is not found.

        Args:
            folder: where the corpus is now; by default where the run found it.

        Raises:
            MgenError: `folder` is no corpus, or not the training corpus.
        """
        place = Path(folder or str(self.options.get("corpus") or "."))
        if not folder and not (place / CORPUS_MANIFEST).is_file():
            return {}
        manifest = read_json(place / CORPUS_MANIFEST, "give the training corpus, or none")
        if manifest.get("fingerprint") == self.facts.get("data"):
            return manifest
        if folder:
            raise MgenError(
                f"{folder}: is corpus {manifest.get('fingerprint')}, {self.folder} was trained on "
                f"{self.facts.get('data')}; give that one, or none"
            )
        return {}


def _architecture(config: PreTrainedConfig) -> str:
    return str((config.architectures or [""])[0])


def _kind(model: Path, config: PreTrainedConfig, critic: dict[str, Any]) -> str:
    name = _architecture(config)
    if name in {LstmForCausalLM.__name__, *MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()}:
        return POLICY
    if name in {LstmForSequenceClassification.__name__, *MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.values()}:
        return CRITIC if critic.get("kind") == "style" else REWARD_MODEL
    raise MgenError(f"{model}: holds {name or 'no architecture'}; expected a causal language model or a classifier")


def _check_inside(folder: Path) -> None:
    """Raises `MgenError` unless all that is published is regular files in the folder; links inside it may be used."""
    for path in (path for pattern in PUBLISHED for path in folder.glob(pattern)):
        if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
            raise MgenError(f"{path}: expected a file of the run, found a link out of it or no file; put a copy there")


def _read_json(path: Path, required: bool = True) -> dict[str, Any]:
    return read_json(path, REMEDY) if required or path.is_file() else {}
