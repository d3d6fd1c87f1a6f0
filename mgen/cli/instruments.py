"""List the instruments in music files, one line per file.

    mgen instruments music/jazz song.mid

The line of a file that cannot be read gives the reason. With `--table` the answer is for all files together: a table,
and exit code 1 if a file has more than one instrument, 0 if none has.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from mgen.cli.options import parse, to_stderr
from mgen.errors import MgenError
from mgen.options import option
from mgen.workflows.instruments import ANSWERS, SEVERAL, UNREAD, FileInstruments, list_instruments


@dataclass
class InstrumentsConfig:
    """Options of `mgen instruments`."""

    json: bool = option(False, "Print one JSON object instead of lines.")
    table: bool = option(
        False, "Print how many files have one instrument and how many several; exit code 1 if any has several."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Lists the instruments of files; returns the exit code, 2 if no file could be read.

    With `table`, 1 if a file has several.
    """
    arguments = {"files": {"nargs": "+", "metavar": "FILE", "help": "music files, folders and zip archives of them"}}
    config, words = parse(argv, InstrumentsConfig, doc=__doc__, arguments=arguments)
    reports = []
    for report in list_instruments(words.files, to_stderr):
        reports.append(report)
        if not config.json and not config.table:
            print(report.line, flush=True)
    unread, several = (sum(report.answer == answer for report in reports) for answer in (UNREAD, SEVERAL))
    if config.json:
        files = [asdict(report) for report in reports]
        counts = {"read": len(reports) - unread, "unread": unread, "several": several}
        print(json.dumps({**counts, "files": files}))
    elif config.table:
        Console(width=max(80, Console().width)).print(_table(reports))
    if unread == len(reports):
        reasons = "the table has the reasons" if config.table else "each line above gives the reason of a file"
        raise MgenError(f"no file could be read; {reasons}")
    return int(config.table and several > 0)


def _table(reports: Sequence[FileInstruments]) -> Table:
    """Files and their most frequent instruments, by the answer to whether there is more than one instrument."""
    table = Table("instruments", "files", "most frequent")
    for answer in ANSWERS:
        found = [report for report in reports if report.answer == answer]
        names = Counter(
            report.reason or " + ".join(sorted({one.name for one in report.instruments})) for report in found
        )
        frequent = ", ".join(f"{name} {count}" for name, count in names.most_common(3) if name)
        table.add_row(answer, f"{len(found):,}", frequent)
    return table
