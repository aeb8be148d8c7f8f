"""Are worker processes of one thread each faster than one process with many threads?

    python benchmarks/processes.py [--model MODEL] [--records N] [--steps S] [--rounds R]

The same records (default model, default sampler) in four ways, in turn within each round: in this process on one
thread, in this process on all cores, in one process of one thread a core, and as `generate` chooses after two records
(parallel.sample_jobs). Prints records per second and the median over rounds of how often the way fits into the one
thread. Loading the model and starting the processes is counted, as whoever waits for records counts it; it weighs less
the more records there are.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from measuring import print_table, ratio, seconds

from ecgforge.parallel import sample_jobs
from ecgforge.sampling import SamplingOptions, jobs_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--records", type=int, default=32)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    cores = os.cpu_count() or 1
    options = SamplingOptions(steps=arguments.steps)

    def sample(processes: int | None, threads: int) -> None:
        torch.set_num_threads(threads)
        jobs = jobs_of("NORM,SR", n=arguments.records)
        made = sample_jobs(jobs, options=options, model=arguments.model, processes=processes)
        if len(list(made)) != arguments.records:
            raise RuntimeError(f"expected {arguments.records} records")

    ways: dict[str, tuple[int | None, int]] = {
        "one thread": (1, 1),
        f"one process, {cores} threads": (1, cores),
        f"{cores} processes of one thread": (cores, 1),
        "chosen": (None, cores),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            times[name].append(seconds(lambda way=way: sample(*way)))
    slow = times["one thread"]
    print(f"Processes and threads: {arguments.records} records, {arguments.rounds} rounds, start included.\n")
    rows = [[name, f"{arguments.records / np.median(taken):.2f}", ratio(slow, taken)] for name, taken in times.items()]
    print_table(("way", "records/s", "against one thread"), rows)


if __name__ == "__main__":
    main()
