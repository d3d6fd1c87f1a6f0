"""Train a style critic: log P(style | piece), calibrated on valid, measured on test.

    mgen critic --config configs/critic/laptop.yaml --corpus corpus --out runs/critic
    mgen critic --leave_one_collection_out true --corpus corpus --out runs/left_out

The input of a critic is style features, the same in all file formats (`--input features`, the one for rewards), or
tokens. The RUN/model of the latter is a stock classifier that plain TRL takes as a reward, where it gives the raw logit
of prompt and completion together; `critics.style.StyleCritic` gives calibrated nats of the completion alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from mgen.cli.options import Output, parse, print_result
from mgen.cli.progress import ProgressDisplay
from mgen.options import option
from mgen.workflows.critic import CriticConfig, CriticResult, leave_one_collection_out, run_critic


@dataclass
class LeaveOneOutConfig:
    """Options of `mgen critic --leave_one_collection_out true`."""

    leave_one_collection_out: bool = option(
        False, "Train on all but two collections and measure on these, for every pair; keeps no critic."
    )
    critics: list[str] = option(
        ["naive", "ensemble"], "Which critics: naive, network, format_invariant, ensemble, or the name of an ablation."
    )
    shortcut_baseline: bool = option(True, "Also measure how well format alone separates the pairs.")


def main(argv: Sequence[str] | None = None) -> int:
    """Trains, calibrates and measures a critic; returns the exit code."""
    config, left_out, output = parse(argv, CriticConfig, LeaveOneOutConfig, Output, doc=__doc__)
    if left_out.leave_one_collection_out:
        return _leave_one_collection_out(config, left_out, output.json)
    with ProgressDisplay(output.json) as progress:
        result = run_critic(config, progress)
    return print_result(_summary(result), result.card, output.json)


def _leave_one_collection_out(config: CriticConfig, left_out: LeaveOneOutConfig, as_json: bool) -> int:
    with ProgressDisplay(as_json) as progress:
        options = {name: getattr(config, name) for name in ("target", "notes", "pieces", "each", "seed")}
        options |= {"critics": left_out.critics, "shortcut_baseline": left_out.shortcut_baseline}
        report = leave_one_collection_out(config.corpus, config.out, **options, progress=progress)
    return print_result(report.to_markdown(pairs=False), report.to_json(), as_json)


def _summary(result: CriticResult) -> str:
    test = result.card["test"]
    state = "was finished before" if result.already_finished else "finished"
    table = Table("on test", "value", "95 % interval", title=f"{result.folder} {state}, {result.seconds:.0f} s")
    rows = {"AUC": test["auc"], "accuracy": test["accuracy"]}
    rows |= {f"AUC {a} / {b}": pair for a, others in test["pairs"].items() for b, pair in others.items()}
    rows |= {f"log P({result.card['positive']}), {side}": number for side, number in test["score"].items()}
    rows |= {f"nats, {name}": change for name, change in (test["format"] | test["corrupted"]).items()}
    for name, number in rows.items():
        table.add_row(name, f"{number['value']:.3f}", f"{number['low']:.3f} .. {number['high']:.3f}")
    table.add_row("calibration error", f"{test['ece']:.3f}", "")
    console = Console()
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip()
