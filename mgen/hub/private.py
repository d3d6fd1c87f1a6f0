"""What must not be published: folders of the user's machine, tokens, names of accounts.

`public` leaves of a run's own records what says how it was trained; `check_private` looks through a finished folder and
stops at what got in some other way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from mgen.errors import MgenError

_LEFT_OUT = re.compile(
    r"(^|_)(token|secret|password|api_key|key)$|^(hub_|push_to_hub|trackio|wandb|project$)"
    r"|^(out|output_dir|logging_dir|run_name|resume_from_checkpoint|config|debug|json|hostname|user|host|argv|environ)$"
)
"""Options that name accounts and places, or say nothing of how a model came about. `max_tokens` is not among them."""

_TOKEN = re.compile(r"\b(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,})\b")
_PATH = re.compile(r"^(~|\.{0,2}[\\/]|[A-Za-z]:[\\/])|^(?!https?://|\d+/\d+$)\S*[\\/]\S*$")
"""From the root, home or here, with spaces or without; or one word with separators that is no address or metre."""

_UNNAMED = {"", ".", "..", "model", "/"}

TEXT = {".json", ".jsonl", ".yaml", ".yml", ".md", ".txt", ".csv", ".svg"}


def name_of(path: str) -> str:
    """A path's own name without the folders above it; of `RUN/model` the name of the run."""
    parts = [part for part in PureWindowsPath(path.split("=", 1)[-1]).parts if part.strip("\\/")]
    named = [part for part in parts if part not in _UNNAMED and not part.endswith(":")]
    if not named or parts[-1] in {".", ".."}:
        return "unnamed"
    return named[-1].removeprefix("~") or "unnamed"


def public(value: Any) -> Any:
    """A run's record (JSON or YAML values) without paths and secrets: a path becomes its own name.

    Cannot see a secret whose option's name does not say so and that has no known form.
    """
    if isinstance(value, Mapping):
        return {str(key): public(entry) for key, entry in value.items() if not _LEFT_OUT.search(str(key).lower())}
    if isinstance(value, list | tuple):
        return [public(entry) for entry in value]
    if isinstance(value, str):
        if _TOKEN.search(value):
            return "left out"
        if _PATH.search(value):
            return name_of(value)
    return value


def check_private(folder: Path, places: Mapping[str, str] | None = None) -> None:
    """Look through every text file of a folder that is to be published.

    Args:
        folder: searched with all below it.
        places: what must not be in it -> what it is, in words: `{str(Path.home()): "your home folder"}`.

    Raises:
        MgenError: A file holds such a place, or what looks like an access token.
    """
    forbidden = {
        re.compile(rf"(?<![\w.]){re.escape(place.rstrip('/'))}(?![\w.-])"): said
        for place, said in (places or {}).items()
        if len(place.strip("/")) > 1
    }
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix not in TEXT:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if _TOKEN.search(text):
            raise MgenError(f"{path}: holds what looks like an access token; nothing was published, remove it there")
        for pattern, said in forbidden.items():
            if pattern.search(text):
                raise MgenError(f"{path}: names {said}; nothing was published, remove it there")
