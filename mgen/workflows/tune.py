"""A search over options of a command with Optuna: each trial is a run folder.

The study is in a storage that several processes or machines may share: each takes trials until there are enough. The
same command again continues; a trial that was interrupted is resumed in its own folder.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import yaml
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from mgen.errors import MgenError
from mgen.files import write_atomically
from mgen.options import check_required, option
from mgen.progress import Progress, count
from mgen.render.charts import Curve, standalone_svg
from mgen.runs.lock import is_locked
from mgen.runs.metrics import read_metrics
from mgen.stored import explain_damage
from mgen.workflows.commands import COMMANDS

SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "cmaes": lambda seed: optuna.samplers.CmaEsSampler(seed=seed),
}
PRUNERS: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
    "none": optuna.pruners.NopPruner,
    "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
    "halving": lambda: optuna.pruners.SuccessiveHalvingPruner(),
}
KEYS = {"command", "metric", "direction", "recipe", "space", "sampler", "pruner", "pruned_by"}
REMEDY = "see configs/tune/pretrain_laptop.yaml"
FAILURES = 3  # trials that fail before any has ended, after which the search stops: the recipe is wrong


@dataclass
class TuneConfig:
    """Options of `mgen tune`."""

    search: str = option("", "YAML of the search (`--config`): command, metric, recipe and space.")
    corpus: str = option("", "Folder written by mgen prepare.")
    policy: str = option("", "Model folder of the policy, for finetune and grpo.")
    critic: str = option("", "Model folder of the style critic, for finetune and grpo.")
    out: str = option("", "Folder of the trials, study.md, study.json and figure.svg.")
    storage: str = option(
        "",
        "Where the study is kept: an URL of SQLAlchemy (sqlite:///FILE, postgresql://...), or journal:FILE on a shared "
        "disk; by default OUT/study.db.",
    )
    trials: int = option(20, "Trials of the study that have ended or were pruned, over all processes.", least=1)
    minutes: float = option(0.0, "Begin no trial after this time; 0: no limit.", least=0)
    seed: int = option(0, "Of the sampler, and of every trial.", least=0, most=2**31 - 1)

    def __post_init__(self) -> None:
        if not self.search:
            raise ValueError("expected --config SEARCH.yaml, got none; see configs/tune")
        check_required(self, "corpus", "out")


@dataclass(frozen=True)
class Search:
    """What is searched.

    Attributes:
        command: of `COMMANDS`.
        metric: of a finished run, as its command prints it.
        direction: minimize or maximize.
        recipe: options that all trials have.
        space: option -> a list of values, or a mapping with `low`, `high` and, if wanted, `log` or `step`; whole
            numbers for an option of whole numbers.
        sampler, pruner: of `SAMPLERS` and `PRUNERS`.
        pruned_by: metric in metrics.jsonl that trials are compared by while they run.
    """

    command: str
    metric: str
    space: Mapping[str, Any]
    direction: Literal["minimize", "maximize"] = "minimize"
    recipe: Mapping[str, Any] | None = None
    sampler: str = "tpe"
    pruner: str = "none"
    pruned_by: str = ""

    @classmethod
    def read(cls, path: Path | str) -> Search:
        """Reads a YAML file.

        Raises:
            MgenError: It cannot be read, or a value is not as described.
        """
        path = Path(path)
        if not path.is_file():
            raise MgenError(f"search {path}: no such file; {REMEDY}")
        with explain_damage(path, REMEDY):
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or set(content) - KEYS or not {"command", "metric", "space"} <= set(content):
            raise MgenError(
                f"{path}: expected the keys command, metric and space, and of {', '.join(sorted(KEYS))}; {REMEDY}"
            )
        search = cls(**content)
        for name, words in {
            "command": tuple(COMMANDS),
            "direction": ("minimize", "maximize"),
            "sampler": tuple(SAMPLERS),
            "pruner": tuple(PRUNERS),
        }.items():
            if getattr(search, name) not in words:
                raise MgenError(f"{path}: {name} '{getattr(search, name)}': expected one of {', '.join(words)}")
        if search.pruner != "none" and not search.pruned_by:
            raise MgenError(
                f"{path}: pruner '{search.pruner}' needs pruned_by, a metric of metrics.jsonl such as eval_loss"
            )
        if not isinstance(search.space, dict) or not search.space:
            raise MgenError(f"{path}: space is empty; {REMEDY}")
        for name, values in search.space.items():
            _distribution(f"{path}, space, {name}", values)
        return search

    @property
    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """Option -> what it is drawn from."""
        return {name: _distribution(name, values) for name, values in self.space.items()}

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change while a study goes on."""
        return {"command": self.command, "metric": self.metric, "recipe": self.recipe or {}, "space": dict(self.space)}


