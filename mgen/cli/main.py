"""`mgen <command>`: loads the command, and turns errors into one line and an exit code."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence

import typer

from mgen import __version__
from mgen.accidents import describe_accident
from mgen.cli.stored_help import stored_help
from mgen.errors import MgenError

PANELS = {
    "First steps": {
        "demo": "the whole loop on the embedded corpus",
        "recipe": "all steps of a recipe, from files to report",
        "generate": "sample MIDI files from a model",
        "doctor": "what this machine has for mgen, and the remedy for what is missing",
    },
    "Corpus": {
        "prepare": "music files to a corpus of tokens",
        "pairs": "a corpus of drum parts with their basses, from one of bands",
        "insight": "a page about the content of a corpus",
        "instruments": "which instruments play in music files",
    },
    "Training": {
        "pretrain": "next-token training on a corpus",
        "finetune": "policy gradient against rewards and critics",
        "grpo": "the same by GRPO as published, with the trainer of TRL",
        "prefer": "train a policy or a reward model on votes",
        "baseline": "a simple predictor, next to systems without training",
    },
    "Judging": {
        "critic": "train and calibrate a style critic",
        "card": "reward cards: what a judge measures, what it costs, what fools it; bands of the rules",
        "listen": "a blind A/B listening test on this machine",
        "votes": "results of a listening test, and preference pairs from them",
    },
    "Measuring": {
        "evaluate": "compare models, or a folder, with real music; report.html",
        "selfcheck": "the two-sample test on real music against real and against corrupted music",
        "corruptions": "every metric and judge on corrupted music",
    },
    "Sharing": {
        "push": "upload a model to the Hugging Face Hub, or write its folder",
    },
    "Tools": {
        "tune": "search options of a command with Optuna",
        "ablate": "a grid of runs in one table",
        "bench": "speed next to other libraries",
    },
}
"""Heading -> command -> summary, in the order of `mgen --help`."""

COMMANDS = {name: summary for commands in PANELS.values() for name, summary in commands.items()}

INTERRUPTED = 130  # exit code of a command that Ctrl-C ended, as of shells

app = typer.Typer(
    no_args_is_help=True,
    help="Reinforcement-learning fine-tuning of symbolic-music models with critic models.",
)


def _version(asked: bool) -> None:
    if asked:
        print(f"mgen {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options without a command."""


def run(main: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Runs a command; a mistake of the user becomes one line on stderr and exit code 2, Ctrl-C a line and 130.

    `--debug` anywhere in `argv` shows the traceback instead.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not debug:
        _silence_libraries()
    try:
        code = main(words)
        _leave_process_group()
        return code
    except KeyboardInterrupt as stop:
        print(f"\nmgen: {stop or 'stopped'}", file=sys.stderr)
        return INTERRUPTED
    except MgenError as error:
        if debug:
            raise
        print(f"mgen: {error}", file=sys.stderr)
    except Exception as error:
        accident = describe_accident(error)
        if debug or accident is None:
            raise
        print(f"mgen: {accident}", file=sys.stderr)
    return 2


def _leave_process_group() -> None:
    """Closes the process group: a process that ends while its threads run may abort."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _silence_libraries() -> None:
    """Hides progress bars and deprecations of our dependencies, which a user cannot change."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.filterwarnings("ignore", category=UserWarning, module="torch|accelerate")


def _register(name: str, summary: str, panel: str) -> None:
    @app.command(
        name,
        help=summary,
        rich_help_panel=panel,
        add_help_option=False,  # the command's own parser answers --help
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def command(context: typer.Context) -> None:
        if text := stored_help(name, context.args):
            print(text, end="")
            return

        def main(words: Sequence[str]) -> int:
            code: int = importlib.import_module(f"mgen.cli.{name}").main(words)  # late: torch takes seconds to import
            return code

        raise typer.Exit(run(main, context.args))


for _panel, _commands in PANELS.items():
    for _name, _summary in _commands.items():
        _register(_name, _summary, _panel)


def entry() -> None:
    """The console command."""
    app()
