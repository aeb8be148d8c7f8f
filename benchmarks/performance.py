"""How fast is everything, on this machine?

    python benchmarks/performance.py [--full] [--out docs/performance.md] ["length.py --size small" ...]

Runs the benchmarks of sampling, training, length and processes one after the other and writes their tables into one
Markdown file. In training two of the papers' 36 blocks stand for all: a block is what is repeated. Takes about
twenty minutes on a quiet machine; --full trains all the blocks as well, which needs 24 GB and more than an hour.
Commands given by hand are run in place of these.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from measuring import describe_machine

HERE = Path(__file__).parent
QUICK = (
    "sampling_call.py --size small",
    "sampling_call.py --size papers --rounds 2",
    "sampling_call.py --size papers --batch 8 --rounds 2",
    "patch_s4_call.py",
    "patch_s4_call.py --batch 8",
    "training_step.py --size small",
    "training_step.py --size papers --layers 2 --rounds 3",
    "training_memory.py --size small",
    "length.py --size small --rounds 3",
    "processes.py --records 16 --rounds 2",
    "processes.py --records 128 --rounds 2",
)
FULL = (
    "sampling_call.py --size small",
    "sampling_call.py --size papers",
    "sampling_call.py --size papers --batch 8 --rounds 3",
    "patch_s4_call.py",
    "patch_s4_call.py --batch 8",
    "training_step.py --size small",
    "training_step.py --size 12x128",
    "training_step.py --size papers --rounds 3",
    "training_memory.py --size papers",
    "length.py --size small",
    "length.py --size papers --rounds 3 1000@100 5000@500 10000@100",
    "processes.py --records 16",
    "processes.py --records 128",
)
HEAD = """\
# Performance

Written by `make bench` (`benchmarks/performance.py`); seconds are this machine's, ratios travel better.
Ratios are medians over rounds in which all ways take turns, with the smallest and the largest. What a way is, and what
is measured, stands at the top of each script. Random weights (PatchS4: the shipped ones), float32 where
nothing else is said.

{machine}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "performance.md")
    parser.add_argument("commands", nargs="*")
    arguments = parser.parse_args()
    parts = [HEAD.format(machine=describe_machine())]
    for command in arguments.commands or (FULL if arguments.full else QUICK):
        print(f"python benchmarks/{command}", flush=True)
        script, *rest = command.split()
        done = subprocess.run([sys.executable, HERE / script, *rest], stdout=subprocess.PIPE, text=True, check=True)
        print(done.stdout, flush=True)
        parts.append(f"## `{command}`\n\n{done.stdout.strip()}\n")
    arguments.out.write_text("\n".join(parts))


if __name__ == "__main__":
    main()