def _distribution(where: str, values: Any) -> optuna.distributions.BaseDistribution:
    """The distribution of one option.

    Raises:
        MgenError: The values describe none.
    """
    if isinstance(values, list) and values:
        if all(isinstance(value, str | int | float | bool | None) for value in values):
            return optuna.distributions.CategoricalDistribution(values)
    elif isinstance(values, dict) and {"low", "high"} <= set(values) <= {"low", "high", "log", "step"}:
        low, high = values["low"], values["high"]
        whole = all(isinstance(value, int) and not isinstance(value, bool) for value in (low, high))
        kind = optuna.distributions.IntDistribution if whole else optuna.distributions.FloatDistribution
        more = {name: values[name] for name in ("log", "step") if name in values}
        try:
            return kind(low, high, **more)
        except (TypeError, ValueError) as error:
            raise MgenError(f"{where}: {' '.join(str(error).split())}") from error
    raise MgenError(f"{where}: expected a list of values, or low and high with log or step, found {values!r}; {REMEDY}")


def run_tune(config: TuneConfig, progress: Progress) -> dict[str, Any]:
    """Runs trials until the study has enough, and writes its results.

    Returns:
        The content of study.json.

    Raises:
        MgenError: The search is wrong, the storage cannot be reached or holds another search, or the first trials all
            fail.
    """
    search, out = Search.read(config.search), Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = open_study(config, search)
    _resume_interrupted(study, out, progress)
    began = time.monotonic()
    progress(f"study: {_count(study)} of {config.trials} trials so far")
    while _count(study) < config.trials and not 0 < config.minutes * 60 <= time.monotonic() - began:
        _run_trial(study.ask(search.distributions), study, search, config, out, progress)
        write_results(study, search, out)
        states = Counter(trial.state for trial in study.trials)
        if states[TrialState.FAIL] >= FAILURES and not states[TrialState.COMPLETE] + states[TrialState.PRUNED]:
            last = next(trial for trial in reversed(study.trials) if trial.state == TrialState.FAIL)
            raise MgenError(f"the first {FAILURES} trials failed; the last: {last.user_attrs['error']}")
    return write_results(study, search, out)


