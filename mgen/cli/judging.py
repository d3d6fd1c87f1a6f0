"""Judges by name, and their weighted sum: what fine-tuning climbs, and what best-of-n chooses by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from critics.realism.critic import RealismCritic
from critics.style.critic import StyleCritic
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.judgement import Judge
from mgen.notes import Notes
from mgen.options import weights
from mgen.rl.trainer import DISCRIMINATOR_FILE
from mgen.runs.checkpoints import MANIFEST
from rewards import REWARDS
from rewards.bands import Band, Bands, load_bands

BANDS_FILE = "bands.json"
"""Where a run of `mgen finetune` keeps the bands that it measured."""

REALISM_FOLDER = "realism"
"""Where a finished run of `mgen finetune` keeps its discriminator."""

CRITICS = ("style", "realism")


@dataclass(frozen=True)
class Judges:
    """Several judges as one number.

    Attributes:
        judges: by name.
        weights: of each.
        description: who judges, and who of those asked for could not, in words.
    """

    judges: Mapping[str, Judge]
    weights: Mapping[str, float]
    description: str

    def __call__(self, notes: Notes) -> NDArray[np.float64]:
        """(B,) weighted sums of the scores; where a judge cannot speak, its stated worst value counts."""
        total = np.zeros(notes.n_pieces)
        for name, judge in self.judges.items():
            total += self.weights[name] * judge(notes).score
        return total


def left_out(names: Iterable[str], bands: Mapping[str, Band]) -> dict[str, str]:
    """Rules among `names` that the corpus has no band for, and why: none of its pieces can be held against another.

    A rule whose band is missing for no stated reason is not among them: those bands are old, and asking for the rule
    is an error.
    """
    why = bands.left_out if isinstance(bands, Bands) else {}
    return {name: why[name] for name in names if name in REWARDS and name in why}


def stock_judge(name: str, bands: Mapping[str, Band], critic: str, remi: Remi, credit: bool = False) -> Judge:
    """A rule, or the style critic in the folder `critic`; the discriminator belongs to its run.

    Args:
        credit: the critic gives credit by bars.

    Raises:
        MgenError: The critic is asked for and not given, or a band is missing.
    """
    if name in REWARDS:
        return REWARDS[name](bands)
    if not critic:
        raise MgenError("judges names style: expected --critic FOLDER of a style critic; train one with mgen critic")
    return StyleCritic.from_pretrained(critic, remi, credit)


def judges_from(words: Sequence[str], critic: str, bands: str, remi: Remi) -> Judges:
    """Judges from `NAME=WEIGHT` words; without any, the style critic alone.

    Raises:
        MgenError: No judge is named, one does not exist, needs a file that is not given, or lives in a run only.
    """
    weight = weights(words, "judges", [*REWARDS, *CRITICS]) if words else {"style": 1.0} if critic else {}
    if not weight:
        raise MgenError("best_of needs judges: give --critic FOLDER, or --judges NAME=WEIGHT... --bands FILE")
    if "realism" in weight:
        raise MgenError("judges names realism: the discriminator lives in a run of mgen finetune; leave it out")
    ruled = [name for name in weight if name in REWARDS]
    if ruled and not bands:
        raise MgenError(f"judges names {', '.join(ruled)}: expected --bands FILE, such as RUN/{BANDS_FILE}")
    measured = load_bands(Path(bands)) if ruled else {}
    judges = {name: stock_judge(name, measured, critic, remi) for name in weight}
    return Judges(judges, weight, _told(weight))


def judges_of_run(folder: Path | str, remi: Remi) -> Judges:
    """The judges that a run of `mgen finetune` was judged by, as they were at its end.

    The discriminator is that of the run's end, or, of a run that has not come to it, that of the last whole
    checkpoint: it
    tells real music from what the *tuned* policy played then (or, trained so, from what the reference plays). Without
    either it is left out, and `description` says so.

    Rules that the run left out, as its corpus has no band for them, are left out here too.

    Args:
        folder: the run's folder; the paths in its config.yaml are read as they stand.
        remi: the encoding of the music to be judged.

    Raises:
        MgenError: The folder is no run of `mgen finetune`, or a critic, bands or a policy that it names is gone.
    """
    folder = Path(folder)
    config = _config(folder)
    weight = weights(config["judges"], "judges", [*REWARDS, *CRITICS])
    ruled = any(name in REWARDS for name in weight)
    bands = load_bands(Path(config["bands"] or folder / BANDS_FILE)) if ruled else Bands()
    judges: dict[str, Judge] = {}
    missing = left_out(weight, bands)
    notes = [f"{name} is left out: {why}" for name, why in missing.items()]
    for name in weight:
        if name in missing:
            continue
        if name != "realism":
            judges[name] = stock_judge(name, bands, config["critic"], remi)
            continue
        discriminator, note = _discriminator(folder, config, remi)
        notes.append(note)
        if discriminator is not None:
            judges[name] = discriminator
    if not judges:
        raise MgenError(f"{folder}: its only judge was the discriminator, and no checkpoint is there; name another run")
    kept = {name: weight[name] for name in judges}
    return Judges(judges, kept, "; ".join([f"{_told(kept)} as in the run {folder.resolve().name}", *notes]))


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    try:
        config = yaml.safe_load(path.read_text())
    except OSError as error:
        raise MgenError(f"{folder}: expected a run of mgen finetune, {path.name}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise MgenError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    missing = {"judges", "critic", "bands", "policy"} - set(config if isinstance(config, dict) else ())
    if missing:
        raise MgenError(f"{path}: not of a run of mgen finetune (no {', '.join(sorted(missing))}); give such a run")
    return dict(config)


def _discriminator(folder: Path, config: Mapping[str, Any], remi: Remi) -> tuple[Judge | None, str]:
    """A run's discriminator, if it is kept anywhere, and a remark on which it is."""
    if (folder / REALISM_FOLDER).is_dir():
        ended = RealismCritic.from_pretrained(folder / REALISM_FOLDER, remi)
        return ended, f"the discriminator is that of the run's end, against {ended.against} samples"
    checkpoint = _last_discriminator(folder)
    if checkpoint is None:
        return None, "the discriminator is left out: no checkpoint of the run is there"
    options = {name: config[f"realism_{name}"] for name in ("clip", "spectral_norm") if f"realism_{name}" in config}
    critic = RealismCritic.new(remi, init=config["policy"], **options)
    state = torch.load(checkpoint / DISCRIMINATOR_FILE, weights_only=True, map_location="cpu")
    critic.load_judge(state["learner"])
    return critic, f"the discriminator is that of step {checkpoint.name.rsplit('-', 1)[1]}"


def _last_discriminator(folder: Path) -> Path | None:
    """The newest whole checkpoint that holds an discriminator; nothing is removed, for the run may still go on."""
    whole = [path for path in folder.glob("checkpoints/checkpoint-*") if (path / MANIFEST).is_file()]
    whole = [path for path in whole if (path / DISCRIMINATOR_FILE).is_file()]
    return max(whole, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)


def _told(weight: Mapping[str, float]) -> str:
    return " + ".join(f"{number:g} {name}" for name, number in weight.items())
