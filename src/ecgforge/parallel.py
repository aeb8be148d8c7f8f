"""Sampling with several processes: the same records, sooner.

A network call is too small for many threads, so that processes of one thread each make more records a second
(`benchmarks/processes.py`). Starting one takes some seconds: for a few records this process is quicker.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from ecgforge.checkpoints.locate import locate_model
from ecgforge.errors import ConfigError
from ecgforge.generate import Generator, Job, Progress, SamplingOptions
from ecgforge.record import EcgRecord

_WORTH_STARTING = 16  # records for each process


def sample_jobs(
    jobs: Sequence[Job],
    *,
    seed: int = 0,
    options: SamplingOptions = SamplingOptions(),
    model: Path | None = None,
    device: str = "cpu",
    processes: int | None = 1,
    progress: Progress | None = None,
) -> Iterator[EcgRecord]:
    """The records of Generator.load(model).sample_each(jobs, ...), made by worker processes of one thread each.

    Args:
        jobs: See generate.jobs_of.
        seed, options: as Generator.sample_each.
        model: Model folder, None for the default.
        device: Where every process samples.
        processes: How many; 1 samples here, on all threads. None takes one a core where that
            pays; scripts then need the usual `if __name__ == "__main__":`.
        progress: Called with (done, total), in network calls or in records.

    Raises:
        LabelError, ConfigError, CheckpointError: before any process is started.
    """
    model = locate_model(model)  # once, not in every process
    generator = Generator.load(model, device=device)
    generator.check(jobs, options=options)
    wanted = _worthwhile(len(jobs), device=device) if processes is None else processes
    if wanted < 1:
        raise ConfigError(f"expected 1 or more processes, got {wanted}")
    if wanted == 1:
        return generator.sample_each(jobs, seed=seed, options=options, progress=progress)
    chunks = [jobs[start : start + options.batch_size] for start in range(0, len(jobs), options.batch_size)]
    return _spread([(chunk, seed, options) for chunk in chunks], wanted, (model, device), progress)


def _worthwhile(records: int, *, device: str) -> int:
    """One process a core, as far as each has enough to do; one on an accelerator, which they would share."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, records // _WORTH_STARTING)) if device == "cpu" else 1


_Task = tuple[Sequence[Job], int, SamplingOptions]


def _spread(
    tasks: Sequence[_Task], processes: int, worker: tuple[Path | None, str], progress: Progress | None
) -> Iterator[EcgRecord]:
    done, total = 0, sum(len(jobs) for jobs, _, _ in tasks)
    with ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_start_worker, initargs=worker
    ) as pool:
        for records in pool.map(_sample_chunk, tasks):
            yield from records
            done += len(records)
            if progress:
                progress(done, total)


_worker_generator: Generator | None = None  # one per worker process, set when it starts


def _start_worker(model: Path | None, device: str) -> None:
    global _worker_generator
    torch.set_num_threads(1)
    _worker_generator = Generator.load(model, device=device)


def _sample_chunk(task: _Task) -> list[EcgRecord]:
    jobs, seed, options = task
    if _worker_generator is None:
        raise RuntimeError("a worker process was used before it was started")
    return list(_worker_generator.sample_each(jobs, seed=seed, options=options))
