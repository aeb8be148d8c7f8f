"""How much faster are the convolutions of models/convolution.py than convolution layers, in a GAN's training step?

    python benchmarks/gan_step.py STORE [--presets NAME ...] [--rounds R]

A step is five updates of the critic with gradient penalty and one of the generator, on records of the store
(`ecgforge data`), on as many threads as torch is given (OMP_NUM_THREADS). The two ways take turns within each round:
layers as PyTorch has them (upsampling, then convolution), and those of the package. Prints median seconds a step and
the median over rounds of how often the package's step fits into the other.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
from measuring import print_table, ratio, seconds
from torch import Tensor
from torch.nn import functional

from ecgforge.data.store import EcgStore
from ecgforge.models import convolution, wavegan
from ecgforge.training.loop import make_fabric
from ecgforge.training.presets import preset
from ecgforge.training.settings import WassersteinTraining
from ecgforge.training.wasserstein import WassersteinLearner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--presets", nargs="+", default=["wavegan-star-small", "pulse2pulse-small"])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    store = EcgStore.open(arguments.store)
    print_table(
        ("preset", "layers, s a step", "package, s a step", "ratio"),
        [compare(name, store, arguments.rounds) for name in arguments.presets],
    )


def compare(name: str, store: EcgStore, rounds: int) -> tuple[str, str, str, str]:
    """A row of the table."""
    config = preset(name)
    if not isinstance(config, WassersteinTraining):
        raise SystemExit(f"expected the preset of a GAN, got {name}")
    learner = WassersteinLearner(config, store, make_fabric(device="cpu", devices=1, precision="32-true"))
    layers, package = [], []
    learner.take_step(0)
    for number in range(rounds):
        with convolution_layers():
            layers.append(seconds(lambda number=number: learner.take_step(number)))
        package.append(seconds(lambda number=number: learner.take_step(number)))
    return name, f"{np.median(layers):.2f}", f"{np.median(package):.2f}", ratio(layers, package)


@contextmanager
def convolution_layers() -> Iterator[None]:
    """PyTorch's convolutions in place of the package's."""
    with (
        mock.patch.object(convolution, "conv1d", functional.conv1d),
        mock.patch.object(wavegan, "upsampled_conv1d", upsample_and_convolve),
    ):
        yield


def upsample_and_convolve(x: Tensor, weight: Tensor, bias: Tensor, *, scale: int) -> Tensor:
    """What upsampled_conv1d replaces."""
    if scale > 1:
        x = functional.interpolate(x, size=scale * x.shape[2], mode="nearest")
    return functional.conv1d(x, weight, bias, padding=weight.shape[2] // 2)


if __name__ == "__main__":
    main()
