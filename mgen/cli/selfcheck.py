"""Check the two-sample test on real music: it must detect corruptions, and no difference where there is none.

    mgen selfcheck --corpus corpus --style jazz --out runs/selfcheck

Compared are real excerpts and excerpts of other works with shuffled bars, with shuffled segments of two bars, and with
the pitches of an order-1 chain; then real and real excerpts, over random splits of the works. Requirements are judged
at 512 pieces per side. The exit code is 1 if one is not met.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from mgen.cli.options import Output, parse, print_result
from mgen.cli.progress import ProgressDisplay
from mgen.cli.tables import as_text
from mgen.evaluation.comparisons import format_interval
from mgen.evaluation.self_check import HALF, INCLUDED
from mgen.stats.two_sample import MAX_NOTES, QUOTABLE
from mgen.workflows.selfcheck import SelfcheckConfig, SelfcheckResult, run_selfcheck

_MET = {True: "met", False: "NOT MET", None: f"not judged below {QUOTABLE} per side"}


def main(argv: Sequence[str] | None = None) -> int:
    """Check; returns the exit code."""
    config, output = parse(argv, SelfcheckConfig, Output, doc=__doc__)
    with ProgressDisplay(output.json) as progress:
        result = run_selfcheck(config, progress)
    print_result("" if output.json else _summary(result), result.facts, output.json)
    return 1 if result.check.met is False else 0


def _summary(result: SelfcheckResult) -> str:
    check = result.check
    detection = Table("", "AUC", "required", "")
    for name, part in check.checks.items():
        detection.add_row(name, format_interval(part.test.larger), f"{part.required}", _MET[part.met])
    splits = Table("", "share", "required", "")
    for name, split in check.splits.items():
        if split.intervals:
            splits.add_row(name, f"{split.share:.2f} of {len(split.intervals)}", f"{INCLUDED}", _MET[split.met])
    verdicts = {True: "all requirements are met", False: "a requirement is NOT MET", None: "not all could be judged"}
    return "\n".join(
        [
            f"real against corrupted, {check.n} excerpts per side of {check.works} works, {MAX_NOTES} notes",
            as_text(detection),
            *([f"real against real, intervals that include {HALF}", as_text(splits)] if splits.row_count else []),
            f"{verdicts[check.met]}; {result.facts['seconds']:.0f} s",
        ]
    )
