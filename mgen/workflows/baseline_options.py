"""What `mgen generate --baseline RUN` asks of a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BaselineOptions:
    """What is asked of a baseline; fields as in `mgen generate`, where tokens are steps."""

    run: Path
    out: Path
    n: int
    seed: int
    prompt: str
    prompt_from: str
    prompt_tokens: int
    max_new_tokens: int
    include_prompt: bool
    temperature: float
    top_k: int
    threshold: float
    tempo: float | None
