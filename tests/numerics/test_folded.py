"""The folded network is the network: with native kernels and without, at all sizes, record by record."""

import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ecgforge.errors import ConfigError
from ecgforge.models.folded import FoldedSssd
from ecgforge.models.folded.sssd_plain import cyclic_spectrum
from ecgforge.models.folded.taps import contracted_kernel, two_sided_taps
from ecgforge.models.native.library import Absent, native_kernels
from ecgforge.models.native.spectra import (
    negacyclic_spectrum,
    plan_splits,
    smooth_length,
)
from ecgforge.models.s4 import DplrKernel, S4Layer, convolve_directly
from ecgforge.models.sssd import SssdConfig, SssdEcg

TOLERANCE = 1e-6  # float32 rounding; wrong terms show at 1e-3 and more
SMALL = SssdConfig(
    length=48,
    layers=3,
    labels=5,
    residual_channels=16,
    skip_channels=16,
    step_features=8,
    step_hidden=8,
    step_out=8,
    label_features=4,
    state_size=8,
)
SIZES = {
    "papers' records": replace(SMALL, layers=2, length=1000, state_size=16),
    "2.5 s": replace(SMALL, length=250),
    "odd length": replace(SMALL, length=257),
    "partial vectors": replace(SMALL, residual_channels=10, skip_channels=7, length=50),
    "one block": replace(SMALL, layers=1),
    "s4d": replace(SMALL, kernel="s4d"),
    "half sum": replace(SMALL, cauchy="half", length=47),
    "more leads": replace(SMALL, leads=12),
    "one sample": replace(SMALL, length=1),
}

