"""Errors that the caller can fix.

Each message is one line: where, what was expected, what was found, what to do. The command line prints it and exits
with 2; library users catch `MgenError`.
"""

from __future__ import annotations


class MgenError(Exception):
    """An error of the caller, as one line."""


class RejectedFile(MgenError):
    """A music file that cannot become a piece.

    Args:
        reason: short name for counting, the column `reason` of rejected.csv.
        detail: what exactly was found, to help fix the file.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
