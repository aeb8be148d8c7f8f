"""How many processes sample."""

from pathlib import Path

import numpy as np
import pytest

from ecgforge.errors import ConfigError
from ecgforge.generate import SamplingOptions, jobs_of
from ecgforge.parallel import _worthwhile, sample_jobs


def test_a_process_has_enough_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert [_worthwhile(records, device="cpu") for records in (1, 16, 31, 32, 100, 128, 5000)] == [1, 1, 1, 2, 6, 8, 8]
    assert _worthwhile(5000, device="cuda") == 1


def test_no_processes_are_refused(tiny_patch_model: Path) -> None:
    options = SamplingOptions(steps=2)
    with pytest.raises(ConfigError, match="1 or more processes, got 0"):
        sample_jobs(jobs_of("SR"), options=options, model=tiny_patch_model, processes=0)
    chosen, one = (
        np.stack(
            [r.signal for r in sample_jobs(jobs_of("SR"), options=options, model=tiny_patch_model, processes=number)]
        )
        for number in (None, 1)
    )
    assert np.array_equal(chosen, one)
