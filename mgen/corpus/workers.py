"""One function over many items in worker processes that may crash, hang or take all memory: the item at fault is
known, the run goes on.
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

QUEUED_PER_WORKER = 16
"""Items handed out for each worker: enough to keep it busy, few enough that memory does not grow with their
number.
"""

STALL_SECONDS = 600.0
"""Seconds beyond an item's limit after which a silent pool is given up: on a busy machine workers start slowly."""

IMPORTS = ("mgen.encoding.remi", "mgen.guitar_pro")
"""What takes seconds to import: the server that workers are forked from has it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What comes in place of a result: `reason` is `timeout`, `out of memory`, `worker died` or `internal
    error`; `detail` is what is known.
    """

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What one item may take.

    Attributes:
        seconds: of processor time, so that a busy machine changes no result; an item that only waits is ended after
            `WALL_PER_CPU_SECOND` times as long.
        memory: MiB beyond what the worker held before. Held to on Linux only.
    """

    seconds: float = 5.0
    memory: int = 512


WALL_PER_CPU_SECOND = 6.0
"""Seconds on the clock for each second of processor time that an item may take."""


@dataclass(frozen=True)
class LimitedCall(Generic[Item, Result]):
    """`function` under `limits`: what a worker calls, of whatever engine. Faults become `Failure`."""

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
            except Exception as error:  # a fault of ours must not lose the other files; it is named and counted
                return Failure("internal error", f"{type(error).__name__}: {' '.join(str(error).split())}")
            finally:
                _start_timers(0.0)
        except OutOfTime:  # also from within the lines above
            _start_timers(0.0)
            return Failure("timeout", f"took over {self.limits.seconds:g} seconds")


class OutOfTime(BaseException):
    """Not an `Exception`: no library's own handling of faults may take it for one."""


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
    """Let this process take `more` MiB beyond what it holds."""
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
    """Each item with its result, in the order of the items, whatever the number of workers. Close it to end early.

    Args:
        function: can be pickled, as can items and results; it is imported once, before the workers are
            forked.
        workers: number of processes.
        limits: what one item may take.

    Raises:
        MgenError: Three times in a row the workers were lost without a result.
    """
    left = iter(items)
    waiting: deque[Item] = deque()  # handed out, result not yet given on
    deaths = 0
    limited = LimitedCall(function, limits)
    timeout = 2 * WALL_PER_CPU_SECOND * limits.seconds  # for what no signal reaches: a library that hangs
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
            # A worker died between two items, and pebble gives up on the pool. What had no result goes to a
            # new one.
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
        # The oldest item waits for one other at most; if it never ends, the pool's own machinery is stuck.
        return future.result(timeout=2 * timeout + STALL_SECONDS)
    except BrokenProcessPool:
        raise
    except TimeoutError as error:
        if not future.done():
            raise BrokenProcessPool("no answer from the pool") from error
        return Failure("timeout", f"took over {timeout:g} seconds")
    except OutOfTime:  # the clock rang when the item was done, before it was stopped
        return Failure("timeout", "its time was over")
    except ProcessExpired as error:
        return Failure("worker died", f"exit code {error.exitcode}")
    except Exception as error:  # the result could not be sent
        return Failure("internal error", f"{type(error).__name__}: {' '.join(str(error).split())}")


def _context(function: Callable[..., object]) -> BaseContext:
    """Workers fork from a server that has the imports, not from us: we may run threads."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*IMPORTS, getattr(function, "func", function).__module__])
    return context
