"""How many processes sample, and that nobody can tell from the records."""

import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ecgforge.checkpoints.native import load_config, load_model, save_model
from ecgforge.errors import CheckpointError, ConfigError
from ecgforge.parallel import sample_jobs, worthwhile_processes
from ecgforge.sampling import SamplingOptions, jobs_of


def test_a_process_works_as_long_as_it_takes_to_start() -> None:
    assert [worthwhile_processes(work, cores=8) for work in (0, 1, 9.9, 10, 26, 40, 5000)] == [1, 1, 1, 2, 5, 8, 8]
    assert worthwhile_processes(5000, cores=1) == 1


@pytest.mark.parametrize("start_seconds", [1e9, 1e-9], ids=["here", "in processes"])
def test_the_chosen_way_makes_the_same_records(
    tiny_patch_model: Path, monkeypatch: pytest.MonkeyPatch, start_seconds: float
) -> None:
    monkeypatch.setattr("ecgforge.parallel._START_SECONDS", start_seconds)
    options, jobs = SamplingOptions(steps=2, batch_size=2), jobs_of("SR", n=7)
    steps: list[float] = []
    chosen, here = (
        [
            record.signal
            for record in sample_jobs(
                jobs,
                options=options,
                model=tiny_patch_model,
                processes=processes,
                progress=lambda done, total: steps.append(done / total),
            )
        ]
        for processes in (None, 1)
    )
    assert np.array_equal(np.stack(chosen), np.stack(here))
    turn = steps.index(1.0) + 1  # the chosen way comes first
    for part in (steps[:turn], steps[turn:]):
        assert part[-1] == 1.0
        assert np.all(np.diff(part) > 0)


def test_every_process_has_something_to_do(tiny_patch_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six records in batches of up to eight are cut for two processes."""
    sizes = []

    class Pool(ProcessPoolExecutor):
        def map(self, function: Any, tasks: Any, **options: Any) -> Any:
            sizes.extend(len(jobs) for jobs, _, _ in tasks)
            return super().map(function, tasks, **options)

    monkeypatch.setattr("ecgforge.parallel.ProcessPoolExecutor", Pool)
    made = sample_jobs(jobs_of("SR", n=6), options=SamplingOptions(steps=2), model=tiny_patch_model, processes=2)
    assert len(list(made)) == 6 and sizes == [3, 3]


def test_no_processes_are_refused(tiny_patch_model: Path) -> None:
    options = SamplingOptions(steps=2)
    with pytest.raises(ConfigError, match="1 or more processes, got 0"):
        sample_jobs(jobs_of("SR"), options=options, model=tiny_patch_model, processes=0)
    with pytest.raises(ConfigError, match="seed from 0"):
        sample_jobs(jobs_of("SR"), seed=-1, options=options, model=tiny_patch_model, processes=2)


def test_no_jobs_make_no_records(tiny_patch_model: Path) -> None:
    assert list(sample_jobs([], options=SamplingOptions(steps=2), model=tiny_patch_model, processes=2)) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_weights_that_changed_meanwhile_are_refused(tiny_patch_model: Path, tmp_path: Path, processes: int) -> None:
    model = shutil.copytree(tiny_patch_model, tmp_path / "model")
    seen = load_config(model).weights_sha256
    options, jobs = SamplingOptions(steps=2), jobs_of("SR", n=2)
    made = sample_jobs(jobs, options=options, model=model, weights_sha256=seen, processes=processes)
    loaded = load_model(model)
    with torch.no_grad():
        changed = {name: 2 * value for name, value in loaded.network.state_dict().items()}
    save_model(loaded.config, changed, model)
    if processes == 2:  # its processes load the model now
        with pytest.raises(CheckpointError, match="has changed since"):
            list(made)
    with pytest.raises(CheckpointError, match="has changed since"):
        sample_jobs(jobs, options=options, model=model, weights_sha256=seen, processes=processes)


def test_a_process_that_dies_is_an_error_with_a_remedy(tiny_patch_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecgforge.parallel._sample_chunk", _die)
    made = sample_jobs(jobs_of("SR", n=2), options=SamplingOptions(steps=2), model=tiny_patch_model, processes=2)
    with pytest.raises(ConfigError, match="try again with one process"):
        list(made)


def _die(task: object) -> None:
    os._exit(1)
