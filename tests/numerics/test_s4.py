"""S4 and S4D: closed forms against dense matrices and recurrences, convolutions against sums, kept kernels."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ecgforge.errors import ConfigError
from ecgforge.models.kernel_basis import (
    correct_for_length,
    discretize,
    dplr_basis,
    dplr_kernel_by_recurrence,
    dplr_spectrum,
    fourier_nodes,
    hippo_legs,
    hippo_legs_dplr,
)
from ecgforge.models.s4 import (
    DiagonalKernel,
    DplrKernel,
    S4Layer,
    convolve,
    convolve_directly,
    kernels_kept,
    two_sided_kernel,
)

STEPS = torch.tensor([1e-3, 7e-3, 1e-1], dtype=torch.float64)


def system(state_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lambda, P, B as complex128 tensors."""
    Lambda, P, B = (torch.from_numpy(part) for part in hippo_legs_dplr(state_size))
    return Lambda, P, B


def random_C(state_size: int, *, features: int = len(STEPS), seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, features, state_size // 2)
    return torch.randn(shape, dtype=torch.complex128, generator=generator)


def contract(C: Tensor, basis: Tensor) -> Tensor:
    """K = sum_n Re(C_n) G_n + Im(C_n) G_{n + N/2}, (c, H, L)."""
    return torch.einsum("chn,hnl->chl", torch.cat([C.real, C.imag], dim=-1), basis)


def relative(a: Tensor, b: Tensor) -> float:
    return float(((a - b).norm() / b.norm()).detach())


def eigenvectors(state_size: int) -> tuple[np.ndarray, np.ndarray]:
    """V (N, N), its second half conjugate to the first, and all N eigenvalues, found from Lambda and B alone.

    Column n is the null vector of the normal matrix A + p p^T - Lambda_n, its phase such that v_n^* b = B_n.
    """
    a, b = hippo_legs(state_size)
    p = np.sqrt(np.arange(state_size) + 0.5)
    Lambda, _, B = hippo_legs_dplr(state_size)
    columns = []
    for eigenvalue, projection in zip(Lambda, B, strict=True):
        shifted = a + np.outer(p, p) - eigenvalue * np.eye(state_size)
        null = np.linalg.svd(shifted)[2][-1].conj()
        phase = (null.conj() @ b) / projection
        columns.append(null * phase / abs(phase))
    half = np.stack(columns, axis=1)
    return np.concatenate([half, half.conj()], axis=1), np.concatenate([Lambda, Lambda.conj()])


# ---------------------------------------------------------------------------------------- HiPPO-LegS


def test_hippo_legs_written_out() -> None:
    a, b = hippo_legs(3)
    expected = [[-1, 0, 0], [-np.sqrt(3), -2, 0], [-np.sqrt(5), -np.sqrt(15), -3]]
    np.testing.assert_allclose(a, expected, atol=1e-15)
    np.testing.assert_allclose(b, np.sqrt([1, 3, 5]), atol=1e-15)


@pytest.mark.parametrize("state_size", [2, 8, 16, 64])
def test_diagonal_plus_low_rank_is_hippo_legs(state_size: int) -> None:
    a, b = hippo_legs(state_size)
    _, P, B = hippo_legs_dplr(state_size)
    V, Lambda = eigenvectors(state_size)
    p, projected = np.concatenate([P, P.conj()]), np.concatenate([B, B.conj()])
    np.testing.assert_allclose(V.conj().T @ V, np.eye(state_size), atol=1e-10)
    back = V @ (np.diag(Lambda) - np.outer(p, p.conj())) @ V.conj().T
    np.testing.assert_allclose(back, a, atol=1e-10 * np.abs(a).max())
    np.testing.assert_allclose(V @ projected, b, atol=1e-10 * b.max())


@pytest.mark.parametrize("state_size", [-2, 0, 1, 7])
def test_odd_state_sizes_are_refused(state_size: int) -> None:
    with pytest.raises(ConfigError, match=f"even state size .*got {state_size}"):
        hippo_legs_dplr(state_size)
    with pytest.raises(ConfigError, match="even state size"):
        DiagonalKernel(2, state_size=state_size, length=8)


# ------------------------------------------------------------------------------------- S4, closed form


@pytest.mark.parametrize("state_size", [2, 8, 16, 64])
@pytest.mark.parametrize("length", [33, 64])
def test_kernel_is_that_of_the_dense_real_system(state_size: int, length: int) -> None:
    a, b = hippo_legs(state_size)
    C = np.random.default_rng(1).normal(size=(2, len(STEPS), state_size))
    identity = np.eye(state_size)
    dense = np.empty((2, len(STEPS), length))
    for h, dt in enumerate(STEPS.numpy()):
        d_a = np.linalg.solve(identity - dt / 2 * a, identity + dt / 2 * a)
        state = np.linalg.solve(identity - dt / 2 * a, dt * b)
        for tap in range(length):
            dense[:, h, tap] = C[:, h] @ state
            state = d_a @ state
    V, _ = eigenvectors(state_size)
    C_eigen = torch.from_numpy((C @ V)[..., : state_size // 2])
    d_a, _ = discretize(*system(state_size), STEPS)
    corrected = correct_for_length(C_eigen, d_a, length)
    kernel = contract(corrected, dplr_basis(*system(state_size), STEPS, length=length))
    assert relative(kernel, torch.from_numpy(dense)) < 1e-10


@pytest.mark.parametrize("state_size", [2, 8, 64])
@pytest.mark.parametrize("length", [1, 2, 33, 100])
def test_closed_form_is_the_recurrence(state_size: int, length: int) -> None:
    C = random_C(state_size)
    closed = contract(C, dplr_basis(*system(state_size), STEPS, length=length))
    stepped = dplr_kernel_by_recurrence(C, *system(state_size), STEPS, length=length)
    assert closed.shape == (2, len(STEPS), length)
    assert relative(closed, stepped) < 1e-10


def test_length_correction_is_undone_by_the_recurrence() -> None:
    C = random_C(8)
    d_a, d_b = discretize(*system(8), STEPS)
    corrected = correct_for_length(C, d_a, 40)
    first = dplr_kernel_by_recurrence(corrected, *system(8), STEPS, length=40)[..., 0]
    both = torch.cat([C, C.conj()], dim=-1)
    torch.testing.assert_close(first, torch.einsum("chn,hn->ch", both, d_b).real, rtol=1e-10, atol=0)


def test_basis_is_the_contracted_woodbury_formula() -> None:
    """The published formula with C contracted, (C R B - C R P (P^* R B) / (1 + P^* R P)) 2 / (1 + omega)."""
    length, dt = 32, float(STEPS[1])
    Lambda, P, B = (np.concatenate([part, part.conj()]) for part in hippo_legs_dplr(6))
    half = random_C(6, seed=3)
    C = torch.cat([half, half.conj()], dim=-1)[0, 1].numpy()
    omega = np.exp(-2j * np.pi / length * np.arange(length // 2))
    resolvent = dt / (2 * (1 - omega[:, None]) / (1 + omega[:, None]) - dt * Lambda)
    low_rank = (resolvent @ (C * P)) * (resolvent @ (P.conj() * B)) / (1 + resolvent @ (P.conj() * P))
    expected = 2 / (1 + omega) * (resolvent @ (C * B) - low_rank)
    spectrum = dplr_spectrum(*system(6), STEPS, fourier_nodes(length, like=STEPS))
    parts = torch.cat([half.real, half.imag], dim=-1)[0, 1].to(torch.complex128)
    np.testing.assert_allclose((parts @ spectrum[1]).numpy(), expected, rtol=1e-10)


def test_half_sum_leaves_the_conjugates_out() -> None:
    length, dt = 33, float(STEPS[2])
    Lambda, P, B = hippo_legs_dplr(6)
    half = random_C(6, seed=3)
    C = half[0, 2].numpy()
    omega = np.exp(-2j * np.pi / length * np.arange(length // 2 + 1))
    resolvent = dt / (2 * (1 - omega[:, None]) / (1 + omega[:, None]) - dt * Lambda)
    low_rank = (resolvent @ (C * P)) * (resolvent @ (P.conj() * B)) / (1 + resolvent @ (P.conj() * P))
    expected = np.fft.irfft(2 / (1 + omega) * (resolvent @ (C * B) - low_rank), n=length)
    kernel = contract(half, dplr_basis(*system(6), STEPS, length=length, cauchy="half"))
    np.testing.assert_allclose(kernel[0, 2].numpy(), expected, rtol=1e-9, atol=1e-12)
    full = contract(half, dplr_basis(*system(6), STEPS, length=length))
    assert relative(kernel, full) > 0.3


@pytest.mark.parametrize("cauchy", ["full", "half"])
def test_nyquist_bin_is_the_limit_of_the_nodes_before_it(cauchy: Any) -> None:
    almost = torch.tensor([2j * np.tan(np.pi / 2 - 1e-8)], dtype=torch.complex128)
    near = dplr_spectrum(*system(8), STEPS, almost, cauchy=cauchy)[:, :, 0]
    basis = dplr_basis(*system(8), STEPS, length=16, cauchy=cauchy)
    at = torch.fft.rfft(basis)[:, :, -1]
    # The real inverse transform keeps the real part of the Nyquist bin only, here as in the original.
    torch.testing.assert_close(at.real, near.real, rtol=1e-5, atol=1e-9)


# ------------------------------------------------------------------------------------ S4, the module


def recurrence_of(kernel: DplrKernel) -> Tensor:
    parts = [torch.view_as_complex(value.double()) for value in (kernel.C, kernel.Lambda, kernel.P, kernel.B)]
    return dplr_kernel_by_recurrence(*parts, kernel.log_dt.double().exp(), length=kernel.length)


@pytest.mark.parametrize("features", [3, 65])  # 65 is more than is computed at once
@pytest.mark.parametrize("length", [20, 21])
def test_module_is_the_recurrence_and_a_cut_kernel_its_beginning(features: int, length: int) -> None:
    kernel = DplrKernel(features, state_size=8, length=length).double()
    stepped = recurrence_of(kernel)
    assert relative(kernel(length), stepped) < 1e-10
    for shorter in (1, 7, length - 1):
        assert relative(kernel(shorter), stepped[..., :shorter]) < 1e-10


def test_float32_kernel_is_close_to_the_exact_one() -> None:
    torch.manual_seed(0)
    kernel = DplrKernel(16, state_size=64, length=1000)
    single = kernel(1000).double()
    assert relative(single, kernel.double()(1000)) < 1e-6


def test_frozen_basis_is_linear_in_C() -> None:
    kernel = DplrKernel(3, state_size=8, length=20).double()
    first, second = (torch.randn_like(kernel.C) for _ in range(2))

    def kernel_of(C: Tensor) -> Tensor:
        return torch.func.functional_call(kernel, {"C": C}, (20,))

    both = kernel_of(2 * first - 3 * second)
    torch.testing.assert_close(both, 2 * kernel_of(first) - 3 * kernel_of(second), rtol=1e-12, atol=1e-12)
    for C in (first, second):
        with torch.no_grad():
            kernel.C.copy_(C)
        assert relative(kernel_of(C), recurrence_of(kernel)) < 1e-10


def test_basis_follows_what_is_loaded() -> None:
    kernel, other = (DplrKernel(3, state_size=8, length=20) for _ in range(2))
    before = kernel(20)
    kernel.load_state_dict(other.state_dict())
    assert not torch.equal(kernel(20), before)
    assert torch.equal(kernel(20), other(20))
    assert kernel.double()(20).dtype == torch.float64


def test_only_C_is_trained() -> None:
    kernel = DplrKernel(3, state_size=8, length=20)
    assert [name for name, _ in kernel.named_parameters()] == ["C"]
    assert set(kernel.state_dict()) == {"C", "log_dt", "Lambda", "P", "B"}


@pytest.mark.parametrize("cauchy", ["full", "half"])
def test_gradient_of_the_kernel_by_finite_differences(cauchy: Any) -> None:
    kernel = DplrKernel(2, state_size=4, length=9, cauchy=cauchy).double()
    C = kernel.C.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda C: torch.func.functional_call(kernel, {"C": C}, (7,)), (C,))


def test_longer_records_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 20 samples.*got 21"):
        DplrKernel(3, state_size=8, length=20)(21)


# ---------------------------------------------------------------------------------------------- S4D


@pytest.mark.parametrize("state_size", [2, 16])
def test_diagonal_kernel_is_its_recurrence(state_size: int) -> None:
    kernel = DiagonalKernel(3, state_size=state_size, length=50).double()
    assert relative(kernel(50), kernel.by_recurrence(50)) < 1e-10
    torch.testing.assert_close(kernel(20), kernel(50)[..., :20], rtol=1e-12, atol=1e-12)


def test_diagonal_kernel_is_the_impulse_response_of_a_hold() -> None:
    """K_l is the integral of 2 Re C exp(A t) over the l-th step, here by the trapezoidal rule."""
    kernel = DiagonalKernel(1, state_size=4, length=10).double()
    dt = float(kernel.log_dt.detach().exp())
    C = torch.view_as_complex(kernel.C.detach())[:, 0].numpy()
    A = -0.5 + 1j * np.pi * np.arange(2)
    t = np.linspace(0, 10 * dt, 100_001)
    response = 2 * (C[:, :, None] * np.exp(A[:, None] * t)).sum(1).real
    steps = np.stack([np.trapezoid(response[:, i * 10_000 : (i + 1) * 10_000 + 1], dx=t[1]) for i in range(10)], 1)
    np.testing.assert_allclose(kernel(10)[:, 0].detach().numpy(), steps, rtol=1e-5, atol=1e-8)


def test_gradient_of_the_diagonal_kernel_by_finite_differences() -> None:
    kernel = DiagonalKernel(2, state_size=4, length=6).double()
    names, values = zip(*kernel.named_parameters(), strict=True)
    assert set(names) == {"log_dt", "log_decay", "frequency", "C"}

    def kernel_of(*parameters: Tensor) -> Tensor:
        return torch.func.functional_call(kernel, dict(zip(names, parameters, strict=True)), (6,))

    assert torch.autograd.gradcheck(kernel_of, tuple(value.detach().requires_grad_() for value in values))


# -------------------------------------------------------------------------------------- convolution


def operands(length: int, *, features: int = 2, batch: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(length)
    shapes = ((batch, features, length), (2, features, length), (features,))
    u, kernels, D = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes)
    return u, kernels, D


@given(length=st.integers(1, 40), room=st.integers(-1, 7))
@settings(max_examples=60, deadline=None)
def test_fft_convolution_is_the_sum_over_taps(length: int, room: int) -> None:
    u, kernels, D = operands(length)
    fft_length = max(2 * length + room, 1)  # from the shortest that does not wrap around
    fast = convolve(u, two_sided_kernel(kernels, D, fft_length=fft_length))
    torch.testing.assert_close(fast, convolve_directly(u, kernels, D), rtol=1e-10, atol=1e-10)


def test_both_directions_written_out() -> None:
    u = torch.tensor([[[1.0, 2.0, 4.0]]], dtype=torch.float64)
    kernels = torch.tensor([[[1.0, 10.0, 100.0]], [[3.0, 5.0, 7.0]]], dtype=torch.float64)
    D = torch.tensor([0.5], dtype=torch.float64)
    expected = [1.5 + 3 * 2 + 5 * 4, 1.5 * 2 + 10 * 1 + 3 * 4, 1.5 * 4 + 10 * 2 + 100 * 1]
    got = convolve(u, two_sided_kernel(kernels, D, fft_length=6))
    np.testing.assert_allclose(got[0, 0].numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("fft_length", [9, 10, 13])
def test_gradients_of_the_convolution_by_finite_differences(fft_length: int) -> None:
    u, kernels, D = (value.requires_grad_() for value in operands(5))

    def convolved(u: Tensor, kernels: Tensor, D: Tensor) -> Tensor:
        return convolve(u, two_sided_kernel(kernels, D, fft_length=fft_length))

    assert torch.autograd.gradcheck(convolved, (u, kernels, D))
    kernel = torch.randn(2, fft_length, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(convolve, (u, kernel))


def test_a_second_derivative_is_refused_instead_of_wrong() -> None:
    u, kernels, D = (value.requires_grad_() for value in operands(5))
    y = convolve(u, two_sided_kernel(kernels, D, fft_length=10))
    (gradient,) = torch.autograd.grad(y.square().sum(), u, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.square().sum().backward()


# --------------------------------------------------------------------------------------------- layer


@pytest.mark.parametrize("kernel", ["s4", "s4d"])
def test_layer_is_its_formula(kernel: Any) -> None:
    layer = S4Layer(6, state_size=4, length=16, kernel=kernel).double()
    nn.init.normal_(layer.norm.weight)
    x = torch.randn(2, 16, 6, dtype=torch.float64)
    y = convolve_directly(x.transpose(1, 2), layer.kernel(16), layer.D).transpose(1, 2)
    y = 0.5 * y * (1 + torch.erf(y / 2**0.5)) @ layer.output.weight.T + layer.output.bias + x
    y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(layer(x), y * layer.norm.weight + layer.norm.bias, rtol=1e-10, atol=1e-10)


def test_long_convolution_stays_in_float32_under_autocast() -> None:
    layer = S4Layer(6, state_size=4, length=16)
    seen: list[torch.dtype] = []
    layer.kernel.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    x = torch.randn(2, 16, 6)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(x.bfloat16())
        mixed.float().sum().backward()
    assert seen == [torch.float32]
    assert layer.D.grad is not None and layer.D.grad.dtype == torch.float32
    assert relative(mixed.float(), layer(x)) < 0.02


@pytest.fixture
def counted_layers() -> tuple[nn.Sequential, list[int]]:
    """Two S4 layers and the record lengths their kernels were computed for."""
    layers = nn.Sequential(*(S4Layer(6, state_size=4, length=16) for _ in range(2)))
    computed: list[int] = []
    for layer in layers:
        layer.kernel.register_forward_hook(lambda module, args, output: computed.append(args[0]))
    return layers, computed


@torch.no_grad()
def test_kept_kernels_give_the_same_and_are_computed_once(counted_layers: tuple[nn.Sequential, list[int]]) -> None:
    layers, computed = counted_layers
    x = torch.randn(3, 16, 6)
    expected, shorter = layers(x), layers(x[:, :9])
    computed.clear()
    with kernels_kept(layers):
        for _ in range(3):
            torch.testing.assert_close(layers(x), expected)
        assert computed == [16, 16]  # once for each of the two layers
        for _ in range(2):
            torch.testing.assert_close(layers(x[:, :9]), shorter)
        assert computed == [16, 16, 9, 9]
    layers(x)
    assert computed == [16, 16, 9, 9, 16, 16]


@torch.no_grad()
def test_kept_kernels_are_forgotten_afterwards(counted_layers: tuple[nn.Sequential, list[int]]) -> None:
    layers, _ = counted_layers
    x = torch.randn(1, 16, 6)
    with pytest.raises(KeyboardInterrupt), kernels_kept(layers):
        before = layers(x)
        layers[0].kernel.C.mul_(2)
        assert torch.equal(layers(x), before)
        raise KeyboardInterrupt
    after = layers(x)
    assert not torch.equal(after, before)
    with kernels_kept(layers):
        torch.testing.assert_close(layers(x), after)
