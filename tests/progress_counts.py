"""A progress that keeps what it takes."""


class Counts:
    """Lines and counts of a call."""

    def __init__(self):
        self.lines, self.counts = [], []

    def __call__(self, line):
        self.lines.append(line)

    def count(self, loop, done, total, note):
        self.counts.append((loop, done, total, note))
