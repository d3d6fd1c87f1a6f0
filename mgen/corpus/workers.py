"""Applies a function to many items in worker processes that may crash, hang or run out of memory: the item at fault is
reported, the run continues.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing.context import BaseContext
from pathlib import Path
from types import FrameType
from typing import Generic, NoReturn, TypeVar

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from mgen.errors import MgenError

Item = TypeVar("Item")
Result = TypeVar("Result")

QUEUED_PER_WORKER = 16  # items scheduled per worker: enough to keep it busy, few enough to bound memory

STALL_SECONDS = 600.0
"""Seconds beyond the limit of an item until a stalled pool is abandoned; workers start slowly on a busy machine."""

IMPORTS = (
    "mgen.encoding.remi",
    "mgen.formats.guitar_pro",
)  # slow imports that the fork server makes once for all workers


@dataclass(frozen=True, slots=True)
class Failure:
    """Returned in place of a result; `reason` is `timeout`, `out of memory`, `worker died` or `internal error`."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits per item.

    Attributes:
        seconds: processor time, so that the load of the machine does not change results; an item that only waits is
            ended after `WALL_PER_CPU_SECOND` times as long.
        memory: MiB in addition to what the worker holds. Enforced on Linux only.
    """

    seconds: float = 5.0
    memory: int = 512


WALL_PER_CPU_SECOND = 6.0  # seconds on the clock allowed per second of processor time


@dataclass(frozen=True)
class LimitedCall(Generic[Item, Result]):
    """`function` under `limits`, as a worker of any engine calls it; errors become `Failure`."""

    function: Callable[[Item], Result]
    limits: Limits

    def __call__(self, item: Item) -> Result | Failure:
        try:
            _cap_memory(self.limits.memory)
            try:
                _start_timers(self.limits.seconds)
                return self.function(item)
            except MemoryError:
                return Failure("out of memory", f"needs over {self.limits.memory} MiB")
            except Exception as error:  # a bug in mgen must not lose the other files; it is reported and counted
                return Failure("internal error", f"{type(error).__name__}: {' '.join(str(error).split())}")
            finally:
                _start_timers(0.0)
        except OutOfTime:  # also from within the lines above
            _start_timers(0.0)
            return Failure("timeout", f"took over {self.limits.seconds:g} seconds")


class OutOfTime(BaseException):
    """Not an `Exception`, so that the error handling of libraries does not catch it."""


def _raise_out_of_time(number: int, frame: FrameType | None) -> NoReturn:
    raise OutOfTime


def _start_timers(seconds: float) -> None:
    """Raises `OutOfTime` after `seconds` of CPU time or `WALL_PER_CPU_SECOND` times that on the clock; 0 stops."""
    if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
        for number, timer, limit in (
            (signal.SIGPROF, signal.ITIMER_PROF, seconds),
            (signal.SIGALRM, signal.ITIMER_REAL, WALL_PER_CPU_SECOND * seconds),
        ):
            signal.signal(number, _raise_out_of_time)
            signal.setitimer(timer, limit)


def _cap_memory(more: int) -> None:
    """Limits this process to `more` MiB in addition to what it holds."""
    if not sys.platform.startswith("linux"):
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[5])  # data and stack, what RLIMIT_DATA counts
    held = pages * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = held + (more << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))


def run_in_processes(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, limits: Limits
) -> Generator[tuple[Item, Result | Failure]]:
    """Yields each item with its result, in the order of the items. Close the generator to end early.

    Args:
        function: must be picklable, as must items and results; imported once, before the workers fork.
        workers: number of processes.
        limits: per item.

    Raises:
        MgenError: The pool broke three times in a row without a result.
    """
    left = iter(items)
    waiting: deque[Item] = deque()  # scheduled, result not yet yielded
    deaths = 0
    limited = LimitedCall(function, limits)
    timeout = 2 * WALL_PER_CPU_SECOND * limits.seconds  # for library calls that signals do not interrupt
    while True:
        pool = ProcessPool(workers, context=_context(function))
        try:
            futures = deque(pool.schedule(limited, [item], timeout=timeout) for item in waiting)
            while True:
                for item in islice(left, workers * QUEUED_PER_WORKER - len(waiting)):
                    waiting.append(item)
                    futures.append(pool.schedule(limited, [item], timeout=timeout))
                if not futures:
                    return
                result: Result | Failure = _outcome(futures.popleft(), timeout)
                deaths = 0
                yield waiting.popleft(), result
        except (BrokenProcessPool, RuntimeError) as error:
            # A worker died between two items and pebble abandons the pool; items without a result go to a new one.
            deaths += 1
            if deaths == 3:
                raise MgenError(
                    f"worker processes give no result ({error}); free some memory or try --workers 1; a script of your "
                    "own calls this below `if __name__ == '__main__':`"
                ) from error
        finally:
            pool.stop()  # type: ignore[no-untyped-call]
            pool.join()


def _outcome(future: ProcessFuture[Result | Failure], timeout: float) -> Result | Failure:
    try:
        # The oldest item waits for at most one other; beyond that the pool itself is stuck.
        return future.result(timeout=2 * timeout + STALL_SECONDS)
    except BrokenProcessPool:
        raise
    except TimeoutError as error:
        if not future.done():
            raise BrokenProcessPool("no answer from the pool") from error
        return Failure("timeout", f"took over {timeout:g} seconds")
    except OutOfTime:  # the timer fired after the item was done, before it was stopped
        return Failure("timeout", "its time was over")
    except ProcessExpired as error:
        return Failure("worker died", f"exit code {error.exitcode}")
    except Exception as error:  # the result could not be sent
        return Failure("internal error", f"{type(error).__name__}: {' '.join(str(error).split())}")


def _context(function: Callable[..., object]) -> BaseContext:
    """Workers fork from a server with the imports, not from this process, which may run threads."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*IMPORTS, getattr(function, "func", function).__module__])
    return context
