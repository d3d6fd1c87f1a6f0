"""Words of the command line to options: dataclasses, a YAML file, and `--option value` over it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from types import MappingProxyType
from typing import Any, NoReturn, get_type_hints

import yaml
from accelerate import PartialState
from transformers import HfArgumentParser

from mgen.cli.configs import find_config, recipe_names
from mgen.cli.option_groups import FEW, GROUPS, OTHER, group_of, place_of
from mgen.errors import MgenError
from mgen.option_limits import LIMITS, TYPES, Limits, check_value, plain_type
from mgen.options import check_values, flatten_groups, nearest, option
from mgen.renames import renamed_option

HELP_LINES = 80  # of `--help`, at most
HELP_FRAME = 6  # lines besides options and headings
HELP_COLUMN, HELP_WIDTH = 34, 120  # where its texts begin, and where they are cut


@dataclass
class Output:
    """Options of every command that prints a result."""

    json: bool = option(False, "Print the result as one JSON object.")


class _Parser(HfArgumentParser):  # type: ignore[misc]
    """The parser of transformers with errors of one line; values are checked before an option dataclass is built."""

    def format_help(self) -> str:
        """The options of the command itself, a line each; `--help-all` prints all of them in full."""
        return short_help(self.prog, self.epilog or "", self._actions, self.dataclass_types)

    def error(self, message: str) -> NoReturn:
        raise MgenError(f"{self.prog}: {message}; see {self.prog} --help")

    @staticmethod
    def _parse_dataclass_field(parser: Any, field: dataclasses.Field[Any]) -> None:
        known = copy(field)  # the original keeps its limits, which argparse does not know
        known.metadata = MappingProxyType({key: value for key, value in field.metadata.items() if key != LIMITS})
        HfArgumentParser._parse_dataclass_field(parser, known)

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError as error:
            hints = [hint for kind in self.dataclass_types for hint in [get_type_hints(kind).get(action.dest)] if hint]
            plain = plain_type(hints[0]) if hints else None
            words = TYPES[plain] if plain else None
            raise ValueError(f"{action.dest} ({arg_string}) must be {words}" if words else str(error)) from error

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, rest = super().parse_known_args(args, namespace)
        values = vars(parsed)
        for kind in self.dataclass_types:
            values.update(check_values(kind, values))
        options = {field.name for kind in self.dataclass_types for field in dataclasses.fields(kind)}
        for action in self._actions:  # of no dataclass, perhaps with a value of the YAML file
            if action.dest not in options and values.get(action.dest) is not None:
                several = action.nargs in ("*", "+") or isinstance(action, argparse._AppendAction)
                hint = list[str] if several else str
                values[action.dest] = check_value(action.dest, values[action.dest], hint, Limits())
        return parsed, rest


class _HelpAll(argparse.Action):
    """Prints every option in full."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        print(super(_Parser, parser).format_help())  # type: ignore[misc]
        parser.exit()


