"""Keeps private data out of a published repository: local folders, tokens, account names.

`redact` removes them from a run's records; `check_private` searches a finished folder and stops at what is left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from mgen.errors import MgenError

_PRIVATE_OPTION = re.compile(
    r"(^|_)(token|secret|password|api_key|key)$|^(hub_|push_to_hub|trackio|wandb|project$)"
    r"|^(out|output_dir|logging_dir|run_name|resume_from_checkpoint|config|debug|json|hostname|user|host|argv|environ)$"
)
"""Options that name accounts and places, or that say nothing about the training. `max_tokens` does not match."""

_TOKEN = re.compile(r"\b(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,})\b")
_PATH = re.compile(r"^(~|\.{0,2}[\\/]|[A-Za-z]:[\\/])|^(?!https?://|\d+/\d+$)\S*[\\/]\S*$")
"""A path from the root, home or working folder; or one word with separators that is no address and no metre."""

_UNNAMED = {"", ".", "..", "model", "/"}

TEXT = {".json", ".jsonl", ".yaml", ".yml", ".md", ".txt", ".csv", ".svg"}


def base_name(path: str) -> str:
    """Returns a path's last component; for `RUN/model` the name of the run."""
    parts = [part for part in PureWindowsPath(path.split("=", 1)[-1]).parts if part.strip("\\/")]
    names = [part for part in parts if part not in _UNNAMED and not part.endswith(":")]
    if not names or parts[-1] in {".", ".."}:
        return "unnamed"
    return names[-1].removeprefix("~") or "unnamed"


def redact(value: Any) -> Any:
    """Copies JSON or YAML values without paths and secrets: a path is replaced by its last component.

    Misses a secret of unknown form under an option whose name does not suggest one.
    """
    if isinstance(value, Mapping):
        return {str(key): redact(entry) for key, entry in value.items() if not _PRIVATE_OPTION.search(str(key).lower())}
    if isinstance(value, list | tuple):
        return [redact(entry) for entry in value]
    if isinstance(value, str):
        if _TOKEN.search(value):
            return "left out"
        if _PATH.search(value):
            return base_name(value)
    return value


def check_private(folder: Path, private_paths: Mapping[str, str] | None = None) -> None:
    """Searches every text file below a folder before it is published.

    Args:
        folder: to be published.
        private_paths: paths that no file may contain -> a description: `{str(Path.home()): "your home folder"}`.

    Raises:
        MgenError: A file contains such a path, or what looks like an access token.
    """
    forbidden = {
        re.compile(rf"(?<![\w.]){re.escape(path.rstrip('/'))}(?![\w.-])"): description
        for path, description in (private_paths or {}).items()
        if len(path.strip("/")) > 1
    }
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or file.suffix not in TEXT:
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        if _TOKEN.search(text):
            raise MgenError(f"{file}: holds what looks like an access token; nothing was published, remove it there")
        for pattern, description in forbidden.items():
            if pattern.search(text):
                raise MgenError(f"{file}: names {description}; nothing was published, remove it there")
