"""What `mgen bench` compares files with: other libraries alone. Imports nothing heavy, because workers do."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import guitarpro
from miditok import REMI

from mgen.corpus.scan import Source
from mgen.encoding.remi import Remi


def miditok_ids(source: Source) -> int:
    """Number of ids that MidiTok's own encoder makes of a file."""
    return len(_miditok()(source.file).ids)


@lru_cache(maxsize=1)  # built once in each worker
def _miditok() -> REMI:
    return Remi.build().miditok


def parsed_tab(source: Source) -> Any:
    """What pyguitarpro makes of a file, or what it says of one that it cannot read."""
    try:
        return guitarpro.parse(str(source.file))
    except Exception as error:  # many kinds
        return error