def short_help(
    program: str, example: str, actions: Sequence[argparse.Action], dataclasses_: Sequence[type], most: int = HELP_LINES
) -> str:
    """Usage, an example, and a line for each option that the command itself declares or gives a default, in groups.

    Options with a common first word are folded into one line, the largest family first, until `most` lines suffice.
    """
    by_name = {action.dest: action for action in reversed(actions)}  # an option before its `--no_` form
    own = [action.dest for action in actions if action.dest not in _field_names(dataclasses_) and action.dest != "json"]
    own += [name for kind in dataclasses_ for name in _declared(kind) if name in by_name]
    own = [name for name in dict.fromkeys(own) if name not in ("help", "help_all")]
    if len(own) > FEW:
        own.sort(key=place_of)
    titles = {name: group_of(name) if len(own) > FEW else "" for name in own}
    room = most - HELP_FRAME - 2 * len(set(titles.values()))
    families = Counter(name.split("_")[0] for name in own if "_" in name)
    folded: set[str] = set()
    for family, count in families.most_common():
        if len(own) - sum(families[one] - 1 for one in folded) <= room or count < 3:
            break
        folded.add(family)
    rows: dict[str, dict[str, str]] = {title: {} for title in ("", *GROUPS, OTHER)}
    for name in own:
        family = name.split("_")[0]
        if family in folded and "_" in name:
            rows[titles[name]][f"--{family}_..."] = (
                f"{families[family]} options, in YAML also {family}: {{...}}; see --help-all"
            )
        else:
            action = by_name[name]
            value = (
                "" if action.default in (None, "", argparse.SUPPRESS) or action.nargs == 0 else _plain(action.default)
            )
            label = " ".join(filter(None, [action.option_strings[0] if action.option_strings else name.upper(), value]))
            rows[titles[name]][label] = _first_sentence(action.help or "")
    lines: list[str] = []
    for title, options in rows.items():
        lines += ["", f"{title}:"] if title and options else [""] if options else []
        for label, text in options.items():
            short = shorten(text, HELP_WIDTH - HELP_COLUMN - 1, placeholder=" ...")
            lines.append(f"{label:<{HELP_COLUMN}} {short}".rstrip())
    inherited = len({name for name in _field_names(dataclasses_) if name in by_name} - set(own))
    rest = f"{inherited} more are inherited; " if inherited else ""
    end = f"The number or word after an option is its default. {rest}--help-all prints all in full."
    return "\n".join([f"usage: {program} [--config FILE.yaml] [--OPTION VALUE ...]", example, *lines, "", end, ""])


def _field_names(kinds: Sequence[type]) -> set[str]:
    return {field.name for kind in kinds for field in dataclasses.fields(kind)}


def _declared(kind: type) -> list[str]:
    """Fields that classes outside transformers and trl declare, those of the most derived class first."""
    ours = [one for one in kind.__mro__ if one.__module__.split(".")[0] not in ("transformers", "trl", "builtins")]
    return [name for one in ours for name in vars(one).get("__annotations__", {})]


def _plain(default: Any) -> str:
    text = " ".join(map(str, default)) if isinstance(default, list) else str(default)
    text = text.lower() if isinstance(default, bool) else text
    return text if len(text) <= 20 else "..."


def _first_sentence(text: str) -> str:
    return re.split(r"\. (?=[A-Z])", " ".join(text.split()).replace("%%", "%"), maxsplit=1)[0].removesuffix(".")


def parse(
    argv: Sequence[str] | None,
    *types: type,
    doc: str | None,
    arguments: Mapping[str, Mapping[str, Any]] | None = None,
    program: str = "",
) -> tuple[Any, ...]:
    """Reads options into instances of the dataclasses `types`.

    Args:
        argv: words of the command line after the command's name; None for those of the process.
        doc: docstring of the command; its first command line is the example of `--help`, and names the program.
        arguments: those that belong to no dataclass (`SRC...`), as name -> options of `add_argument`; their values are
            returned as a namespace, last in the tuple.
        program: name of the program, if it is more than the first two words of the example.

    Raises:
        MgenError: An option does not exist (with the nearest that does, or its new name), has a value of the wrong
            kind, or fails a check of its dataclass; or the YAML file cannot be read.
    """
    example = _first_command(doc or "")
    command = example.split()[1] if len(example.split()) > 1 else example
    program = program or " ".join(example.split()[:2])
    parser = _Parser(types, prog=program, epilog=f"example: {example}", allow_abbrev=False)
    for name, settings in (arguments or {}).items():
        parser.add_argument(name, **settings)
    parser.add_argument(
        "--help-all", action=_HelpAll, nargs=0, default=argparse.SUPPRESS, help="Print every option in full."
    )
    words = with_config(argv, command)
    known = {action.dest for action in parser._actions} - {"help", "help_all"}
    places = {
        action.dest: f"{action.metavar or action.dest} is given without --{action.dest}, as in: {example}"
        for action in parser._actions
        if not action.option_strings
    }
    spellings = {"--config", *(one for action in parser._actions for one in action.option_strings)}
    for word in words:
        name = word.split("=")[0].removeprefix("--")
        if word.startswith("--") and name and word.split("=")[0] not in spellings:
            unknown = places.get(name) or f"{types[0].__name__} has no option '{name}'{nearest(name, known)}"
            raise MgenError(f"{program}: {renamed_option(command, name) or unknown}")
    config, words = _split_config(words)
    of_config = _read_config(Path(config), known, types, command) if config is not None else {}
    for action in parser._actions:
        if action.dest in of_config:
            action.default, action.required = of_config[action.dest], False
    try:
        *values, rest = parser.parse_args_into_dataclasses(words, return_remaining_strings=True)
    except (ValueError, TypeError) as error:
        line = " ".join(str(error).split())
        name = re.split(r"\W", line, maxsplit=1)[0]  # an error about an option begins with its name
        of_file = name in of_config and not any(word.split("=")[0] == f"--{name}" for word in words)
        raise MgenError(f"{config if of_file else program}: {line}") from error
    for word in rest:
        name = word.split("=")[0].removeprefix("--")
        raise MgenError(f"{program}: {types[0].__name__} has no option '{name}'{nearest(name, known)}")
    return tuple(values)


