"""How much faster is one network call of PatchS4, the default model, through native kernels?

    python benchmarks/patch_s4_call.py [--batch B] [--rounds R]

Three ways to the same output, in turn within each round, on as many threads as torch is given (OMP_NUM_THREADS):

    naive    the network in plain PyTorch, its S4 kernels computed at every call
    kept     the network, its kernels' spectra kept (kernels_kept), record by record
    native   FoldedPatchS4

Prints median seconds a call, the median over rounds of how often the way fits into the naive one (smallest to
largest) and the L2 distance to the naive output. The shipped weights; every call is told other statements, so that
nothing of them is kept.
"""

import argparse
from collections.abc import Callable

import torch
from measuring import print_table, ratio, seconds
from networks import without_native_kernels
from torch import Tensor

from ecgforge import Generator
from ecgforge.models.folded import fold
from ecgforge.models.s4 import kernels_kept


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    network = Generator.load().network
    folded = fold(network)
    if folded is None:
        raise SystemExit("no native kernels on this machine: PatchS4 is called as it is")
    batch, config = arguments.batch, network.config
    x, level = torch.randn(batch, config.leads, config.length), torch.zeros(batch)
    beats = (torch.rand(batch, config.length) < 0.01).float()
    times: dict[str, list[float]] = {"naive": [], "kept": [], "native": []}
    outputs: dict[str, Tensor] = {}

    def record_by_record(*told: Tensor) -> Tensor:
        return torch.cat([network(*(part[i : i + 1] for part in told)) for i in range(batch)])

    def measure(name: str, call: Callable[..., Tensor], told: tuple[Tensor, ...]) -> None:
        times[name].append(seconds(lambda: outputs.update({name: call(*told)})))

    folded(x, level, torch.rand(batch, config.columns), beats)  # makes its buffers
    for _ in range(arguments.rounds):
        told = (x, level, torch.rand(batch, config.columns), beats)
        with without_native_kernels():
            measure("naive", network, told)
        with kernels_kept(network):
            record_by_record(*told)  # fills what is kept
            measure("kept", record_by_record, told)
        measure("native", folded, told)
    exact, rows = outputs["naive"].double(), []
    for name, values in times.items():
        error = float((outputs[name].double() - exact).norm() / exact.norm())
        median = sorted(values)[len(values) // 2]
        rows.append([name, f"{median:.4f}", ratio(times["naive"], values), f"{error:.0e}"])
    print(
        f"PatchS4: {config.layers} blocks of {config.features} features, {config.length} samples in patches of "
        f"{config.patch}, batch {batch}, {arguments.rounds} rounds, {torch.get_num_threads()} threads.\n"
    )
    print_table(("way", "s per call", "against naive", "error"), rows)


if __name__ == "__main__":
    main()
