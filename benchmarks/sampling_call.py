"""How much faster is one network call of SSSD-ECG when all that does not depend on x is computed once?

    python benchmarks/sampling_call.py [--size small|papers] [--layers N] [--batch B] [--rounds R]

Four ways to the same output, in turn within each round, on as many threads as torch is given (OMP_NUM_THREADS):

    naive    the network, its S4 kernels through the Cauchy form at every call
    kept     the network, its kernels' spectra kept (kernels_kept), record by record
    plain    FoldedSssd in plain PyTorch
    native   FoldedSssd with native kernels, where there is a compiler

Prints median seconds a call, the median over rounds of how often the way fits into the naive one (smallest to largest),
the L2 distance to the naive output, and the share of the measured peak of matrix products that the dense work reaches
(a way that needs fewer products counts as if it made all). "small" is the default model, "papers" 36 blocks of 256
channels with random weights; --layers takes fewer blocks.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from ecgforge.checkpoints.native import load_model
from ecgforge.generate import DEFAULT_MODEL
from ecgforge.models.folded import FoldedSssd
from ecgforge.models.s4 import DplrKernel, S4Layer, fourier_nodes, kernels_kept
from ecgforge.models.sssd import SssdConfig, SssdEcg

Call = Callable[[Tensor, Tensor, Tensor], Tensor]


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


def make_network(size: str, layers: int | None) -> SssdEcg:
    """The default model, or one of the papers' size with a random output layer."""
    if size == "small":
        network = load_model(DEFAULT_MODEL).network
        if not isinstance(network, SssdEcg):
            raise TypeError(f"expected the default model to be SSSD-ECG, got {type(network).__name__}")
        del network.blocks[layers or len(network.blocks) :]
        return network
    torch.manual_seed(0)
    config = SssdConfig()
    network = SssdEcg(replace(config, layers=layers or config.layers)).eval()
    nn.init.normal_(network.output.weight, std=0.05)
    return network


def dense_flop(config: SssdConfig, *, layers: int) -> float:
    """Floating-point operations of the dense products of one record; a multiplication with its addition is two."""
    narrow, wide, skip = config.residual_channels, 2 * config.residual_channels, config.skip_channels
    block = 3 * narrow * wide + 2 * wide * wide + narrow * (narrow + skip)
    return 2 * config.length * (layers * block + config.leads * (narrow + skip) + skip * skip)


def product_peak() -> float:
    """Best seen FLOP/s of a matrix product of the papers' S4 layer."""
    a, b, c = torch.randn(1000, 512), torch.randn(512, 512), torch.empty(1000, 512)
    return 2 * 1000 * 512 * 512 / min(seconds(lambda: torch.mm(a, b, out=c)) for _ in range(30))


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one go."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def record_by_record(network: SssdEcg) -> Call:
    """As the generator calls a network on a CPU, with kept spectra."""

    def call(x: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        rows = [network(x[i : i + 1], level[i : i + 1], condition[i : i + 1]) for i in range(len(x))]
        return torch.cat(rows)

    return call


def report(times: dict[str, list[float]], outputs: dict[str, Tensor], *, flop: float, peak: float) -> None:
    """One line a way."""
    naive, exact = np.array(times["naive"]), outputs["naive"].double()
    for name, taken in times.items():
        ratios = naive / np.array(taken)
        error = float((outputs[name].double() - exact).norm() / exact.norm())
        share = flop / np.median(taken) / peak
        print(
            f"{name:7s} {np.median(taken):9.4f} s   x{np.median(ratios):6.1f} [{ratios.min():.1f}..{ratios.max():.1f}]"
            f"   error {error:.1e}   {100 * share:3.0f} % of the peak"
        )


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["small", "papers"], default="small")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    network = make_network(arguments.size, arguments.layers)
    layers, config = len(network.blocks), network.config
    ways: dict[str, Call] = {"plain": FoldedSssd(network, native=False)}
    fast = FoldedSssd(network)
    if fast.absent is None:
        ways["native"] = fast
    else:
        print(f"no native kernels: {fast.absent.reason}")
    for layer in network.modules():
        if isinstance(layer, S4Layer) and isinstance(layer.kernel, DplrKernel):
            layer.kernel = CauchyKernel(layer.kernel)  # type: ignore[assignment]
    x = torch.randn(arguments.batch, config.leads, config.length)
    level, condition = torch.full((arguments.batch,), 100.0), torch.zeros(arguments.batch, config.labels)
    condition[:, :2] = 1.0
    times: dict[str, list[float]] = {name: [] for name in ("naive", "kept", *ways)}
    outputs: dict[str, Tensor] = {}
    kept = record_by_record(network)

    def measure(name: str, call: Call) -> None:
        call(x[:1], level[:1], condition[:1])  # fills what is kept
        times[name].append(seconds(lambda: outputs.update({name: call(x, level, condition)})))

    peak = product_peak()
    for _ in range(arguments.rounds):
        times["naive"].append(seconds(lambda: outputs.update(naive=network(x, level, condition))))
        with kernels_kept(network):
            measure("kept", kept)
        for name, call in ways.items():
            measure(name, call)
        peak = max(peak, product_peak())
    print(
        f"{layers} blocks of {config.residual_channels} channels, batch {arguments.batch}, {arguments.rounds} rounds, "
        f"{torch.get_num_threads()} threads, products {peak / 1e9:.0f} GFLOP/s"
    )
    report(times, outputs, flop=arguments.batch * dense_flop(config, layers=layers), peak=peak)


if __name__ == "__main__":
    main()