both_ways = pytest.mark.parametrize("native", [False, True], ids=["plain", "native"])


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def network(config: SssdConfig, *, seed: int = 0) -> SssdEcg:
    """Random weights, none of them zero or one."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = SssdEcg(config).eval()
        for module in made.modules():
            if isinstance(module, nn.LayerNorm):
                nn.init.normal_(module.weight, 1, 0.3)
                nn.init.normal_(module.bias, 0, 0.3)
        nn.init.normal_(made.output.weight, 0, 0.3)
        nn.init.normal_(made.output.bias)
    return made


def inputs(config: SssdConfig, *, batch: int = 3, length: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, config.leads, length or config.length, generator=generator)
    condition = torch.rand(batch, config.labels, generator=generator)
    return x, torch.linspace(0, 199, batch).round(), condition


def distance(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def folded(made: SssdEcg, *, native: bool) -> FoldedSssd:
    """Skips where native kernels were asked for and there are none."""
    if native and isinstance(native_kernels(), Absent):
        pytest.skip(f"no native kernels: {native_kernels()}")
    result = FoldedSssd(made, native=native)
    assert (result.absent is None) == native
    return result


# ------------------------------------------------------------------------------------- the whole network


@both_ways
@pytest.mark.parametrize("name", SIZES)
def test_folded_network_is_the_network(name: str, native: bool) -> None:
    made, given_inputs = network(SIZES[name]), inputs(SIZES[name])
    y = folded(made, native=native)(*given_inputs)
    assert distance(y, made(*given_inputs)) < TOLERANCE


@both_ways
def test_error_is_that_of_float32(native: bool) -> None:
    """Against the network in float64 the folded one is no worse than three times the network in float32."""
    made, given_inputs = network(SMALL), inputs(SMALL)
    error = distance(made(*given_inputs), exact := network(SMALL).double()(*(value.double() for value in given_inputs)))
    assert distance(folded(made, native=native)(*given_inputs), exact) < 3 * error


@both_ways
@pytest.mark.parametrize("name", ["papers' records", "partial vectors", "one block"])
def test_bfloat16_products_are_near(name: str, native: bool) -> None:
    """Roundings of 2^-9 that do not pile up, and are there."""
    made, given_inputs = network(SIZES[name]), inputs(SIZES[name])
    if native and isinstance(native_kernels(), Absent):
        pytest.skip("no native kernels")
    y = FoldedSssd(made, native=native, products=torch.bfloat16)(*given_inputs)
    assert y.dtype == torch.float32
    assert 1e-4 < distance(y, made(*given_inputs)) < 1e-2


def test_float64_networks_stay_float64() -> None:
    made = network(SMALL).double()
    given_inputs = tuple(value.double() for value in inputs(SMALL))
    result = FoldedSssd(made)
    assert result.absent is not None and "float32" in result.absent.reason
    y = result(*given_inputs)
    assert y.dtype == torch.float64
    assert distance(y, made(*given_inputs)) < 1e-6  # kernels come from a basis in float64, the network's as well


@both_ways
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 17, 33])
def test_shorter_records(native: bool, length: int) -> None:
    shorter = replace(SMALL, length=length)
    made, given_inputs = network(shorter), inputs(shorter)
    assert distance(folded(made, native=native)(*given_inputs), made(*given_inputs)) < TOLERANCE


@both_ways
def test_record_is_bitwise_the_same_in_any_company(native: bool) -> None:
    evaluate, (x, level, condition) = folded(network(SMALL), native=native), inputs(SMALL, batch=5)
    together = evaluate(x, level, condition)
    for rows in ([3], [4, 0], [2, 3, 1]):
        assert torch.equal(evaluate(x[rows], level[rows], condition[rows]), together[rows])
    assert torch.equal(evaluate(x.mT.contiguous().mT, level, condition), together)  # other strides, same numbers


@both_ways
def test_threads_do_not_disturb_each_other(native: bool) -> None:
    evaluate, given_inputs = folded(network(SMALL), native=native), inputs(SMALL, batch=8)
    expected = evaluate(*given_inputs)
    results: dict[int, Tensor] = {}

    def work(number: int) -> None:
        results[number] = evaluate(*given_inputs)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert all(torch.equal(result, expected) for result in results.values())


@both_ways
def test_what_was_kept_for_one_step_and_statement_is_not_used_for_another(native: bool) -> None:
    made, (x, _, _) = network(SMALL), inputs(SMALL, batch=1)
    evaluate = folded(made, native=native)
    for step, grade in ((0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.0, 1.0), (0.5, 0.0)):
        call = x, torch.tensor([step]), torch.full((1, SMALL.labels), grade)
        assert distance(evaluate(*call), made(*call)) < TOLERANCE, (step, grade)


class LookedUp(nn.Module):
    """Statements by whole numbers and a function of their sum: no matrix."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.table = nn.Embedding(10, features)

    def forward(self, condition: Tensor) -> Tensor:
        """(B, K) whole numbers to (B, features)."""
        return torch.tanh(self.table(condition.long()).sum(1))


@both_ways
def test_other_statement_embeddings(native: bool) -> None:
    made, (x, level, _) = network(SMALL), inputs(SMALL)
    made.statements = LookedUp(SMALL.label_features)  # type: ignore[assignment]
    evaluate = folded(made, native=native)
    for numbers in ([[1.0, 2.0], [3.0, 4.0], [5.0, 5.0]], [[1.0, 2.0], [9.0, 9.0], [0.0, 0.0]]):
        condition = torch.tensor(numbers)
        assert distance(evaluate(x, level, condition), made(x, level, condition)) < TOLERANCE


def test_later_changes_of_the_weights_are_not_seen() -> None:
    made, given_inputs = network(SMALL), inputs(SMALL)
    evaluate = FoldedSssd(made)
    before = evaluate(*given_inputs)
    made.blocks[0].s4_first.output.weight.mul_(2)
    made.output.bias.add_(1)
    assert torch.equal(evaluate(*given_inputs), before)


def test_what_cannot_be_folded_is_refused() -> None:
    with pytest.raises(ConfigError, match="records of 48 samples, got 40"):
        FoldedSssd(network(SMALL))(*inputs(SMALL, length=40))
    with pytest.raises(ConfigError, match="on the CPU, got meta"):
        FoldedSssd(network(SMALL).to("meta"))


