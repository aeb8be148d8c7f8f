"""Curves of a study: measures of classifiers against one number that varies, one point a training."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from ecgforge.errors import DataError
from ecgforge.formats.atomic import write_whole


@dataclass(frozen=True)
class CurvePoint:
    """One trained classifier.

    Attributes:
        x: The number that varies.
        seed: Of the classifier.
        values: One for each measure of the curve.
    """

    x: int
    seed: int
    values: tuple[float, ...]


@dataclass(frozen=True)
class Curve:
    """What a study measured: the same seeds at every x, so that differences between two x can be taken seed by seed.

    Attributes:
        x_name: What varies, e.g. "viewed samples".
        measures: Names of the measures, e.g. ("AUROC", "G-mean", "F1").
        points: One for each x and seed.
        note: What was the same for all, in words; stands over the drawing.

    Raises:
        DataError: there is no point, or a seed is missing at some x.
    """

    x_name: str
    measures: tuple[str, ...]
    points: tuple[CurvePoint, ...]
    note: str = ""

    def __post_init__(self) -> None:
        there = [(point.x, point.seed) for point in self.points]
        wanted = [(x, seed) for x in self.x for seed in self.seeds]
        if not there or sorted(there) != wanted:
            raise DataError(f"expected one point for every x and seed, got (x, seed) = {there}")

    @property
    def x(self) -> tuple[int, ...]:
        """Ascending."""
        return tuple(sorted({point.x for point in self.points}))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Ascending."""
        return tuple(sorted({point.seed for point in self.points}))

    def values(self) -> Float[np.ndarray, "X seeds measures"]:
        """All values, in the order of `x`, `seeds` and `measures`."""
        ordered = sorted(self.points, key=lambda point: (point.x, point.seed))
        return np.array([point.values for point in ordered]).reshape(len(self.x), len(self.seeds), -1)

    def summary(self) -> tuple[str, ...]:
        """A line for each x: mean over the seeds and, with several seeds, the range, of each measure."""
        return tuple(
            f"{self.x_name} {x:,}: " + ", ".join(map(_mean_and_range, self.measures, values.T))
            for x, values in zip(self.x, self.values(), strict=True)
        )


def _mean_and_range(measure: str, values: Float[np.ndarray, " seeds"]) -> str:
    spread = f" ({values.min():.4f} to {values.max():.4f})" if len(values) > 1 else ""
    return f"{measure} {values.mean():.4f}{spread}"


def write_curve(curve: Curve, path: Path) -> Path:
    """All points as CSV: x, seed and a column for each measure.

    Raises:
        DataError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([curve.x_name, "seed", *curve.measures])
    writer.writerows([point.x, point.seed, *(f"{value:.6f}" for value in point.values)] for point in curve.points)
    return write_whole(path, text.getvalue().encode())


def draw_curve(curve: Curve) -> Figure:
    """A panel a measure: mean over the seeds, band from the lowest to the highest seed, a thin line a seed.

    The x axis is linear up to the smallest x above 0 and logarithmic from there on.
    """
    values = curve.values()
    figure = Figure(figsize=(max(5.6, 4.2 * len(curve.measures)), 3.8), layout="constrained")
    spread = f"mean, range and each of {len(curve.seeds)} classifiers" if len(curve.seeds) > 1 else "one classifier"
    figure.suptitle("\n".join(filter(None, (curve.note, spread))), fontsize="small")
    panels = figure.subplots(1, len(curve.measures), squeeze=False)[0]
    for axes, measure, of_seeds in zip(panels, curve.measures, np.moveaxis(values, 2, 0), strict=True):
        axes.fill_between(curve.x, of_seeds.min(axis=1), of_seeds.max(axis=1), color="C0", alpha=0.18, linewidth=0)
        axes.plot(curve.x, of_seeds, color="C0", linewidth=0.6, alpha=0.6)
        axes.plot(curve.x, of_seeds.mean(axis=1), color="C0", linewidth=1.8, marker="o")
        axes.set_xscale("symlog", linthresh=min([x for x in curve.x if x], default=1), linscale=0.5)
        axes.set_xticks(curve.x, labels=[f"{x:,}" for x in curve.x])
        axes.set_xticks([], minor=True)
        axes.set(xlabel=curve.x_name, ylabel=measure)
        axes.grid(alpha=0.3)
    return figure
