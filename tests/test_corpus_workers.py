from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mgen.corpus.workers import QUEUED_PER_WORKER, WALL_PER_CPU_SECOND, Failure, Limits, run_in_processes
from mgen.errors import MgenError

pytestmark = pytest.mark.slow


def behave(item):
    """What a file can do to the process that reads it."""
    match item:
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            os._exit(3)
        case "hang":
            while True:
                pass
        case "fault":
            raise KeyError("column")
        case "sleep":
            time.sleep(600)
        case "memory":
            return len(np.ones(200 << 17))  # 200 MiB
        case "hog":
            return len([bytearray(1 << 20) for _ in range(200)])
        case "modest":
            return len(np.ones(40 << 17)) // (40 << 17)
        case _:
            return item * item


FATES = {
    "crash": "worker died",
    "exit": "worker died",
    "hang": "timeout",
    "sleep": "timeout",
    "fault": "internal error",
    "memory": "out of memory",
    "hog": "out of memory",
}


@pytest.mark.parametrize("workers", [1, 3])
def test_the_item_at_fault_is_known_and_the_others_come_in_order(workers):
    items = [1, "crash", 2, "exit", 3, "hang", "fault", 4, "memory", "modest", "hog", 5, "sleep", "crash"]
    results = list(run_in_processes(behave, items, workers, Limits(seconds=0.5, memory=100)))
    assert [item for item, _ in results] == items
    assert [result for _, result in results if not isinstance(result, Failure)] == [1, 4, 9, 16, 1, 25]
    lost = {item: result for item, result in results if isinstance(result, Failure)}
    assert {item: result.reason for item, result in lost.items()} == FATES
    assert lost["fault"].detail == "KeyError: 'column'"
    assert lost["memory"].detail == "needs over 100 MiB"
    assert str(-signal.SIGSEGV) in lost["crash"].detail


def test_time_is_the_processor_s_so_a_short_wait_is_no_fault():
    assert WALL_PER_CPU_SECOND > 2
    began = time.monotonic()
    assert list(run_in_processes(nap, [1.0], 1, Limits(seconds=0.5))) == [(1.0, "rested")]
    assert time.monotonic() - began > 1


def nap(seconds):
    time.sleep(seconds)
    return "rested"


def test_only_a_few_items_are_taken_ahead():
    taken = []

    def endless():
        number = 0
        while True:
            taken.append(number)
            yield number
            number += 1

    results = run_in_processes(behave, endless(), workers=2, limits=Limits(60))
    assert [next(results) for _ in range(100)] == [(number, number * number) for number in range(100)]
    results.close()
    assert len(taken) <= 100 + 2 * QUEUED_PER_WORKER


def test_no_items_no_results():
    assert list(run_in_processes(behave, [], workers=1, limits=Limits(1))) == []


@pytest.mark.slow
def test_ray_gives_the_same(monkeypatch):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # its workers import this file
    from mgen.corpus.ray_workers import run_on_ray

    items = [1, "crash", 2, "hang", "fault", 3, "memory", "modest", 4, "sleep"]
    limits = Limits(seconds=0.5, memory=100)
    on_ray, here = (
        [(item, getattr(result, "reason", result)) for item, result in engine(behave, items, 2, limits)]
        for engine in (run_on_ray, run_in_processes)
    )
    assert on_ray == here


def test_ray_that_is_not_there_is_said(monkeypatch):
    from mgen.corpus.ray_workers import run_on_ray

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MgenError, match=r"ray is not installed; pip install 'mgen-music\[ray\]'"):
        next(run_on_ray(behave, [1], 1, Limits()))