# ------------------------------------------------------------------------------------- taps and spectra


@pytest.mark.parametrize("cauchy", ["full", "half"])
@pytest.mark.parametrize("length", [1, 2, 33, 64])
def test_contracted_kernel_is_the_one_through_the_basis(cauchy: Any, length: int) -> None:
    kernel = DplrKernel(65, state_size=8, length=length, cauchy=cauchy).double()  # 65 is more than is done at once
    assert distance(contracted_kernel(kernel), kernel(length)) < 1e-10


def taps(length: int, features: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Records (1, H, L), and forward and backward taps as two_sided_taps gives them."""
    generator = torch.Generator().manual_seed(length)
    u, forward, backward = torch.randn(3, features, length, dtype=torch.float64, generator=generator)
    return u[None], forward, backward


def by_sums(u: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
    return convolve_directly(u, torch.stack([forward, backward]), torch.zeros(len(forward), dtype=u.dtype))[0]


@given(length=st.integers(1, 40), room=st.integers(0, 5))
@settings(max_examples=20)
def test_both_spectra_are_the_sum_over_taps(length: int, room: int) -> None:
    u, forward, backward = taps(length)
    expected = by_sums(u, forward, backward)
    n = 2 * length - 1 + room
    cyclic = torch.fft.irfft(torch.fft.rfft(u[0], n=n) * cyclic_spectrum(forward, backward, fft_length=n), n=n)
    torch.testing.assert_close(cyclic[:, :length], expected, rtol=1e-10, atol=1e-10)
    size = length + room
    turn = torch.exp(0.5j * math.pi / size * torch.arange(length, dtype=torch.float64))
    spectrum = negacyclic_spectrum(forward, backward, size=size)
    negacyclic = torch.fft.ifft(torch.fft.fft(u[0] * turn, n=size) * spectrum)[:, :length] / turn
    torch.testing.assert_close(negacyclic.real, expected, rtol=1e-10, atol=1e-10)


def test_taps_of_a_layer_carry_its_feedthrough() -> None:
    layer = S4Layer(6, state_size=4, length=16).double()
    u = torch.randn(1, 6, 16, dtype=torch.float64)
    expected = convolve_directly(u, layer.kernel(16), layer.D)[0]
    torch.testing.assert_close(by_sums(u, *two_sided_taps(layer, 16)), expected, rtol=1e-10, atol=1e-10)


@given(st.integers(1, 5000))
def test_smooth_lengths_are_the_next_with_small_factors(at_least: int) -> None:
    def is_smooth(n: int) -> bool:
        for factor in (2, 3, 5):
            while n % factor == 0:
                n //= factor
        return n == 1

    found = smooth_length(at_least)
    assert found >= at_least and is_smooth(found)
    assert not any(is_smooth(n) for n in range(at_least, found))


@pytest.mark.parametrize("size", [1, 2, 7 - 1, 9, 16, 30, 125, 250, 1000])
def test_splits_walk_through_the_transform(size: int) -> None:
    """The splits in numpy, as kernels.cpp does them: transform of x w^m, frequencies in `order`."""
    plan = plan_splits(size)
    x = np.random.default_rng(0).normal(size=size)
    blocks = x[None].astype(complex)
    for number, (radix, factors) in enumerate(zip(plan.radices, plan.twiddles, strict=True)):
        rows = blocks.reshape(len(blocks), radix, -1)
        rows = rows * plan.turns[:, None] if number == 0 else rows
        rows = np.fft.fft(rows, axis=1)
        all_factors = factors if number == 0 else np.concatenate([np.ones((len(factors), 1)), factors], axis=1)
        blocks = (rows * all_factors.T).reshape(-1, rows.shape[2])
    expected = np.fft.fft(x * np.exp(0.5j * np.pi / size * np.arange(size)))
    np.testing.assert_allclose(blocks.ravel(), expected[plan.order], atol=1e-9)
