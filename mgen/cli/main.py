"""`mgen <command>`: the front, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import errno
import importlib
import sys
import warnings
from collections.abc import Callable, Sequence

import typer

from mgen.errors import MgenError

COMMANDS = {
    "demo": "the whole loop on the embedded corpus",
    "prepare": "music files to a corpus of tokens",
    "insight": "a page about what is in a corpus",
    "instruments": "which instruments play in music files",
    "pretrain": "next-token training on a corpus",
    "critic": "train and calibrate a style critic",
    "finetune": "policy gradient against judges",
    "card": "a judge's card: what it hears, what it costs, what fools it; bands of the rules",
    "generate": "sample MIDI files from a model",
    "evaluate": "judge models, or a folder, against real music; report.html",
    "selfcheck": "the two-sample test on real music against itself and against broken music",
    "corruptions": "what each metric and judge says of music broken on purpose",
    "listen": "a blind A/B page on loopback",
    "votes": "results of listening, and preference pairs of them",
    "prefer": "train a policy or a reward model on votes",
    "push": "a model to the Hugging Face Hub, or a folder of it",
    "recipe": "all steps of a recipe, from files to report",
    "bench": "speed figures, each beside its rival",
}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Reinforcement-learning fine-tuning of symbolic-music models with critic models.",
)


def run(main: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Call a command's main; a caller's mistake becomes one line on stderr and exit code 2.

    `--debug` among the words shows the traceback instead.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not debug:
        _quieten()
    try:
        code = main(words)
        _leave_group()
        return code
    except MgenError as error:
        if debug:
            raise
        print(f"mgen: {error}", file=sys.stderr)
    except OSError as error:
        if debug or error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS}:
            raise
        print(
            f"mgen: {error.filename or 'writing'}: {error.strerror}; free some space or choose another --out",
            file=sys.stderr,
        )
    return 2


def _leave_group() -> None:
    """Several processes part before they end: one that ends with the group's threads running may abort."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _quieten() -> None:
    """No bars and no deprecations of the libraries below us: what they are about, the user cannot change."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.filterwarnings("ignore", category=UserWarning, module="torch|accelerate")


def _register(name: str, summary: str) -> None:
    @app.command(
        name,
        help=summary,
        add_help_option=False,  # the command's own parser answers --help
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def command(context: typer.Context) -> None:
        module = importlib.import_module(f"mgen.cli.{name}")  # late: torch takes seconds to import
        raise typer.Exit(run(module.main, context.args))


for _name, _summary in COMMANDS.items():
    _register(_name, _summary)


def entry() -> None:
    """The console command."""
    app()
