"""`workers` on Ray: applies a function to many items on the cores of one machine or of a cluster.

Connects to the cluster of `RAY_ADDRESS`; without it, starts a local Ray for the run. Paths must name the same files on
every machine.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import Any, TypeVar

from mgen.corpus.workers import QUEUED_PER_WORKER, STALL_SECONDS, WALL_PER_CPU_SECOND, Failure, LimitedCall, Limits
from mgen.extras import import_extra

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_on_ray(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, limits: Limits
) -> Generator[tuple[Item, Result | Failure]]:
    """Like `workers.run_in_processes`.

    A library call that never returns to Python is ended only after another `STALL_SECONDS`.

    Raises:
        MgenError: Ray is not installed.
    """
    ray = import_extra("ray", "ray", "--engine ray", "use --engine local")
    own = not ray.is_initialized()
    if own:
        # A cluster has its own number of cores.
        cores = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers}
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error", **cores)
    try:
        limited = ray.put(LimitedCall(function, limits))
        call = ray.remote(max_retries=0, num_cpus=1)(_call)
        left = iter(items)
        waiting: deque[tuple[Item, Any]] = deque()
        while True:
            waiting.extend(
                (item, call.remote(limited, item)) for item in islice(left, workers * QUEUED_PER_WORKER - len(waiting))
            )
            if not waiting:
                return
            item, reference = waiting.popleft()
            yield item, _outcome(ray, reference, limits)
    finally:
        if own:
            ray.shutdown()


def _call(limited: LimitedCall[Item, Result], item: Item) -> Result | Failure:
    return limited(item)


def _outcome(ray: Any, reference: Any, limits: Limits) -> Any:
    try:
        return ray.get(reference, timeout=2 * WALL_PER_CPU_SECOND * limits.seconds + STALL_SECONDS)
    except ray.exceptions.GetTimeoutError:
        ray.cancel(reference, force=True)
        return Failure("timeout", f"took over {limits.seconds:g} seconds")
    except ray.exceptions.RayTaskError as error:  # the item or its result could not be sent
        return Failure("internal error", f"{type(error.cause).__name__}: {' '.join(str(error.cause).split())}")
    except ray.exceptions.RayError as error:
        return Failure("worker died", type(error).__name__)
