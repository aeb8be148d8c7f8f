"""Our SSSD-ECG against arrays made with the original: kernels, layers, blocks, network and a whole sampling run.

Agreement is the L2 norm of the difference over that of the output. "full" and "half" are the two Cauchy sums the
original knows (see checkpoints.original).
"""

import copy
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ecgforge.checkpoints.original import network_from_original
from ecgforge.diffusion.denoiser import eps_denoiser
from ecgforge.diffusion.samplers import ddpm
from ecgforge.diffusion.schedule import LinearSchedule, NoiseLevel
from ecgforge.models.kernel_basis import CauchySum, dplr_spectrum
from ecgforge.models.s4 import kernels_kept
from ecgforge.models.sssd import SssdEcg

Arrays = dict[str, np.ndarray]
Parity = Callable[[str], Arrays]
Import = Callable[..., SssdEcg]

TOLERANCE = 1e-4
NETWORKS = ("sssd_ecg_a", "sssd_ecg_b", "sssd_ecg_c")
SUFFIX = {"full": "", "half": "_half_sum"}
KERNEL = "residual_layer.residual_blocks.0.S41.s4_layer.kernel.kernel"

both_sums = pytest.mark.parametrize("cauchy", SUFFIX)
each_network = pytest.mark.parametrize("name", NETWORKS)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def original_weights(arrays: Arrays) -> dict[str, Tensor]:
    prefix = "weight/"
    return {
        key.removeprefix(prefix): torch.from_numpy(value) for key, value in arrays.items() if key.startswith(prefix)
    }


