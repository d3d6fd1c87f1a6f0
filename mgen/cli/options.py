"""Options of a command: TRL dataclasses, a YAML file, and `--key value` over it."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from trl import TrlParser

from mgen.errors import MgenError


class _Parser(TrlParser):  # type: ignore[misc]
    """TRL's parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        raise MgenError(f"{self.prog}: {message}; see {self.prog} --help")


def parse(
    argv: Sequence[str] | None,
    *types: type,
    program: str,
    example: str,
    positional: Callable[[argparse.ArgumentParser], None] | None = None,
) -> tuple[Any, ...]:
    """Read options into instances of the dataclasses `types`.

    Args:
        argv: words of the command line after the command's name; None for those of the process.
        program: how the command is called, for messages.
        example: a line for `--help` that works as it stands.
        positional: adds arguments that belong to no dataclass (`SRC...`); they come back as a namespace, last in the
            tuple.

    Raises:
        MgenError: An option does not exist (with the nearest that does), has a value of the wrong kind, or spans a
            check of a dataclass; or the YAML file cannot be read.
    """
    parser = _Parser(types, prog=program, epilog=f"example: {example}", allow_abbrev=False)
    if positional is not None:
        positional(parser)
    words = list(sys.argv[1:] if argv is None else argv)
    known = {action.dest for action in parser._actions} - {"help"}
    config = _config_path(words)
    if config is not None:
        _check_keys(Path(config), known, types[0].__name__)
    try:
        *values, rest = parser.parse_args_and_config(words, return_remaining_strings=True)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise MgenError(f"{program}: {' '.join(str(error).split())}") from error
    for word in rest:
        name = word.split("=")[0].removeprefix("--")
        raise MgenError(f"{program}: {types[0].__name__} has no option '{name}'{_nearest(name, known)}")
    return tuple(values)


def _config_path(words: list[str]) -> str | None:
    if "--config" not in words:
        return None
    place = words.index("--config") + 1
    if place >= len(words):
        raise MgenError("--config: expected the path of a YAML file after it")
    return words[place]


def _check_keys(path: Path, known: set[str], owner: str) -> None:
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise MgenError(f"--config {path}: {error.strerror}; give the path of a YAML file") from error
    except yaml.YAMLError as error:
        raise MgenError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise MgenError(f"{path}: expected `key: value` lines, found {type(content).__name__}")
    for key in content:
        if key not in known and key != "env":
            raise MgenError(f"{path}: {owner} has no option '{key}'{_nearest(str(key), known)}")


def _nearest(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{near[0]}'?" if near else "; see --help"


def weights(words: Sequence[str], field: str, known: Sequence[str]) -> dict[str, float]:
    """`["style=1", "repetition_pitch=0.5"]` as a dict.

    TRL's parser takes no dict on the command line; words of this form serve there and in YAML.

    Raises:
        MgenError: A word has another form, a name is not in `known`, or a weight is no number.
    """
    out: dict[str, float] = {}
    for word in words:
        name, equals, number = str(word).partition("=")
        if not equals:
            raise MgenError(f"{field}: expected NAME=WEIGHT, got '{word}'")
        if name not in known:
            raise MgenError(f"{field}: no judge is called '{name}'{_nearest(name, set(known))}")
        try:
            out[name] = float(number)
        except ValueError:
            raise MgenError(f"{field}: the weight of '{name}' is no number: '{number}'") from None
    return out


def as_dict(config: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults, plus all that its own class (not a base) defines."""
    own = set(getattr(type(config), "__annotations__", {}))
    out = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not isinstance(value, str | int | float | bool | list | tuple | type(None)):
            continue
        if field.name in own or value != field.default:
            out[field.name] = value
    plain: dict[str, Any] = json.loads(json.dumps(out))  # enums to their words, tuples to lists
    return plain
