"""The native convolution of training: the sum over taps and its derivatives, in any number of threads."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from ecgforge.models.native.convolution import can_convolve, convolve_natively
from ecgforge.models.native.library import Absent, native_kernels
from ecgforge.models.native.spectra import negacyclic_spectrum, taps_of_spectrum
from ecgforge.models.s4 import S4Convolution, convolve_directly

SIZES = [(2, 48, 20), (3, 250, 32), (1, 1, 5), (2, 2, 33), (2, 37, 16)]


@pytest.fixture(autouse=True)
def native() -> None:
    if isinstance(native_kernels(), Absent):
        pytest.skip(f"no native kernels: {native_kernels()}")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def draw(batch: int, length: int, features: int) -> tuple[Tensor, Tensor, Tensor]:
    """Input, taps of both directions and what the output is weighted with."""
    generator = torch.Generator().manual_seed(0)
    u, w = torch.randn(2, batch, length, features, generator=generator)
    return u.requires_grad_(), torch.randn(2, features, length, generator=generator).requires_grad_(), w


def distance(a: Tensor, b: Tensor) -> float:
    return float((a.detach().double() - b.detach().double()).norm() / b.detach().double().norm().clamp(min=1e-12))


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("size", SIZES)
def test_output_and_derivatives_are_those_of_the_sum_over_taps(size: tuple[int, int, int]) -> None:
    u, taps, w = draw(*size)
    y = convolve_natively(u, *taps)
    nothing = torch.zeros(size[2], dtype=torch.float64)
    exact = convolve_directly(u.double().transpose(1, 2), taps.double(), nothing).transpose(1, 2)
    assert distance(y, exact) < 1e-6
    for found, wanted in zip(
        torch.autograd.grad((y * w).sum(), (u, taps)), torch.autograd.grad((exact * w).sum(), (u, taps)), strict=True
    ):
        assert distance(found, wanted) < 1e-6


@pytest.mark.usefixtures("two_threads")
def test_threads_change_nothing() -> None:
    u, taps, w = draw(2, 48, 36)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        y = convolve_natively(u, *taps)
        found.append((y, *torch.autograd.grad(y, (u, taps), w)))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_spectrum_and_taps_are_inverse() -> None:
    _, taps, _ = draw(1, 37, 4)
    forward, backward = taps.detach().double()
    found = taps_of_spectrum(negacyclic_spectrum(forward, backward, size=40), length=37)
    torch.testing.assert_close(found[0], forward)
    torch.testing.assert_close(found[1][:, :-1], backward[:, :-1])


def test_layer_computes_the_same_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer, x = S4Convolution(20, state_size=8, length=60), torch.randn(3, 50, 20)
    results = []
    for native in "01":
        monkeypatch.setenv("ECGFORGE_NATIVE", native)
        assert can_convolve(x) == (native == "1")
        y = layer.convolve(x)
        results.append((y, *torch.autograd.grad(y.square().sum(), list(layer.parameters()))))
    for plain, fast in zip(*results, strict=True):
        assert distance(fast, plain) < 1e-5


def test_other_numbers_go_the_plain_way() -> None:
    assert not can_convolve(torch.zeros(1, 4, 4, dtype=torch.float64))
    assert not can_convolve(torch.zeros(1, 4, 4, device="meta"))


def test_gradients_are_not_differentiable_again() -> None:
    u, taps, w = draw(1, 8, 4)
    (once,) = torch.autograd.grad((convolve_natively(u, *taps) * w).square().sum(), u, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        once.sum().backward()
