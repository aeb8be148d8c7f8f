"""What does a network call cost for longer records and higher rates?

    python benchmarks/length.py [--size small|12x128|papers] [--layers N] [--rounds R] [LENGTH@RATE ...]

The same weights, made for 1,000 samples at 100 Hz, are resampled (SssdEcg.resampled) to each length and rate and called
through FoldedSssd for one record, all in turn within each round, on as many threads as torch is given. Prints median
seconds a call, the median over rounds of the cost against the first row, the same a sample, what L log L would give,
and the peak memory of a process that folds the network and calls it once. Default: 1,000 to 30,000 samples.

A rate changes the step dt of the kernels and costs nothing by itself. The convolutions of three samples do not follow
it, so this is about cost: a network for 500 Hz has to be trained there, if from these weights.
"""

import argparse
import math
from dataclasses import dataclass

import numpy as np
import torch
from measuring import peak_of, print_table, ratio, seconds
from networks import SIZES, make_network

from ecgforge.models.folded import FoldedSssd
from ecgforge.models.sssd import SssdEcg

RATE = 100
DEFAULT = ("1000@100", "2000@100", "5000@100", "5000@500", "10000@100", "30000@100", "30000@500")


@dataclass(frozen=True)
class Extent:
    """Length and rate of a record.

    Attributes:
        samples: L.
        rate: Hz.
    """

    samples: int
    rate: float


def extent(text: str) -> Extent:
    """From "5000@500"."""
    samples, rate = text.split("@")
    return Extent(int(samples), float(rate))


def fold(network: SssdEcg, wanted: Extent) -> FoldedSssd:
    """The network for this extent, ready to be called."""
    return FoldedSssd(network.resampled(wanted.samples, rate_ratio=wanted.rate / RATE))


@torch.no_grad()
def call(folded: FoldedSssd, labels: int, leads: int) -> None:
    """One record."""
    x = torch.randn(1, leads, folded.length, generator=torch.Generator().manual_seed(1))
    folded(x, torch.full((1,), 100.0), torch.zeros(1, labels))


def fold_and_call(size: str, layers: int | None, wanted: Extent) -> None:
    """What memory is measured of."""
    config = SIZES[size]
    call(fold(make_network(size, layers=layers), wanted), config.labels, config.leads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("extents", nargs="*", type=extent, default=[extent(text) for text in DEFAULT])
    arguments = parser.parse_args()
    network = make_network(arguments.size, layers=arguments.layers)
    config, first = network.config, arguments.extents[0]
    folded = {wanted: fold(network, wanted) for wanted in arguments.extents}
    times: dict[Extent, list[float]] = {wanted: [] for wanted in folded}
    for _ in range(arguments.rounds + 1):
        for wanted, network_there in folded.items():
            times[wanted].append(seconds(lambda there=network_there: call(there, config.labels, config.leads)))
    rows = []
    for wanted, taken in times.items():
        longer = wanted.samples / first.samples
        expected = longer * math.log(wanted.samples) / math.log(first.samples)
        rows.append(
            [
                f"{wanted.samples:,}",
                f"{wanted.rate:g}",
                f"{wanted.samples / wanted.rate:g}",
                f"{np.median(taken[1:]):.4f}",  # the first call fills what is kept
                ratio(taken[1:], times[first][1:]),
                f"x{np.median(np.array(taken[1:]) / np.array(times[first][1:])) / longer:.2f}",
                f"x{expected:.1f}",
                f"{peak_of(fold_and_call, arguments.size, arguments.layers, wanted):.0f}",
            ]
        )
    print(
        f"Length and rate: {len(network.blocks)} blocks of {config.residual_channels} channels, N = "
        f"{config.state_size}, one record, {arguments.rounds} rounds, {torch.get_num_threads()} threads.\n"
    )
    print_table(
        ("samples", "Hz", "s of ECG", "s per call", "against the first", "a sample", "by L log L", "peak MB"), rows
    )


if __name__ == "__main__":
    main()
