"""What ends a training command from outside: one line with the last good checkpoint, from which the command resumes."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from mgen.accidents import describe_accident
from mgen.errors import MgenError
from mgen.runs.checkpoints import checkpoint_folders, is_complete
from mgen.runs.folder import CHECKPOINTS

Rest = ParamSpec("Rest")
Result = TypeVar("Result")


def resumable(command: Callable[Concatenate[Any, Rest], Result]) -> Callable[Concatenate[Any, Rest], Result]:
    """Decorates a training command, whose first argument is its options, with `out` among them.

    Raises:
        MgenError: In place of an accident (`mgen.accidents`).
        KeyboardInterrupt: At Ctrl-C, with a line on how to go on.
    """

    @wraps(command)
    def run(config: Any, /, *args: Rest.args, **kwargs: Rest.kwargs) -> Result:
        try:
            return command(config, *args, **kwargs)
        except MgenError:
            raise
        except KeyboardInterrupt:
            step, _ = _last_checkpoint(config.out)
            then = f"resumes from step {step}" if step else "starts from the beginning: it had no checkpoint yet"
            raise KeyboardInterrupt(f"{config.out}: stopped; the same command {then}") from None
        except Exception as error:
            what = describe_accident(error)
            if what is None:
                raise
            _, last = _last_checkpoint(config.out)
            line = f"{config.out}: {what}; last good checkpoint: {last}; then the same command goes on"
            raise MgenError(line) from error

    return run


def _last_checkpoint(out: str) -> tuple[int, Path | str]:
    """Step and folder of the last complete checkpoint; 0 and `none yet` without one."""
    found = checkpoint_folders(Path(out) / CHECKPOINTS)
    complete = [(step, path) for step, path in found.items() if is_complete(path)]
    return complete[-1] if complete else (0, "none yet")
