"""List the instruments in music files, one line per file.

    mgen instruments music/jazz song.mid

The line of a file that cannot be read gives the reason.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mgen.cli.options import parse, to_stderr
from mgen.errors import MgenError
from mgen.options import option
from mgen.workflows.instruments import list_instruments


@dataclass
class InstrumentsConfig:
    """Options of `mgen instruments`."""

    json: bool = option(False, "Print one JSON object instead of lines.")


def main(argv: Sequence[str] | None = None) -> int:
    """Lists the instruments of files; returns the exit code, 2 if no file could be read."""
    arguments = {"files": {"nargs": "+", "metavar": "FILE", "help": "music files, folders and zip archives of them"}}
    config, words = parse(argv, InstrumentsConfig, doc=__doc__, arguments=arguments)
    reports = []
    for report in list_instruments(words.files, to_stderr):
        reports.append(report)
        if not config.json:
            print(report.line, flush=True)
    unread = sum(bool(report.reason) for report in reports)
    if config.json:
        files = [asdict(report) for report in reports]
        print(json.dumps({"read": len(reports) - unread, "unread": unread, "files": files}))
    if unread == len(reports):
        raise MgenError("no file could be read; each line above gives the reason of a file")
    return 0
