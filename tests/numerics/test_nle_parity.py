"""Our SSSD-ECG-nle against arrays made with the original; everything but the statement embedding is SSSD-ECG's.

Agreement is the L2 norm of the difference over that of the output. Leads are I, aVF, V1-V6.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ecgforge.checkpoints.original import network_from_original
from ecgforge.models.sssd import SssdEcg

Arrays = dict[str, np.ndarray]
Parity = Callable[[str], Arrays]

TOLERANCE = 1e-4
SUFFIX = {"full": "", "half": "_half_sum"}

each_size = pytest.mark.parametrize("labels", [1, 5])
both_sums = pytest.mark.parametrize("cauchy", SUFFIX)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def imported(arrays: Arrays, cauchy: Any) -> SssdEcg:
    weights = {
        key.removeprefix("weight/"): torch.from_numpy(value)
        for key, value in arrays.items()
        if key.startswith("weight/")
    }
    return network_from_original(weights, cauchy=cauchy)


def inputs(arrays: Arrays, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    x, step, condition = (torch.from_numpy(arrays[key]).to(dtype) for key in ("x", "step", "condition"))
    return x, step, condition


def distance(ours: Tensor, theirs: np.ndarray) -> float:
    difference = ours.detach().double().numpy() - theirs
    return float(np.linalg.norm(difference) / np.linalg.norm(theirs))


@each_size
@both_sums
@each_dtype
def test_network(parity: Parity, labels: int, cauchy: Any, dtype: torch.dtype) -> None:
    arrays = parity(f"sssd_ecg_nle_as_released_{labels}_labels")
    network = imported(arrays, cauchy).to(dtype)
    assert (network.config.statements, network.config.labels) == ("nle-as-released", labels)
    with torch.no_grad():
        y = network(*inputs(arrays, dtype))
    assert distance(y, arrays["output" + SUFFIX[cauchy]]) < TOLERANCE
    other = "half" if cauchy == "full" else "full"
    assert distance(y, arrays["output" + SUFFIX[other]]) > 0.03


@each_size
def test_the_condition_of_the_arrays_matters(parity: Parity, labels: int) -> None:
    """Otherwise the agreement above would say nothing about the tables."""
    arrays = parity(f"sssd_ecg_nle_as_released_{labels}_labels")
    network = imported(arrays, "full")
    x, step, condition = inputs(arrays, torch.float32)
    with torch.no_grad():
        assert distance(network(x, step, 1 - condition), arrays["output"]) > 100 * TOLERANCE


@each_size
def test_imported_network_takes_unknown_as_grade_one_half(parity: Parity, labels: int) -> None:
    arrays = parity(f"sssd_ecg_nle_as_released_{labels}_labels")
    network = imported(arrays, "full")
    x, step, condition = inputs(arrays, torch.float32)
    with torch.no_grad():
        unknown = network(x, step, torch.full_like(condition, torch.nan))
        torch.testing.assert_close(unknown, network(x, step, torch.full_like(condition, 0.5)))
