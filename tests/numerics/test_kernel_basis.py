"""Few functions shared by all layers give the kernels and gradients of the full basis; other lengths and rates."""

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor

from ecgforge.errors import ConfigError
from ecgforge.models.kernel_basis import (
    KernelBasis,
    correct_for_length,
    discretize,
    dplr_kernel_by_recurrence,
    full_basis,
    hippo_legs_dplr,
    low_rank_basis,
    uncorrect_for_length,
)
from ecgforge.models.s4 import DiagonalKernel, DplrKernel

LENGTH = 200
STATES = 16


@pytest.fixture(autouse=True)
def _small_layers_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecgforge.models.s4._WORTH_SHARING", 0)


def relative(a: Tensor, b: Tensor) -> float:
    return float(((a.double() - b.double()).norm() / b.double().norm()).detach())


def system(state_size: int) -> list[Tensor]:
    """Lambda, P, B."""
    return [torch.from_numpy(part) for part in hippo_legs_dplr(state_size)]


def random_steps(features: int, *, low: float = 1e-3, high: float = 1e-1) -> Tensor:
    draws = torch.rand(features, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    return low * (high / low) ** draws


def low_rank(dt: Tensor, *, length: int = LENGTH) -> KernelBasis:
    found = low_rank_basis(*system(STATES), dt, length=length, dtype=torch.float64)
    assert found is not None and found.shared is not None
    return found


# ----------------------------------------------------------------------------------- shared functions


@pytest.mark.parametrize("length", [LENGTH, LENGTH + 1])
def test_every_function_of_every_feature_is_one_of_the_shared_span(length: int) -> None:
    dt = torch.cat([torch.tensor([1e-3, 1e-1], dtype=torch.float64), random_steps(11)])
    few = low_rank(dt, length=length)
    exact = full_basis(*system(STATES), dt, length=length, dtype=torch.float64)
    assert exact.shared is None and few.shared is not None
    assert few.shared.shape[0] < length / 3
    back = few.own @ few.shared
    for feature in range(len(dt)):
        assert relative(back[feature], exact.own[feature]) < 1e-7


def test_shared_functions_are_orthonormal_and_the_same_tensor_for_all_layers() -> None:
    first, second = low_rank(random_steps(3)), low_rank(random_steps(5, low=2e-3, high=4e-2))
    assert first.shared is second.shared
    gram = first.shared @ first.shared.mT
    torch.testing.assert_close(gram, torch.eye(len(gram), dtype=gram.dtype), rtol=0, atol=1e-12)


def test_steps_beyond_the_usual_range_have_functions_of_their_own() -> None:
    dt = random_steps(6, low=1e-4, high=0.3)
    few = low_rank(dt)
    exact = full_basis(*system(STATES), dt, length=LENGTH, dtype=torch.float64)
    assert few.shared is not low_rank(random_steps(3)).shared
    assert relative(few.own @ few.shared, exact.own) < 1e-7


def test_where_few_functions_are_no_gain_there_is_no_low_rank_basis() -> None:
    assert low_rank_basis(*system(STATES), random_steps(3), length=40, dtype=torch.float32) is None
    short, long = (DplrKernel(3, state_size=STATES, length=length) for length in (40, LENGTH))
    assert short.basis().shared is None
    assert long.basis().shared is not None
    assert long.double().basis().shared is None  # float64 is for exact comparisons
    assert DplrKernel(3, state_size=STATES, length=LENGTH, cauchy="half").basis().shared is None


@pytest.mark.parametrize("window", [LENGTH, 77, 1])
def test_kernel_and_gradient_are_those_of_the_full_basis(window: int) -> None:
    torch.manual_seed(0)
    single = DplrKernel(5, state_size=STATES, length=LENGTH)
    exact = copy.deepcopy(single).double()
    probe = torch.randn(2, 5, window)
    kernels = single(window), exact(window)
    assert relative(*kernels) < 1e-6
    for kernel in kernels:
        (kernel * probe.to(kernel.dtype)).sum().backward()
    assert single.C.grad is not None and exact.C.grad is not None
    assert relative(single.C.grad, exact.C.grad) < 1e-6


def test_copies_and_pickles_carry_no_basis() -> None:
    kernel = DplrKernel(5, state_size=STATES, length=LENGTH)
    before = kernel(LENGTH)
    assert kernel.basis().own.numel() > 1000
    for copied in (copy.deepcopy(kernel), pickle.loads(pickle.dumps(kernel))):
        assert copied._basis is None
        assert torch.equal(copied(LENGTH), before)
    assert kernel._basis is not None


# -------------------------------------------------------------------------------- other lengths, other rates


@pytest.mark.parametrize("length", [9, 40])
def test_length_correction_has_an_inverse(length: int) -> None:
    C = torch.randn(2, 3, 4, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
    d_a, _ = discretize(*system(8), random_steps(3))
    back = uncorrect_for_length(correct_for_length(C, d_a, length), d_a, length)
    torch.testing.assert_close(back, C, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("longer", [41, 80, 333])
def test_longer_kernel_begins_as_the_one_it_was_made_from(longer: int) -> None:
    kernel = DplrKernel(5, state_size=8, length=40).double()
    before, grown = kernel(40), copy.deepcopy(kernel)
    grown.resample(longer, rate_ratio=1.0)
    assert grown(longer).shape == (2, 5, longer)
    assert relative(grown(longer)[..., :40], before) < 1e-9
    parts = [torch.view_as_complex(part) for part in (grown.C, grown.Lambda, grown.P, grown.B)]
    stepped = dplr_kernel_by_recurrence(*parts, grown.log_dt.exp(), length=longer)
    assert relative(grown(longer), stepped) < 1e-9
    with pytest.raises(ConfigError, match="at most 40"):
        kernel(longer)
    grown.resample(40, rate_ratio=1.0)
    assert relative(grown.C, kernel.C) < 1e-6  # log_dt and C are stored in the module's own format


def test_half_sum_is_not_resampled() -> None:
    with pytest.raises(ConfigError, match="half sum is not the true kernel"):
        DplrKernel(3, state_size=8, length=40, cauchy="half").resample(80, rate_ratio=1.0)


def test_faster_kernel_is_the_one_of_the_smaller_step() -> None:
    """The taps of the same system at a fifth of the step, by powers of its dense matrix."""
    kernel = DplrKernel(3, state_size=8, length=40).double()
    dt = kernel.log_dt.exp()
    parts = [torch.view_as_complex(part) for part in (kernel.Lambda, kernel.P, kernel.B)]
    C = uncorrect_for_length(torch.view_as_complex(kernel.C.detach()), discretize(*parts, dt)[0], 40)
    d_a, state = discretize(*parts, dt / 5)
    taps = []
    for _ in range(200):
        taps.append(2 * torch.einsum("chn,hn->ch", C, state[:, :4]).real)
        state = torch.einsum("hnm,hm->hn", d_a, state)
    kernel.resample(200, rate_ratio=5.0)
    assert relative(kernel(200), torch.stack(taps, dim=-1)) < 1e-9


@pytest.mark.parametrize("ratio", [2, 5])
def test_diagonal_kernel_at_a_higher_rate_sums_to_the_slower_one(ratio: int) -> None:
    """A tap is the integral of the response over one hold; `ratio` shorter holds make the long one."""
    kernel = DiagonalKernel(3, state_size=8, length=40).double()
    before = kernel(40)
    kernel.resample(40 * ratio, rate_ratio=ratio)
    fine = kernel(40 * ratio).unflatten(2, (40, ratio)).sum(3)
    torch.testing.assert_close(fine, before, rtol=1e-9, atol=1e-12)


def test_integral_of_the_kernel_does_not_depend_on_the_rate() -> None:
    """With the bilinear rule the error falls with the square of the step."""
    errors = []
    for ratio in (4, 8, 16):
        torch.manual_seed(0)
        kernel = DplrKernel(1, state_size=4, length=100).double()
        kernel.log_dt.fill_(math.log(0.01))
        with torch.no_grad():
            kernel.resample(100, rate_ratio=1.0)
            finest, kernel = copy.deepcopy(kernel), kernel
            finest.resample(6400, rate_ratio=64.0)
            kernel.resample(100 * ratio, rate_ratio=float(ratio))
            response, truth = kernel(100 * ratio).sum(-1), finest(6400).sum(-1)
        errors.append(float((response - truth).norm()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02 * float(truth.norm())
