"""How time, memory and the machine are measured, and how a table is printed."""

import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one go."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def product_peak(dtype: torch.dtype = torch.float32) -> float:
    """Best seen FLOP/s of a matrix product of the papers' S4 layer."""
    a, b, c = (torch.ones(shape, dtype=dtype) for shape in ((1000, 512), (512, 512), (1000, 512)))
    return 2 * 1000 * 512 * 512 / min(seconds(lambda: torch.mm(a, b, out=c)) for _ in range(30))


def ratio(slow: Sequence[float], fast: Sequence[float]) -> str:
    """Median over rounds of slow / fast, with the smallest and the largest."""
    ratios = np.array(slow) / np.array(fast)
    return f"x{np.median(ratios):.1f} ({ratios.min():.1f} to {ratios.max():.1f})"


def peak_megabytes() -> float:
    """Most memory this process ever had."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the parent that started this process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def peak_of(work: Callable[..., object], *arguments: Any) -> float:
    """Peak memory in MB of a fresh process that does the work and nothing else; `work` is a module's function."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_after, work, arguments, torch.get_num_threads()).result()


def _peak_after(work: Callable[..., object], arguments: tuple[Any, ...], threads: int) -> float:
    torch.set_num_threads(threads)
    work(*arguments)
    return peak_megabytes()


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A Markdown table."""
    for cells in (header, ["---"] * len(header), *rows):
        print("| " + " | ".join(cells) + " |")


def describe_machine() -> str:
    """Processor, cores, versions and the measured peak, in Markdown."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    load = f", load average before the run {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{model}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}; Python "
        f"{platform.python_version()}, torch {torch.__version__}; {torch.get_num_threads()} threads, matrix products "
        f"of (1000 x 512) (512 x 512) {product_peak() / 1e9:.0f} GFLOP/s in float32, "
        f"{product_peak(torch.bfloat16) / 1e9:.0f} in bfloat16{load}."
    )
