"""The networks that are measured, and their straightforward formulation."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from ecgforge.models.kernel_basis import fourier_nodes
from ecgforge.models.s4 import DplrKernel, S4Layer
from ecgforge.models.sssd import SssdConfig, SssdEcg

SIZES = {
    "papers": SssdConfig(),
    "12x128": SssdConfig(layers=12, residual_channels=128, skip_channels=128),
    "small": SssdConfig(
        layers=6,
        residual_channels=64,
        skip_channels=64,
        step_hidden=256,
        step_out=256,
        label_features=64,
        state_size=16,
    ),
}


class CauchyKernel(nn.Module):
    """The kernels of a DplrKernel as the papers write them: sums of v / (z - w) over the states at every node."""

    def __init__(self, kernel: DplrKernel) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, length: int) -> Tensor:
        """Both kernels, (2, H, length), float32."""
        kernel = self.kernel
        dt = kernel.log_dt.exp()[:, None]
        Lambda, P, B, C = (torch.view_as_complex(part) for part in (kernel.Lambda, kernel.P, kernel.B, kernel.C))
        z = fourier_nodes(kernel.length, like=dt)
        w = dt * Lambda
        below, below_conj = z - w[:, :, None], z - w.conj()[:, :, None]

        def cauchy(v: Tensor) -> Tensor:
            v = dt * v
            found = (v[:, :, None] / below).sum(1)
            return found + (v.conj()[:, :, None] / below_conj).sum(1) if kernel.cauchy == "full" else found

        f = cauchy(B * P.conj()) / (1 + cauchy(P * P.conj()))
        spectrum = torch.stack([cauchy(c * B) - cauchy(c * P) * f for c in C]) * (1 + z / 2)
        if kernel.length % 2 == 0:
            limit = (dt * C * B).sum(2, keepdim=True).real * (1.0 if kernel.cauchy == "full" else 0.5)
            spectrum = torch.cat([spectrum, limit.to(spectrum.dtype)], dim=2)
        return torch.fft.irfft(spectrum, n=kernel.length)[..., :length]


def make_network(size: str, *, layers: int | None = None) -> SssdEcg:
    """A network of one of the SIZES with random weights, the last layer's as well, and with fewer blocks if wanted."""
    config = SIZES[size]
    torch.manual_seed(0)
    network = SssdEcg(replace(config, layers=layers or config.layers))
    nn.init.normal_(network.output.weight, std=0.05)
    return network


def compute_kernels_naively(network: SssdEcg) -> None:
    """From now on every call of the network computes its kernels through the Cauchy form."""
    for layer in network.modules():
        if isinstance(layer, S4Layer) and isinstance(layer.kernel, DplrKernel):
            layer.kernel = CauchyKernel(layer.kernel)  # type: ignore[assignment]


@contextmanager
def without_native_kernels() -> Iterator[None]:
    """Within the context plain PyTorch computes everything, as it does where there is no compiler."""
    before = os.environ.get("ECGFORGE_NATIVE", "1")
    os.environ["ECGFORGE_NATIVE"] = "0"
    try:
        yield
    finally:
        os.environ["ECGFORGE_NATIVE"] = before


def dense_flop(config: SssdConfig, *, layers: int) -> float:
    """Floating-point operations of the dense products of one record; a multiplication with its addition is two."""
    narrow, wide, skip = config.residual_channels, 2 * config.residual_channels, config.skip_channels
    block = 3 * narrow * wide + 2 * wide * wide + narrow * (narrow + skip)
    return 2 * config.length * (layers * block + config.leads * (narrow + skip) + skip * skip)
