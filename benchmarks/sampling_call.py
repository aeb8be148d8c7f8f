"""How much faster is one network call of SSSD-ECG when all that does not depend on x is computed once?

    python benchmarks/sampling_call.py [--size small|12x128|papers] [--layers N] [--batch B] [--rounds R]

Five ways to the same output, in turn within each round, on as many threads as torch is given (OMP_NUM_THREADS):

    naive    the network in plain PyTorch, its S4 kernels through the Cauchy form at every call
    kept     the network, its kernels' spectra kept (kernels_kept), record by record
    plain    FoldedSssd in plain PyTorch
    native   FoldedSssd with native kernels, where there is a compiler
    bfloat16 the same with the operands of its matrix products in bfloat16: slow where the processor has no
             instructions for that, which is said

Prints median seconds a call, the median over rounds of how often the way fits into the naive one (smallest to largest),
the L2 distance to the naive output, and the share of the measured peak of matrix products that the dense work reaches
(a way that needs fewer products counts as if it made all). All sizes have random weights; "papers" is 36 blocks of 256
channels, --layers takes fewer blocks.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from measuring import print_table, product_peak, ratio, seconds
from networks import SIZES, compute_kernels_naively, dense_flop, make_network, without_native_kernels
from torch import Tensor

from ecgforge.models.folded import FoldedSssd
from ecgforge.models.s4 import kernels_kept
from ecgforge.models.sssd import SssdEcg

Call = Callable[[Tensor, Tensor, Tensor], Tensor]


def record_by_record(network: SssdEcg) -> Call:
    """As the generator calls a network on a CPU, with kept spectra."""

    def call(x: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        rows = [network(x[i : i + 1], level[i : i + 1], condition[i : i + 1]) for i in range(len(x))]
        return torch.cat(rows)

    return call


def report(times: dict[str, list[float]], outputs: dict[str, Tensor], *, flop: float, peak: float) -> None:
    """One row a way."""
    exact, rows = outputs["naive"].double(), []
    for name, taken in times.items():
        error = float((outputs[name].double() - exact).norm() / exact.norm())
        share = flop / np.median(taken) / peak
        rows.append(
            [name, f"{np.median(taken):.4f}", ratio(times["naive"], taken), f"{error:.0e}", f"{100 * share:.0f} %"]
        )
    print_table(("way", "s per call", "against naive", "error", "of the peak"), rows)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    network = make_network(arguments.size, layers=arguments.layers).eval()
    layers, config = len(network.blocks), network.config
    ways: dict[str, Call] = {"plain": FoldedSssd(network, native=False)}
    fast = FoldedSssd(network)
    if fast.absent is None:
        ways["native"] = fast
        ways["bfloat16"] = FoldedSssd(network, products=torch.bfloat16)
    else:
        print(f"no native kernels: {fast.absent.reason}")
    compute_kernels_naively(network)
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
        with without_native_kernels():
            times["naive"].append(seconds(lambda: outputs.update(naive=network(x, level, condition))))
        with kernels_kept(network):
            measure("kept", kept)
        for name, call in ways.items():
            measure(name, call)
        peak = max(peak, product_peak())
    print(
        f"Network call: {layers} blocks of {config.residual_channels} channels, N = {config.state_size}, "
        f"{config.length} samples, batch {arguments.batch}, {arguments.rounds} rounds, {torch.get_num_threads()} "
        f"threads, products {peak / 1e9:.0f} GFLOP/s.\n"
    )
    report(times, outputs, flop=arguments.batch * dense_flop(config, layers=layers), peak=peak)


if __name__ == "__main__":
    main()
