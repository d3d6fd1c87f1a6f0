"""Errors that are the caller's to mend.

Every one is a single line saying where, what was expected, what came and what to do. The command line
prints it and exits with 2; a library user catches `MgenError`.
"""

from __future__ import annotations


class MgenError(Exception):
    """One clear line for the person who called us."""


class RejectedFile(MgenError):
    """A music file that cannot become a piece; `reason` is a short, countable name.

    Args:
        reason: one of a small set of names, the column `reason` of rejected.csv.
        detail: what exactly was found, for the person who wants to mend the file.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
