"""Reading many records with several processes, in order and without piling up results."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from ecgforge.errors import ConfigError, DataError

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNK = 32
_CHUNKS_IN_FLIGHT = 8  # a process; bounds what waits in memory while the store is written


def in_processes(read: Callable[[Item], Result], items: Sequence[Item], *, jobs: int | None) -> Iterator[Result]:
    """`read` of every item, in order.

    Args:
        read: A function that can be sent to another process.
        items: Its arguments.
        jobs: Number of processes; 1 reads in this one, None takes one a processor where that pays.

    Raises:
        ConfigError: jobs is below 1.
        DataError: a process died.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError(f"expected at least 1 job, got {jobs}")
    wanted = jobs or (os.cpu_count() or 1)
    if wanted == 1 or (jobs is None and len(items) <= _CHUNK):
        yield from map(read, items)
        return
    batch = wanted * _CHUNK * _CHUNKS_IN_FLIGHT
    try:
        with ProcessPoolExecutor(max_workers=wanted) as pool:
            for start in range(0, len(items), batch):
                yield from pool.map(read, items[start : start + batch], chunksize=_CHUNK)
    except BrokenProcessPool as error:
        raise DataError(
            "a reading process ended abruptly (out of memory?); try again with one job (--jobs 1)"
        ) from error
