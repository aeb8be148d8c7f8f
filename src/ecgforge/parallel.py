"""Sampling with several processes: the same records, sooner.

A network call is too small for many threads, so that processes of one thread each make more records a second
(`benchmarks/processes.py`). Starting one takes some seconds: for a few records this process is quicker. How long a
record takes depends on model, sampler and machine, so it is measured on the first records.
"""

import math
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import torch

from ecgforge.checkpoints.locate import locate_model
from ecgforge.errors import CheckpointError, ConfigError
from ecgforge.generate import Generator, Progress
from ecgforge.record import EcgRecord
from ecgforge.sampling import Job, SamplingOptions

_Worker = tuple[Path, str, str]  # model, device, checksum of the weights
_Task = tuple[Sequence[Job], int, SamplingOptions]

_START_SECONDS = 5.0  # until a worker process makes records: PyTorch is imported, the model loaded and folded
_TRIED = 2  # records made here before the others are shared out: one to warm up, one to measure


def sample_jobs(
    jobs: Sequence[Job],
    *,
    seed: int = 0,
    options: SamplingOptions = SamplingOptions(),
    model: Path | None = None,
    weights_sha256: str | None = None,
    device: str = "cpu",
    processes: int | None = 1,
    progress: Progress | None = None,
) -> Iterator[EcgRecord]:
    """The records of Generator.load(model).sample_each(jobs, ...), made by worker processes of one thread each.

    Args:
        jobs: See sampling.jobs_of.
        seed, options: as Generator.sample_each.
        model: Model folder, None for the default.
        weights_sha256: Checksum of the weights, where they must be those that the caller has seen.
        device: Where every process samples.
        processes: How many; 1 samples here, on all threads. None makes two records here and takes as many as pay for
            the others, one a core at the most; scripts then need the usual `if __name__ == "__main__":`.
        progress: Called with (done, total), in steps or in records.

    Raises:
        LabelError, ConfigError, CheckpointError: before any process is started.
        CheckpointError: the weights changed meanwhile, as those of a training do.
        ConfigError: a process died.
    """
    model = locate_model(model)  # once, not in every process
    generator = _load(model, device, weights_sha256)
    generator.check(jobs, seed=seed, options=options)
    if processes is not None and processes < 1:
        raise ConfigError(f"expected 1 or more processes, got {processes}")
    worker = model, device, generator.config.weights_sha256
    if processes is None and device == "cpu" and len(jobs) > _TRIED:
        return _try_and_spread(generator, jobs, worker, seed=seed, options=options, progress=progress)
    if processes is None or processes == 1:
        return generator.sample_each(jobs, seed=seed, options=options, progress=progress)
    return _spread(jobs, worker, processes, seed=seed, options=options, progress=progress)


def worthwhile_processes(seconds: float, *, cores: int) -> int:
    """How many processes pay for work that takes one of them so long: each works as long as it takes to start."""
    return max(1, min(cores, int(seconds / _START_SECONDS)))


def _try_and_spread(
    generator: Generator,
    jobs: Sequence[Job],
    worker: _Worker,
    *,
    seed: int,
    options: SamplingOptions,
    progress: Progress | None,
) -> Iterator[EcgRecord]:
    taken, rest = 0.0, jobs[_TRIED:]
    for number, job in enumerate(jobs[:_TRIED]):
        started = time.monotonic()
        part = _part_of(progress, number, 1, len(jobs))
        made = list(generator.sample_each([job], seed=seed, options=options, progress=part))
        taken = time.monotonic() - started
        yield from made
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = worthwhile_processes(taken * len(rest), cores=cores)
    part = _part_of(progress, _TRIED, len(rest), len(jobs))
    if processes == 1:
        yield from generator.sample_each(rest, seed=seed, options=options, progress=part)
    else:
        yield from _spread(rest, worker, processes, seed=seed, options=options, progress=part)


def _part_of(progress: Progress | None, before: int, size: int, whole: int) -> Progress | None:
    """Progress of `size` records after others, as part of the whole."""
    if progress is None:
        return None
    return lambda done, total: progress(done + before * total // size, whole * total // size)


def _spread(
    jobs: Sequence[Job],
    worker: _Worker,
    processes: int,
    *,
    seed: int,
    options: SamplingOptions,
    progress: Progress | None,
) -> Iterator[EcgRecord]:
    size, done = max(1, min(options.batch_size, math.ceil(len(jobs) / processes))), 0  # work for every process
    tasks = [(jobs[start : start + size], seed, options) for start in range(0, len(jobs), size)]
    try:
        with ProcessPoolExecutor(
            processes, mp_context=get_context("spawn"), initializer=_start_worker, initargs=worker
        ) as pool:
            for records in pool.map(_sample_chunk, tasks):
                yield from records
                done += len(records)
                if progress:
                    progress(done, len(jobs))
    except BrokenProcessPool as error:
        raise ConfigError(
            "a sampling process ended abruptly (out of memory, or a script that does not start its work under "
            'if __name__ == "__main__"?); try again with one process'
        ) from error


def _load(model: Path, device: str, weights_sha256: str | None) -> Generator:
    generator = Generator.load(model, device=device)
    if weights_sha256 not in (None, generator.config.weights_sha256):
        raise CheckpointError(
            f"expected the weights that were there at the start, {model} has changed since, as a model in training "
            "does; copy the folder and use the copy"
        )
    return generator


_worker: _Worker | None = None  # what a worker process was started with
_worker_generator: Generator | None = None  # loaded with its first task, where an error reaches the caller


def _start_worker(model: Path, device: str, weights_sha256: str) -> None:
    global _worker
    torch.set_num_threads(1)
    _worker = model, device, weights_sha256


def _sample_chunk(task: _Task) -> list[EcgRecord]:
    global _worker_generator
    jobs, seed, options = task
    if _worker_generator is None:
        if _worker is None:
            raise RuntimeError("a worker process was used before it was started")
        _worker_generator = _load(*_worker)
    return list(_worker_generator.sample_each(jobs, seed=seed, options=options))
