"""What this machine has for mgen, and the remedy for what is missing.

    mgen doctor

Exit code 1 where something is missing without which mgen does not work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mgen.cli.options import Output, parse, print_result
from mgen.workflows.doctor import examine


def main(argv: Sequence[str] | None = None) -> int:
    """Examines the machine; returns the exit code."""
    (output,) = parse(argv, Output, doc=__doc__)
    findings = examine(Path.cwd())
    lines = [f"{'-' if one.remedy else '+'} {one.part:<10} {one.found}" for one in findings]
    remedies = [f"  {one.part}: {one.remedy}" for one in findings if one.remedy]
    text = "\n".join([*lines, *(["", "what to do:", *remedies] if remedies else [])])
    print_result(text, [asdict(one) for one in findings], output.json)
    return int(any(one.remedy and one.needed for one in findings))
