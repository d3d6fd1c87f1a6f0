"""A process that votes until it is killed: `listen_voter.py FILE FIRST`. It prints the number of each vote once it is
acknowledged, and begins at FIRST, the first that its predecessor did not get to print: as a browser sends a vote again.
"""

from __future__ import annotations

import sys

from mgen.listen.vote_store import Study, StudyClip, Vote, VoteStore

PLACES = 50


def study(pairs=PLACES, systems=("real", "model")):
    clips = [
        StudyClip(system, f"prompt {i}", f"work {i // 2}", f"{system} {i}") for i in range(pairs) for system in systems
    ]
    return Study("Which?", 20.0, 0, tuple(systems), tuple(clips), tuple((2 * i, 2 * i + 1) for i in range(pairs)))


def intended(number):
    """What vote `number` says: its id, place and choice."""
    return f"vote{number:08d}", number % PLACES, ("a", "b", "tie", "undo")[number % 4]


if __name__ == "__main__":
    store = VoteStore.open(sys.argv[1], study())
    rater = store.rater("Ann")
    number = int(sys.argv[2])
    while True:
        key, place, choice = intended(number)
        store.vote(Vote(key, rater, place, choice))
        print(number, flush=True)
        number += 1