def inputs(arrays: Arrays, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    x, step, condition = (torch.from_numpy(arrays[key]).to(dtype) for key in ("x", "step", "condition"))
    return x, step, condition


def distance(ours: Tensor, theirs: np.ndarray) -> float:
    difference = ours.detach().double().numpy() - theirs
    return float(np.linalg.norm(difference) / np.linalg.norm(theirs))


@pytest.fixture(scope="module")
def imported(parity: Parity) -> Import:
    """The network of an archive by name, sum and number format; each is translated once."""
    translated = cache(lambda name, cauchy: network_from_original(original_weights(parity(name)), cauchy=cauchy))

    @cache
    def load(name: str, cauchy: CauchySum = "full", dtype: torch.dtype = torch.float32) -> SssdEcg:
        return copy.deepcopy(translated(name, cauchy)).to(dtype)

    return load


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


# -------------------------------------------------------------------------------------------- kernels


@each_network
@both_sums
def test_kernel_at_the_originals_own_nodes(parity: Parity, imported: Import, name: str, cauchy: Any) -> None:
    """The original stores its Fourier nodes rounded to float32; there our formula gives its kernel."""
    arrays = parity(name)
    weights = original_weights(arrays)
    kernel = imported(name, cauchy).blocks[0].s4_first.kernel
    system = [torch.view_as_complex(part.double()) for part in (kernel.Lambda, kernel.P, kernel.B)]
    nodes = torch.view_as_complex(weights[f"{KERNEL}.z"].double())
    assert len(nodes) == kernel.length // 2 + 1  # the Nyquist node, infinite in truth, is a large number here
    spectrum = dplr_spectrum(*system, kernel.log_dt.double().exp(), nodes, cauchy=cauchy)
    basis = torch.fft.irfft(spectrum, n=kernel.length)
    C = torch.cat([kernel.C[..., 0], kernel.C[..., 1]], dim=-1).double()
    published = arrays["kernel_block0_s4a" + SUFFIX[cauchy]]
    assert distance(torch.einsum("chn,hnl->chl", C, basis), published) < 1e-5


@each_network
@both_sums
def test_kernel_at_exact_nodes(parity: Parity, imported: Import, name: str, cauchy: Any) -> None:
    """At the exact nodes it differs from the original's by the rounding of those nodes, and by no more."""
    arrays = parity(name)
    network = imported(name, cauchy)
    kernel = network.blocks[0].s4_first.kernel(network.config.length)
    assert distance(kernel, arrays["kernel_block0_s4a" + SUFFIX[cauchy]]) < 2.5 * TOLERANCE


@each_network
def test_the_two_sums_are_two_kernels(parity: Parity, imported: Import, name: str) -> None:
    arrays = parity(name)
    full, half = (imported(name, cauchy).blocks[0].s4_first.kernel for cauchy in SUFFIX)
    assert distance(half(half.length), full(full.length).numpy()) > 0.4
    assert distance(half(half.length), arrays["kernel_block0_s4a"]) > 0.4


# ---------------------------------------------------------------------------------- layers and blocks


@each_network
@each_dtype
def test_s4_layer(parity: Parity, imported: Import, name: str, dtype: torch.dtype) -> None:
    arrays = parity(name)
    network = imported(name, dtype=dtype)
    x = torch.from_numpy(arrays["block0_s4a_in"]).to(dtype)
    y = network.blocks[0].s4_first(x.transpose(1, 2)).transpose(1, 2)
    assert distance(y, arrays["block0_s4a_out"]) < TOLERANCE


def inner_outputs(network: SssdEcg, *args: Tensor) -> dict[str, Tensor]:
    """What flows into the first S4 layer and out of every block during one call, (B, C, L)."""
    found: dict[str, Tensor] = {}

    def keep_input(module: object, inputs: tuple[Tensor]) -> None:
        found["block0_s4a_in"] = inputs[0].transpose(1, 2)

    hooks = [network.blocks[0].s4_first.register_forward_pre_hook(keep_input)]
    for number, block in enumerate(network.blocks):

        def keep(module: object, inputs: object, output: tuple[Tensor, Tensor], number: int = number) -> None:
            found[f"block{number}_residual"], found[f"block{number}_skip"] = (y.transpose(1, 2) for y in output)

        hooks.append(block.register_forward_hook(keep))
    network(*args)
    for hook in hooks:
        hook.remove()
    return found


@each_network
@each_dtype
def test_residual_and_skip_of_each_block(parity: Parity, imported: Import, name: str, dtype: torch.dtype) -> None:
    arrays = parity(name)
    network = imported(name, dtype=dtype)
    found = inner_outputs(network, *inputs(arrays, dtype))
    assert len(found) == 1 + 2 * network.config.layers
    for key, value in found.items():
        assert distance(value, arrays[key]) < TOLERANCE, key


# -------------------------------------------------------------------------------------- whole network


@each_network
@both_sums
@each_dtype
def test_network(parity: Parity, imported: Import, name: str, cauchy: Any, dtype: torch.dtype) -> None:
    arrays = parity(name)
    network = imported(name, cauchy, dtype)
    y = network(*inputs(arrays, dtype))
    assert y.dtype == dtype
    assert distance(y, arrays["output" + SUFFIX[cauchy]]) < TOLERANCE
    other = "half" if cauchy == "full" else "full"
    assert distance(y, arrays["output" + SUFFIX[other]]) > 0.03


# ----------------------------------------------------------------------------------- schedule, sampling


def test_alpha_bar_of_the_schedule(parity: Parity) -> None:
    arrays = parity("ddpm_200_steps_with_sssd_ecg_b")
    np.testing.assert_allclose(LinearSchedule().alpha_bar, arrays["alpha_bar"], rtol=1e-5)


@each_dtype
def test_ancestral_sampling_with_given_noise(parity: Parity, imported: Import, dtype: torch.dtype) -> None:
    arrays = parity("ddpm_200_steps_with_sssd_ecg_b")
    network = imported("sssd_ecg_b", dtype=dtype)
    denoise_b = eps_denoiser(network, torch.from_numpy(arrays["condition"]).to(dtype))
    x_before: dict[int, Tensor] = {}

    def denoise(x: Tensor, level: NoiseLevel) -> Tensor:
        x_before[int(level.step)] = x
        return denoise_b(x, level)

    given = iter(torch.from_numpy(arrays["noise"][:0:-1].copy()).to(dtype))  # noise[199] first, noise[0] never
    x_T = torch.from_numpy(arrays["x_T"]).to(dtype)
    with kernels_kept(network):
        x_0 = ddpm(denoise, x_T, LinearSchedule().levels(), noise=lambda: next(given))
    assert next(given, None) is None
    for step in (150, 100, 50):
        assert distance(x_before[step - 1], arrays[f"x_after_step_{step}"]) < TOLERANCE, step
    assert distance(x_0, arrays["x_0"]) < TOLERANCE
