"""The judges of a run: named in its options, built from a registry or from somebody's package, and summed.

An entry of the option `judges` is a word `NAME=WEIGHT` (`style=1`) or `package.module:Factory=WEIGHT` (with `!` before
the name a run keeps a judge that it would leave out), or a mapping

    {judge: "own_judge:SmallLeaps", weight: 0.5, arguments: {largest: 7}}

in YAML, which the command line takes as one quoted word. `RUN/config.yaml` records the entries, so that other commands
build the same judges again. This module knows no particular judge: callers pass the registry, name -> factory.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.judgement import Judge, UnavailableJudge, check_is_judge, judged
from mgen.notes import Notes
from mgen.options import nearest
from mgen.renames import REMOVED_JUDGES, check_run_folder
from mgen.runs.folder import RUN_FILE, read_facts
from mgen.stored import explain_damage, read_json

JUDGES_FILE = "judges.json"  # where a run keeps how well its judges distinguish, and which are left out
BANDS_FILE = "bands.json"  # where a run of `mgen finetune` keeps the bands that it measured
REALISM_FOLDER = "realism"  # where a finished run of `mgen finetune` keeps its discriminator of features
REALISM_TOKENS_FOLDER = "realism_tokens"  # and that of tokens
DISCRIMINATOR_FILE = "discriminator.pt"  # the discriminators in a checkpoint

JudgeFactory = Callable[..., Judge]
"""Builds a judge. A factory of the registry is called with the entry's arguments and the parts of `build_judge` that
its signature names; one of another package with the arguments, and with `remi` if its signature names it.
"""

Entry = str | Mapping[str, Any]

_EXTERNAL = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class JudgeSpec:
    """One entry of the option `judges`."""

    name: str  # of the registry, or `package.module:Factory`
    weight: float  # of its score in the sum
    arguments: Mapping[str, Any] = field(default_factory=dict)  # keyword arguments of its factory
    keep: bool = False  # whether a run keeps it though it does not distinguish real music from samples

    @classmethod
    def parse(cls, entry: Entry, option: str = "judges", weight: float | None = None) -> JudgeSpec:
        """Reads a word or a mapping.

        Args:
            weight: of an entry that states none; by default it has to.

        Raises:
            MgenError: It has another form, or the weight is not a number.
        """
        if isinstance(entry, str) and entry.lstrip().startswith("{"):
            try:
                entry = yaml.safe_load(entry)
            except yaml.YAMLError as error:
                raise MgenError(f"{option}: '{entry}' is not YAML ({' '.join(str(error).split())})") from error
        if isinstance(entry, Mapping):
            keys, arguments = set(entry), entry.get("arguments") or {}
            needed = {"judge", "weight"} if weight is None else {"judge"}
            if not needed <= keys <= {"judge", "weight", "arguments"} or not isinstance(arguments, Mapping):
                form = "{judge: NAME, weight: NUMBER, arguments: {key: value}}"
                raise MgenError(f"{option}: expected {form}, got {dict(entry)}")
            name, number = str(entry["judge"]), entry.get("weight", weight)
        else:
            name, equals, number = str(entry).partition("=")
            if not equals and weight is None:
                raise MgenError(f"{option}: expected NAME=WEIGHT, got '{entry}'")
            number, arguments = number if equals else weight, {}
        try:
            stated = float(number)
        except (TypeError, ValueError):
            stated = math.nan
        if not math.isfinite(stated):
            raise MgenError(f"{option}: the weight of '{name}' is not a number: '{number}'")
        arguments = {str(key): value for key, value in arguments.items()}
        return cls(name.removeprefix("!"), stated, arguments, keep=name.startswith("!"))


def judge_specs(entries: Sequence[Entry], registry: Mapping[str, JudgeFactory]) -> list[JudgeSpec]:
    """Reads the entries of the option `judges`; a judge of another package is not imported yet.

    Raises:
        MgenError: An entry has another form, names no judge, or names one twice.
    """
    specs = [JudgeSpec.parse(entry) for entry in entries]
    names = [spec.name for spec in specs]
    for name in names:
        check_name(name, registry)
        if names.count(name) > 1:
            raise MgenError(f"judges: '{name}' is named twice; give it one weight")
    return specs


def check_name(name: str, registry: Mapping[str, JudgeFactory], option: str = "judges") -> None:
    """Raises `MgenError` unless a name is of the registry or has the form `package.module:Factory`."""
    if name in REMOVED_JUDGES and name not in registry:
        raise MgenError(f"{option}: the judge '{name}' was removed: {REMOVED_JUDGES[name]}; leave it out")
    if name not in registry and not _EXTERNAL.fullmatch(name):
        raise MgenError(f"{option}: no judge is called '{name}'{nearest(name, registry)}")


def build_judge(spec: JudgeSpec, registry: Mapping[str, JudgeFactory], remi: Remi, **parts: Any) -> Judge:
    """Builds one judge.

    Args:
        remi: encoding of the music to be judged.
        parts: what factories of the registry may ask for: `bands` (measured bands, or their file), `critic` (folder of
            a style critic), `credit` (whether it gives credit per bar), `run` (folder of the run that the judge is of).

    Raises:
        UnavailableJudge: The factory finds nothing to judge by here.
        MgenError: The package or the factory is missing, refuses the arguments, or does not build a judge.
    """
    if ":" not in spec.name:  # of the registry
        return _call(spec, registry[spec.name], {"remi": remi, **parts})
    factory = _import_factory(spec.name)
    try:
        judge = _call(spec, factory, {"remi": remi})
    except MgenError:
        raise
    except Exception as error:
        raise MgenError(f"judge {spec.name}: its factory failed with {error!r}; check its arguments") from error
    judged(spec.name, check_is_judge(spec.name, judge), Notes.from_ids([[]], remi))
    return judge


def build_judges(
    specs: Sequence[JudgeSpec], registry: Mapping[str, JudgeFactory], remi: Remi, **parts: Any
) -> tuple[dict[str, Judge], dict[str, str]]:
    """Builds all judges that are available.

    Returns:
        Judge by name, and of each judge that is left out the reason. Arguments and errors are those of `build_judge`.
    """
    judges: dict[str, Judge] = {}
    left_out: dict[str, str] = {}
    for spec in specs:
        try:
            judges[spec.name] = build_judge(spec, registry, remi, **parts)
        except UnavailableJudge as error:
            left_out[spec.name] = error.reason
    return judges, left_out


def _call(spec: JudgeSpec, factory: JudgeFactory, parts: Mapping[str, Any]) -> Judge:
    """Calls a factory with the parts that its signature names, and the entry's arguments."""
    signature = inspect.signature(factory)
    given = {name: value for name, value in parts.items() if name in signature.parameters}
    try:
        signature.bind(**{**given, **spec.arguments})
    except TypeError as error:
        takes = ", ".join(name for name in signature.parameters if name not in given) or "none"
        raise MgenError(f"judge {spec.name}: {error}; its arguments are: {takes}") from error
    return factory(**{**given, **spec.arguments})


