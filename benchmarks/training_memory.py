"""How much memory does a training step of SSSD-ECG take, against the batch size?

    python benchmarks/training_memory.py [--size papers|12x128|small] [--layers N] [BATCH ...]

Prints the peak memory of processes that take two steps each, with all activations kept and with the blocks computed
again in the backward pass (gradient_checkpointing), and what one more record takes on top of the smallest batch.
Native kernels are used where there is a compiler. Default: batches of 1, 2, 4 and 8.
"""

import argparse

import torch
from measuring import peak_of, print_table
from networks import SIZES
from training_step import two_steps

WAYS = ("native", "checkpointed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--layers", type=int)
    parser.add_argument("batches", nargs="*", type=int, default=[1, 2, 4, 8])
    arguments = parser.parse_args()
    config, batches = SIZES[arguments.size], sorted(arguments.batches)
    layers = arguments.layers or config.layers
    peaks = {
        way: [peak_of(two_steps, arguments.size, arguments.layers, batch, way) for batch in batches] for way in WAYS
    }
    print(
        f"Memory of a training step: {layers} blocks of {config.residual_channels} channels, {config.length} samples, "
        f"{torch.get_num_threads()} threads.\n"
    )
    rows = []
    for number, batch in enumerate(batches):
        row = [str(batch)]
        for way in WAYS:
            more = (peaks[way][number] - peaks[way][0]) / max(1, batch - batches[0])
            row += [f"{peaks[way][number]:,.0f}", f"{more:,.0f}" if number else ""]
        rows.append(row)
    print_table(("batch", "peak MB", "a record more", "checkpointed, peak MB", "a record more"), rows)


if __name__ == "__main__":
    main()
