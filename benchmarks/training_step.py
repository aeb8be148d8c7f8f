"""How much faster, and from how much less memory, is a training step of SSSD-ECG whose kernels are linear in C?

    python benchmarks/training_step.py [--size papers|12x128|small] [--layers N] [--batch B] [--rounds R]

Ways, in turn within each round, on as many threads as torch is given (OMP_NUM_THREADS):

    naive          the same network, its S4 kernels through the Cauchy form at every step, as the original computes them
    plain          kernels from coordinates in functions shared by all layers, or from each layer's own functions where
                   that is smaller
    native         the same, the long convolutions by native kernels, where there is a compiler
    checkpointed   native, blocks computed again in the backward pass (gradient_checkpointing)

A step is loss, gradients and Adam. Prints median seconds a step, records per second, the median over rounds of how
often the way fits into the naive one, error of loss and gradients against the naive way at the first step (relative L2
norm, median and largest over the parameters), the share of the measured peak of matrix products that the dense work
reaches, and the peak memory of a process that takes two steps. The time to compute the functions once, before the first
step, is printed apart. --layers takes fewer blocks; the naive way at the papers' size needs about 20 GB.
"""

import argparse
import copy
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from measuring import peak_of, print_table, product_peak, ratio, seconds
from networks import SIZES, compute_kernels_naively, dense_flop, make_network, without_native_kernels
from torch import Tensor

from ecgforge.models.s4 import DplrKernel
from ecgforge.models.sssd import SssdEcg

WAYS = ("naive", "plain", "native", "checkpointed")
WITHOUT_NATIVE = ("naive", "plain")
Batch = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass
class Trainee:
    """A network with its optimiser and its way."""

    network: SssdEcg
    optimizer: torch.optim.Optimizer
    way: str

    def gradients(self, batch: Batch) -> float:
        """Loss, gradients left in the parameters."""
        x, level, condition, eps = batch
        self.optimizer.zero_grad()
        with without_native_kernels() if self.way in WITHOUT_NATIVE else nullcontext():
            loss = (self.network(x, level, condition) - eps).square().mean()
            loss.backward()
        return float(loss.detach())

    def step(self, batch: Batch) -> None:
        """One training step."""
        self.gradients(batch)
        self.optimizer.step()


def make_batch(network: SssdEcg, size: int) -> Batch:
    """Noise in place of records, which costs the same."""
    config, generator = network.config, torch.Generator().manual_seed(1)
    x, eps = torch.randn(2, size, config.leads, config.length, generator=generator)
    condition = (torch.rand(size, config.labels, generator=generator) < 0.05).float()
    return x, torch.linspace(0, 199, size).round(), condition, eps


def prepare(network: SssdEcg, way: str) -> Trainee:
    """The network made to train in this way."""
    if way == "naive":
        compute_kernels_naively(network)
    network.gradient_checkpointing = way == "checkpointed"
    return Trainee(network, torch.optim.Adam(network.parameters(), lr=1e-6, fused=True), way)


def two_steps(size: str, layers: int | None, batch_size: int, way: str) -> None:
    """What memory is measured of."""
    trainee = prepare(make_network(size, layers=layers), way)
    batch = make_batch(trainee.network, batch_size)
    trainee.step(batch)
    trainee.step(batch)


def compute_bases(network: SssdEcg) -> None:
    """What every layer keeps from the first step on."""
    for module in network.modules():
        if isinstance(module, DplrKernel):
            module.basis()


def gradients_by_name(network: SssdEcg) -> dict[str, Tensor]:
    """Copies, by the parameter's name in the network as it is."""
    return {
        name.replace("kernel.kernel.", "kernel."): parameter.grad.double()
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }


def errors(found: dict[str, Tensor], exact: dict[str, Tensor]) -> np.ndarray:
    """Relative L2 distance of every parameter's gradient."""
    return np.array([float((found[name] - exact[name]).norm() / exact[name].norm()) for name in exact])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)  # as in training
    network = make_network(arguments.size, layers=arguments.layers)
    batch = make_batch(network, arguments.batch)
    trainees = {way: prepare(copy.deepcopy(network), way) for way in WAYS}
    once = {way: seconds(partial(compute_bases, trainees[way].network)) for way in WAYS[1:]}
    losses = {way: trainee.gradients(batch) for way, trainee in trainees.items()}
    exact = gradients_by_name(trainees["naive"].network)
    wrong = {way: errors(gradients_by_name(trainee.network), exact) for way, trainee in trainees.items()}
    del exact
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    peak = product_peak()
    for _ in range(arguments.rounds):
        for way, trainee in trainees.items():
            times[way].append(seconds(lambda trainee=trainee: trainee.step(batch)))
        peak = max(peak, product_peak())
    del trainees
    layers, config = len(network.blocks), network.config
    flop = 3 * arguments.batch * dense_flop(config, layers=layers)
    print(
        f"Training step: {layers} blocks of {config.residual_channels} channels, N = {config.state_size}, "
        f"{config.length} samples, batch {arguments.batch}, {arguments.rounds} rounds, {torch.get_num_threads()} "
        f"threads, products {peak / 1e9:.0f} GFLOP/s. Once before the first step: {once['plain']:.1f} s.\n"
    )
    header = ("way", "s per step", "records/s", "against naive", "of the peak")
    rows = []
    for way in WAYS:
        taken = float(np.median(times[way]))
        rows.append(
            [
                way,
                f"{taken:.3f}",
                f"{arguments.batch / taken:.2f}",
                ratio(times["naive"], times[way]),
                f"{100 * flop / taken / peak:.0f} %",
                f"{abs(losses[way] / losses['naive'] - 1):.0e}",
                f"{np.median(wrong[way]):.0e}, {wrong[way].max():.0e}",
                f"{peak_of(two_steps, arguments.size, arguments.layers, arguments.batch, way):.0f}",
            ]
        )
    print_table((*header, "loss error", "gradient error", "peak MB"), rows)


if __name__ == "__main__":
    main()