def _import_factory(name: str) -> JudgeFactory:
    """Imports `package.module:Factory`.

    Names come from files, such as the config.yaml of a run, so not everything that can be called is: only a class whose
    instances are callable, or a function annotated `-> Judge`, and nothing of the standard library.
    """
    module_name, _, attribute = name.partition(":")
    package = module_name.partition(".")[0]
    if package in sys.stdlib_module_names:
        raise MgenError(f"judge {name}: {package} is of Python's standard library and holds no judges")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name + ".").startswith(error.name + "."):
            raise MgenError(f"judge {name}: no module {error.name}; pip install the package that holds it") from error
        raise MgenError(f"judge {name}: {module_name} needs {error.name}, which is not installed") from error
    except Exception as error:
        raise MgenError(f"judge {name}: importing {module_name} failed with {error!r}") from error
    factory = getattr(module, attribute, None)
    if factory is None:
        public = [name for name in dir(module) if not name.startswith("_")]
        near = difflib.get_close_matches(attribute, public, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(public) or 'none'}"
        raise MgenError(f"judge {name}: {module_name} has no '{attribute}'; {hint}")
    if isinstance(factory, type):
        builds = any("__call__" in vars(base) for base in factory.__mro__)
    else:
        returned = getattr(factory, "__annotations__", {}).get("return")
        builds = returned is Judge or (isinstance(returned, str) and returned.rpartition(".")[2] == "Judge")
    if not builds:
        expected = "expected a class with __call__(notes), or a function annotated `-> Judge`"
        raise MgenError(f"judge {name}: {expected}, found {type(factory).__name__}")
    built: JudgeFactory = factory
    return built


