from __future__ import annotations

import os
import signal
import time

import pytest

from mgen.corpus.workers import AHEAD, Lost, in_workers


def behave(item):
    """What a file can do to the process that reads it."""
    match item:
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            os._exit(3)
        case "hang":
            time.sleep(600)
        case "fault":
            raise KeyError("column")
        case "memory":
            raise MemoryError
        case _:
            return item * item


@pytest.mark.parametrize("workers", [1, 3])
def test_the_item_at_fault_is_known_and_the_others_come_in_order(workers):
    items = [1, "crash", 2, "exit", 3, "hang", "fault", 4, "memory", 5, "crash"]
    results = list(in_workers(behave, items, workers, timeout=1))
    assert [item for item, _ in results] == items
    assert [result for _, result in results if not isinstance(result, Lost)] == [1, 4, 9, 16, 25]
    lost = {item: result for item, result in results if isinstance(result, Lost)}
    assert {item: result.reason for item, result in lost.items()} == {
        "crash": "worker died",
        "exit": "worker died",
        "hang": "timeout",
        "fault": "internal error",
        "memory": "worker died",
    }
    assert lost["fault"].detail == "KeyError: 'column'"
    assert str(-signal.SIGSEGV) in lost["crash"].detail


def test_only_a_few_items_are_taken_ahead():
    taken = []

    def endless():
        number = 0
        while True:
            taken.append(number)
            yield number
            number += 1

    results = in_workers(behave, endless(), workers=2, timeout=60)
    assert [next(results) for _ in range(100)] == [(number, number * number) for number in range(100)]
    results.close()
    assert len(taken) <= 100 + 2 * AHEAD


def test_no_items_no_results():
    assert list(in_workers(behave, [], workers=1, timeout=1)) == []
