"""Options as dataclasses: checked alike from the command line, a YAML file and the keywords of a call.

Nothing here parses words; `mgen.cli.options` does.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_type_hints

from mgen.errors import MgenError
from mgen.option_limits import INHERITED, LIMITS, Limits, check_value, plain_type
from mgen.renames import renamed_option

Options = TypeVar("Options")


def option(default: Any, description: str, **limits: Any) -> Any:
    """A field of a dataclass of options: its default (a list is copied), the text of `--help`, and its `Limits`."""
    metadata = {"help": description, LIMITS: Limits(**limits)} if limits else {"help": description}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: [*default], metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def nearest(name: str, known: Iterable[str]) -> str:
    """Ends an error about an unknown name: the most similar known one, or where to look."""
    similar = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean '{similar[0]}'?" if similar else "; see --help"


def flatten_groups(values: Mapping[str, Any], known: Iterable[str], kinds: Iterable[type]) -> dict[str, Any]:
    """Options with nested groups as flat ones: `{realism: {steps: 2}}` is `{realism_steps: 2}`.

    Args:
        values: option or group -> value. A mapping is a group where options begin with its name and an underscore, and
            no option of that name takes a mapping.
        known: names of the options.
        kinds: dataclasses of the options.

    Raises:
        ValueError: A group has an unknown member, or an option is there twice.
    """
    known = set(known)
    flat: dict[str, Any] = {}
    hints = {name: hint for kind in kinds for name, hint in get_type_hints(kind).items()}
    for key, value in values.items():
        members = {name.removeprefix(f"{key}_"): name for name in known if name.startswith(f"{key}_")}
        takes_mapping = key in known and plain_type(hints.get(key)) is None
        if not isinstance(value, Mapping) or not members or takes_mapping:
            given = {key: value}
        else:
            for name in value:
                if name not in members:
                    raise ValueError(f"{key}: {{{name}: ...}}: no such option{nearest(str(name), members)}")
            given = {members[name]: one for name, one in value.items()}
        if twice := flat.keys() & given:
            raise ValueError(f"{min(twice)} is there twice, in a group and by itself; leave one out")
        flat |= given
    return flat


def from_keywords(kind: type[Options], command: str, values: Mapping[str, Any]) -> Options:
    """Builds the options of a command from the keywords of its library call.

    Args:
        kind: dataclass of the options.
        command: its name, `finetune`.
        values: option -> value, perhaps in groups.

    Raises:
        MgenError: An option does not exist (with the nearest that does, or its new name), or a check of the dataclass
            fails.
    """
    known = {field.name for field in dataclasses.fields(kind) if field.init}  # type: ignore[arg-type]
    try:
        values = flatten_groups(values, known, [kind])
    except ValueError as error:
        raise MgenError(f"mgen.{command}: {error}") from error
    for name in values:
        if name not in known:
            new = renamed_option(command, name)
            raise MgenError(f"mgen.{command}: {new or f'no option {name!r}{nearest(name, known)}'}")
    try:
        return kind(**check_values(kind, values))
    except (TypeError, ValueError) as error:
        raise MgenError(f"mgen.{command}: {' '.join(str(error).split())}") from error


def check_values(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Checks the type and the limits of options before anything is built of them.

    Args:
        kind: dataclass of the options.
        values: option -> value; names that are no options are passed over.

    Returns:
        The same values of plain types: a list for a list of one, text for a path.

    Raises:
        ValueError: A value has another type than its option or is outside its limits; the message begins with the name.
    """
    hints, checked = get_type_hints(kind), dict(values)
    for field in dataclasses.fields(kind):
        if field.name not in values:
            continue
        value = values[field.name]
        if type(value) is not type(field.default) or value != field.default:
            limits = field.metadata.get(LIMITS) or INHERITED.get(field.name, Limits())
            checked[field.name] = check_value(field.name, value, hints[field.name], limits)
    return checked


def check_required(options: Any, *names: str) -> None:
    """Raises ValueError unless each of these options has a value."""
    for name in names:
        if not getattr(options, name):
            raise ValueError(f"expected --{name}, got none; see --help")


def as_dict(options: Any, *bases: type) -> dict[str, Any]:
    """The options of a dataclass that differ from their defaults, plus all that its own class or `bases` define.

    Returns:
        Option -> value, of types that YAML and JSON have.
    """
    own = {name for kind in (type(options), *bases) for name in getattr(kind, "__annotations__", {})}
    values = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if not isinstance(value, str | int | float | bool | list | tuple | type(None)):
            continue
        if field.name in own or value != field.default:
            values[field.name] = value
    plain: dict[str, Any] = json.loads(json.dumps(values))  # enums to their words, tuples to lists
    return plain


def target_style(asked: str, styles: Iterable[str], option: str = "target") -> str:
    """The style that a corpus is used for: the one asked for, or the only one besides `other`.

    Args:
        asked: value of the option; empty to infer it.
        styles: of the corpus, such as `remi.style_ids`.
        option: name of the option, for messages.

    Raises:
        MgenError: The corpus does not have the style, or none is asked for and several are possible.
    """
    styles = list(styles)
    if asked and asked not in styles:
        raise MgenError(f"{option}: style '{asked}': the corpus has {', '.join(styles)}")
    if asked:
        return asked
    if len(styles) == 2 and "other" in styles:
        return next(style for style in styles if style != "other")
    raise MgenError(f"expected --{option} STYLE, one of {', '.join(styles)}")
