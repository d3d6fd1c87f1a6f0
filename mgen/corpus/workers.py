"""One function over many items in worker processes that may crash or hang: the item at fault is known, the
run goes on.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing.context import BaseContext
from typing import TypeVar

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from mgen.errors import MgenError

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 16
"""Items handed out for each worker: enough to keep it busy, few enough that memory does not grow with their
number.
"""

PATIENCE = 600.0
"""Seconds beyond an item's limit after which a silent pool is given up: on a busy machine workers start slowly."""

IMPORTS = ("mgen.encoding.remi",)
"""What takes seconds to import: the server that workers are forked from has it."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What comes in place of a result: `reason` is `timeout`, `worker died` or `internal error`; `detail` is
    what is known.
    """

    reason: str
    detail: str


def in_workers(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, timeout: float
) -> Generator[tuple[Item, Result | Lost]]:
    """Each item with its result, in the order of the items, whatever the number of workers. Close it to end early.

    Args:
        function: can be pickled, as can items and results; it is imported once, before the workers are
            forked.
        workers: number of processes.
        timeout: seconds that one item may take.

    Raises:
        MgenError: Three times in a row the workers were lost without a result.
    """
    left = iter(items)
    waiting: deque[Item] = deque()  # handed out, result not yet given on
    deaths = 0
    while True:
        pool = ProcessPool(workers, context=_context(function))
        try:
            futures = deque(pool.schedule(function, [item], timeout=timeout) for item in waiting)
            while True:
                for item in islice(left, workers * AHEAD - len(waiting)):
                    waiting.append(item)
                    futures.append(pool.schedule(function, [item], timeout=timeout))
                if not futures:
                    return
                result: Result | Lost = _outcome(futures.popleft(), timeout)
                deaths = 0
                yield waiting.popleft(), result
        except (BrokenProcessPool, RuntimeError) as error:
            # A worker died between two items, and pebble gives up on the pool. What had no result goes to a
            # new one.
            deaths += 1
            if deaths == 3:
                raise MgenError(
                    f"worker processes give no result ({error}); free some memory or try --workers 1"
                ) from error
        finally:
            pool.stop()  # type: ignore[no-untyped-call]
            pool.join()


def _outcome(future: ProcessFuture[Result], timeout: float) -> Result | Lost:
    try:
        # The oldest item waits for one other at most; if it never ends, the pool's own machinery is stuck.
        return future.result(timeout=2 * timeout + PATIENCE)
    except BrokenProcessPool:
        raise
    except TimeoutError as error:
        if not future.done():
            raise BrokenProcessPool("no answer from the pool") from error
        return Lost("timeout", f"took over {timeout:g} seconds")
    except ProcessExpired as error:
        return Lost("worker died", f"exit code {error.exitcode}")
    except MemoryError:
        return Lost("worker died", "out of memory")
    except Exception as error:  # a fault of ours must not lose the other files; it is named and counted
        return Lost("internal error", f"{type(error).__name__}: {' '.join(str(error).split())}")


def _context(function: Callable[..., object]) -> BaseContext:
    """Workers fork from a server that has the imports, not from us: we may run threads."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*IMPORTS, getattr(function, "func", function).__module__])
    return context