def open_study(config: TuneConfig, search: Search) -> optuna.Study:
    """Creates the study, or opens the one that is there.

    Raises:
        MgenError: The storage cannot be reached, or holds a study of another search.
    """
    address = config.storage or f"sqlite:///{Path(config.out).resolve() / 'study.db'}"
    try:
        storage: Any = address
        if address.startswith("journal:"):
            storage = optuna.storages.JournalStorage(JournalFileBackend(address.removeprefix("journal:")))
        name = Path(config.out).resolve().name
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction=search.direction,
            load_if_exists=True,
            pruner=PRUNERS[search.pruner](),
        )
    except (ImportError, OSError, ValueError, SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        line = " ".join(str(error).split())[:200]
        raise MgenError(f"storage {address}: cannot be opened ({line}); give another --storage") from error
    # Processes that join later must not draw what the first one drew.
    study.sampler = SAMPLERS[search.sampler](config.seed + len(study.trials))
    known = study.user_attrs.get("search")
    if known is None:
        study.set_user_attr("search", search.identity)
    elif known != search.identity:
        changed = [key for key, value in search.identity.items() if known.get(key) != value]
        raise MgenError(
            f"storage {address}: its study is of another search ({', '.join(changed)} differ); give another --out or "
            "--storage"
        )
    return study


def _count(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def _resume_interrupted(study: optuna.Study, out: Path, progress: Progress) -> None:
    """Puts trials of processes that are gone back into the queue, each with its folder."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        folder = trial.user_attrs.get("folder", "")
        if not folder or not (out / folder).is_dir() or is_locked(out / folder):
            continue
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs={"folder": folder})
        progress(f"trial {trial.number} was interrupted: it is resumed in {folder}")


def _run_trial(
    trial: Trial, study: optuna.Study, search: Search, config: TuneConfig, out: Path, progress: Progress
) -> None:
    options = trial.params
    folder = trial.user_attrs.get("folder") or f"trial_{trial.number:04d}"
    trial.set_user_attr("folder", folder)
    progress(f"trial {trial.number}: {', '.join(f'{name} {_short(value)}' for name, value in options.items())}")
    call, inputs = COMMANDS[search.command]
    given = {name: getattr(config, name) for name in inputs if getattr(config, name)}
    seed = {} if search.command == "critic" else {"seed": config.seed}
    watch = _Watch(trial, search.pruned_by, out / folder, progress)
    try:
        result = call(**given, out=out / folder, progress=watch, **{**seed, **(search.recipe or {}), **options})
        value = _metric(result, search.metric)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        progress(f"  pruned at step {watch.reported}")
    except MgenError as error:
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=TrialState.FAIL)
        progress(f"  failed: {error}")
    else:
        study.tell(trial, value)
        best = study.best_trial
        progress(f"  {search.metric} {value:.4g} (best {best.value:.4g}, trial {best.number})")


class _Watch:
    """The progress of a trial's run: compares it with other trials at every tenth of its steps, and may end it."""

    def __init__(self, trial: Trial, metric: str, folder: Path, progress: Progress) -> None:
        self.trial, self.metric, self.folder, self.progress = trial, metric, folder, progress
        self.reported = self.tenth = -1

    def count(self, loop: str, done: int, total: int, note: str) -> None:
        count(self.progress, loop, done, total, note)
        tenth = 10 * done // max(total, 1)
        if tenth != self.tenth:
            self.tenth = tenth
            self("")

    def __call__(self, line: str) -> None:
        if not self.metric:
            return
        for entry in read_metrics(self.folder):
            value = entry.get(self.metric)
            if isinstance(value, int | float) and math.isfinite(value) and entry["step"] > self.reported:
                self.reported = entry["step"]
                self.trial.report(float(value), self.reported)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def _metric(result: Any, name: str) -> float:
    """A metric of a finished run, or of the card of a critic, whose keys are joined by a slash.

    Raises:
        MgenError: It has none, or it is not finite.
    """
    known: Mapping[str, Any] = result.metrics if hasattr(result, "metrics") else result.card
    found: Any = known
    for key in [name] if name in known else name.split("/"):
        found = found.get(key) if isinstance(found, Mapping) else None
    if isinstance(found, int | float) and math.isfinite(found):
        return float(found)
    raise MgenError(f"metric '{name}': the run has {', '.join(sorted(known))}")


def write_results(study: optuna.Study, search: Search, out: Path) -> dict[str, Any]:
    """Writes study.json, study.md and figure.svg; returns the content of the first."""
    trials = study.get_trials(deepcopy=False)
    ended = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    results: dict[str, Any] = {
        "command": search.command,
        "metric": search.metric,
        "counts": {state.name.lower(): count for state, count in Counter(trial.state for trial in trials).items()},
        "importance": importance(study),
        "trials": [_facts(trial) for trial in sorted(ended, key=lambda trial: _order(trial, search.direction))],
        "failed": {trial.number: trial.user_attrs["error"] for trial in trials if "error" in trial.user_attrs},
    }
    write_atomically(out / "study.json", json.dumps(results, indent=1))
    write_atomically(out / "study.md", table(results, search))
    if ended:
        values = np.array([trial.value for trial in ended], np.float64)
        best = np.minimum.accumulate(values) if search.direction == "minimize" else np.maximum.accumulate(values)
        number = [float(trial.number) for trial in ended]
        lines = {"trial": (number, values.tolist()), "best so far": (number, best.tolist())}
        chart = Curve(f"{search.metric} by trial", search.metric, lines, across="trial")
        write_atomically(out / "figure.svg", standalone_svg(chart))
    return results


def importance(study: optuna.Study) -> dict[str, float]:
    """Share of each option in how the metric varies, largest first; empty with fewer than eight finished trials.

    Source: Watanabe et al. 2023 (PED-ANOVA), arXiv:2304.10255.
    """
    values = {trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
    if len(values) < 8:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return {
        name: float(share)
        for name, share in optuna.importance.get_param_importances(study, evaluator=evaluator).items()
    }


def table(results: Mapping[str, Any], search: Search, most: int = 20) -> str:
    """The best trials, how many ended how, and the importance of the options."""
    names = list(search.space)
    lines = ["| trial | " + " | ".join([search.metric, *names]) + " |", "| --- " * (len(names) + 2) + "|"]
    for trial in results["trials"][:most]:
        cells = [f"{trial['value']:.4g}", *(_short(trial["options"].get(name)) for name in names)]
        lines.append(f"| {trial['number']} | " + " | ".join(cells) + " |")
    counts = ", ".join(f"{count} {state}" for state, count in sorted(results["counts"].items()))
    lines += ["", f"Trials: {counts}."]
    if results["importance"]:
        shares = ", ".join(f"{name} {share:.2f}" for name, share in results["importance"].items())
        lines.append(f"Importance (PED-ANOVA): {shares}.")
    return "\n".join(lines) + "\n"


def _facts(trial: FrozenTrial) -> dict[str, Any]:
    return {"number": trial.number, "value": trial.value, "options": trial.params, "folder": trial.user_attrs["folder"]}


def _order(trial: FrozenTrial, direction: str) -> float:
    assert trial.value is not None
    return trial.value if direction == "minimize" else -trial.value


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