def _first_command(doc: str) -> str:
    """The first lines of a docstring that are a command, `mgen ...`, up to the next command or empty line."""
    found = re.search(r"^ *(mgen .*(?:\n(?! *mgen ) *\S.*)*)", doc, re.MULTILINE)
    return " ".join(found[1].split()) if found else "mgen"


def with_config(argv: Sequence[str] | None, command: str) -> list[str]:
    """The words of a command line with `--config` as a word before its value, and a path for the name of a recipe."""
    words = []
    for word in sys.argv[1:] if argv is None else argv:
        words += ["--config", word.removeprefix("--config=")] if word.startswith("--config=") else [word]
    place = words.index("--config") + 1 if "--config" in words else len(words)
    if place < len(words):
        words[place] = find_config(words[place], command)
    return words


def _split_config(words: list[str]) -> tuple[str | None, list[str]]:
    """The path of the YAML file, and the other words."""
    if "--config" not in words:
        return None, words
    place = words.index("--config")
    if place + 1 >= len(words):
        raise MgenError("--config: expected the path of a YAML file after it")
    return words[place + 1], words[:place] + words[place + 2 :]


def _read_config(path: Path, known: set[str], types: Sequence[type], command: str) -> dict[str, Any]:
    """The options in a YAML file, all of which exist; sets the environment variables of its key `env`."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        names = f", or the name of a recipe: {', '.join(recipes)}" if (recipes := recipe_names(command)) else ""
        raise MgenError(f"--config {path}: {error.strerror}; give the path of a YAML file{names}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise MgenError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise MgenError(f"{path}: expected `key: value` lines, found {type(content).__name__}")
    variables = content.pop("env", {})
    if not isinstance(variables, dict):
        raise MgenError(f"{path}: env: expected NAME: value lines, found {variables!r}")
    os.environ.update({str(name): str(value) for name, value in variables.items()})
    try:
        content = flatten_groups(content, known, types)
    except ValueError as error:
        raise MgenError(f"{path}: {error}") from error
    for key in content:
        if key not in known:
            new = renamed_option(command, str(key))
            raise MgenError(
                f"{path}: {new or f'{types[0].__name__} has no option {str(key)!r}{nearest(str(key), known)}'}"
            )
    return content


def config_as(name: str, argv: Sequence[str] | None, command: str) -> list[str]:
    """As `with_config`, with the option `name` in place of `--config`."""
    return [f"--{name}" if word == "--config" else word for word in with_config(argv, command)]


def to_stderr(line: str) -> None:
    """Prints progress where it does not mix with results."""
    print(line, file=sys.stderr, flush=True)


def print_result(text: str, facts: Any, as_json: bool) -> int:
    """Prints a summary, or its facts as one JSON object, once for all processes; returns the exit code 0."""
    if PartialState().is_main_process:
        print(json.dumps(facts) if as_json else text, flush=True)
    return 0