@dataclass(frozen=True)
class WeightedJudges:
    """Several judges as one number."""

    judges: Mapping[str, Judge]  # by name
    weights: Mapping[str, float]  # of each
    description: str  # which judges, with which weights, and which are left out and why

    def __call__(self, notes: Notes) -> NDArray[np.float64]:
        """(B,) weighted sums of the scores."""
        total = np.zeros(notes.n_pieces)
        for name, judge in self.judges.items():
            total += self.weights[name] * judged(name, judge, notes).score
        return total


def judges_of_options(
    entries: Sequence[Entry], registry: Mapping[str, JudgeFactory], remi: Remi, critic: str, bands: str
) -> WeightedJudges:
    """The judges of `--judges`, `--critic` and `--bands`; without `--judges`, the style critic alone.

    Raises:
        MgenError: No judge is named, or one does not exist or needs a file that is not given.
    """
    specs = judge_specs(entries or (["style=1"] if critic else []), registry)
    if not specs:
        raise MgenError("best_of needs judges: give --judges_of RUN, --critic FOLDER, or --judges NAME=WEIGHT...")
    parts = {"critic": critic, "bands": Path(bands) if bands else None}
    judges = {spec.name: build_judge(spec, registry, remi, **parts) for spec in specs}
    weights = {spec.name: spec.weight for spec in specs}
    return WeightedJudges(judges, weights, _describe(weights))


def judges_of_run(folder: Path | str, registry: Mapping[str, JudgeFactory], remi: Remi) -> WeightedJudges:
    """The judges of a run of `mgen finetune`, as they were at its end (or, for now, at its last checkpoint).

    The discriminator compares real music with the completions of the *tuned* policy (or, trained so, of the reference).
    Judges that are not available, such as a rule that the corpus has no band for, are left out, and `description` says
    why.

    Args:
        folder: of the run; relative paths in its config.yaml are read from the working directory.
        remi: the encoding of the music to be judged.

    Raises:
        MgenError: The folder is not a run of `mgen finetune`, a critic, bands, policy or package that it names is
            missing, or no judge is left.
    """
    folder = Path(folder)
    config = run_config(folder)
    specs = judge_specs(config["judges"], registry)
    bands = Path(config["bands"] or folder / BANDS_FILE)
    weak = weak_judges(folder)
    some = [spec for spec in specs if spec.name not in weak]
    judges, left_out = build_judges(some, registry, remi, bands=bands, critic=config["critic"], run=folder)
    left_out |= weak
    notes = [getattr(judge, "origin", "") for judge in judges.values()]
    notes += [f"{name} is left out: {reason}" for name, reason in left_out.items()]
    if not judges:
        raise MgenError(f"{folder}: none of its judges is left ({'; '.join(filter(None, notes))}); name another run")
    weights = {spec.name: spec.weight for spec in specs if spec.name in judges}
    described = f"{_describe(weights)} as in the run {folder.resolve().name}"
    return WeightedJudges(judges, weights, "; ".join(filter(None, [described, *notes])))


def weak_judges(folder: Path) -> dict[str, str]:
    """Judges that a run left out before its first step, with the reasons."""
    path = folder / JUDGES_FILE
    if not path.is_file():
        return {}
    stored = read_json(path, "give another run of mgen finetune")
    with explain_damage(path, "give another run of mgen finetune"):
        return {str(name): str(reason) for name, reason in stored["left_out"].items()}


_OPTIONS_OF_JUDGES = {"judges": list, "critic": str | None, "bands": str | None, "policy": str}


def run_config(folder: Path) -> dict[str, Any]:
    """The options of a run of `mgen finetune`.

    Raises:
        MgenError: The folder is not such a run, or one of an older mgen.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise MgenError(f"{folder}: expected a run of mgen finetune, found no {path.name}; give such a run")
    with explain_damage(path, "give a run of mgen finetune"):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config = config if isinstance(config, dict) else {}
    command = read_facts(folder)["command"] if (folder / RUN_FILE).is_file() else "finetune"
    check_run_folder(folder, command, config)
    for name, kinds in _OPTIONS_OF_JUDGES.items():
        if not isinstance(config.get(name, ...), kinds):
            found = type(config[name]).__name__ if name in config else "none"
            raise MgenError(f"{path}: not of a run of mgen finetune ({name} is {found}); give such a run")
    return dict(config)


def _describe(weights: Mapping[str, float]) -> str:
    return " + ".join(f"{weight:g} {name}" for name, weight in weights.items())
