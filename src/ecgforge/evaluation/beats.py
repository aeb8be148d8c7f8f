"""Heart beats: where they are, how they look in the median, and the picture of real beside synthetic ones.

Source: Alcaraz and Strodthoff, arXiv 2301.08227, Figures 2 and 3: R peaks, 300 ms before to 500 ms after, median and
0.25-0.75 quantile band over the beats of 250 records.
"""

import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ecgforge.ecg_paper import BOX_LINE, INK, PALE_INK
from ecgforge.errors import ConfigError, DataError
from ecgforge.formats.atomic import write_whole
from ecgforge.leads import STANDARD_LEADS, canonical_lead
from ecgforge.r_peaks import find_r_peaks
from ecgforge.record import EcgRecord

BEFORE_S, AFTER_S = 0.3, 0.5

# Okabe and Ito's colours, which the colour-blind tell apart; the first set, the real one, is black.
COLOURS = (INK, "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#999933", "#888888")
MOST_SETS = len(COLOURS)  # that can be told apart in one figure


def cut_beats(
    signal: Float[np.ndarray, "C L"],
    peaks: Int[np.ndarray, " N"],
    *,
    rate: float,
    before_s: float = BEFORE_S,
    after_s: float = AFTER_S,
) -> Float[np.ndarray, "N2 C Lbeat"]:
    """The beats around R peaks, mV; those that the record's edges cut are left out.

    Args:
        signal: A record's leads, mV.
        peaks: Sample positions of R peaks.
        rate: Samples per second (Hz).
        before_s: Start of a beat before its R peak, s; that sample is beat sample round(before_s * rate).
        after_s: End after it, s (not included).
    """
    before, after = round(before_s * rate), round(after_s * rate)
    whole = peaks[(peaks >= before) & (peaks + after <= signal.shape[1])]
    samples = whole[:, np.newaxis] + np.arange(-before, after)
    return np.asarray(signal[:, samples].transpose(1, 0, 2))


# ---------------------------------------------------------------------------------------------- summaries


@dataclass(frozen=True, eq=False)
class BeatSummary:
    """The beats of many records.

    Attributes:
        leads: Names of the rows.
        times_s: (L,) time after the R peak, s.
        median: (C, L) mV; NaN where there is no beat.
        lower: (C, L) 0.25 quantile, mV.
        upper: (C, L) 0.75 quantile, mV.
        beats: Number of beats.
        records: Number of records they come from.
    """

    leads: tuple[str, ...]
    times_s: Float[np.ndarray, " L"]
    median: Float[np.ndarray, "C L"]
    lower: Float[np.ndarray, "C L"]
    upper: Float[np.ndarray, "C L"]
    beats: int
    records: int


def summarise_beats(
    records: Sequence[EcgRecord], *, before_s: float = BEFORE_S, after_s: float = AFTER_S
) -> BeatSummary:
    """Median and quartiles of all beats of some records, each sample of each lead for itself.

    As in the papers nothing is filtered or shifted, and every beat counts once: a fast heart gives more of them.

    Raises:
        DataError: no records, different sampling rates, or as `find_r_peaks`.
    """
    if not records:
        raise DataError("expected at least one record to take beats from, got none")
    rates = sorted({record.rate for record in records})
    if len(rates) > 1:
        raise DataError(f"expected records of one sampling rate, got {', '.join(f'{rate:g}' for rate in rates)} Hz")
    rate = rates[0]
    beats = np.concatenate(
        [
            cut_beats(record.in_leads(), find_r_peaks(record), rate=rate, before_s=before_s, after_s=after_s)
            for record in records
        ]
    )
    if len(beats):
        lower, median, upper = np.quantile(beats, (0.25, 0.5, 0.75), axis=0)
    else:
        lower = median = upper = np.full(beats.shape[1:], np.nan)
    return BeatSummary(
        leads=STANDARD_LEADS,
        times_s=np.arange(-round(before_s * rate), round(after_s * rate)) / rate,
        median=median,
        lower=lower,
        upper=upper,
        beats=len(beats),
        records=len(records),
    )


def write_beats_csv(summaries: Mapping[str, BeatSummary], path: Path) -> Path:
    """The numbers behind a figure of beats: a row a set, lead and time.

    Raises:
        DataError: the file cannot be written.
    """
    tables = []
    for name, summary in summaries.items():
        for row, lead in enumerate(summary.leads):
            columns = {
                "set": name,
                "lead": lead,
                "time_ms": np.round(1000 * summary.times_s, 3),
                "median_mv": summary.median[row],
                "lower_quartile_mv": summary.lower[row],
                "upper_quartile_mv": summary.upper[row],
                "beats": summary.beats,
                "records": summary.records,
            }
            tables.append(pd.DataFrame(columns))
    content = io.StringIO()
    pd.concat(tables).to_csv(content, index=False, float_format="%.5g")
    return write_whole(path, content.getvalue().encode())


# ------------------------------------------------------------------------------------------------ figures


def draw_beats(summaries: Mapping[str, BeatSummary], leads: Sequence[str] = STANDARD_LEADS) -> Figure:
    """Median beats with their quartile bands, a panel a lead, the sets over each other.

    Args:
        summaries: Name -> beats; the first, usually the real ones, is drawn in black.
        leads: Panels, from the top left.

    Raises:
        ConfigError: no sets, more than can be told apart, or no leads.
        DataError: unknown lead.
    """
    if not 1 <= len(summaries) <= MOST_SETS:
        raise ConfigError(f"expected 1 to {MOST_SETS} sets of beats in one figure, got {len(summaries)}")
    figure, panels = beat_panels(leads)
    for lead, axes in panels.items():
        for (name, summary), colour in zip(summaries.items(), COLOURS, strict=False):
            row, times_ms = summary.leads.index(lead), 1000 * summary.times_s
            axes.fill_between(times_ms, summary.lower[row], summary.upper[row], color=colour, alpha=0.18, linewidth=0)
            axes.plot(times_ms, summary.median[row], color=colour, linewidth=1.3, label=_named(name, summary))
    add_legend(figure, panels, note="median beat, band: quartiles")
    return figure


def beat_panels(leads: Sequence[str]) -> tuple[Figure, dict[str, Axes]]:
    """An empty figure with a panel in ms and mV for each lead; the panels of a row share their mV.

    Raises:
        ConfigError: no leads, or one twice.
        DataError: unknown lead.
    """
    names = [canonical_lead(lead) for lead in leads]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"expected one or more different leads, got {' '.join(names) or 'none'}")
    columns = len(names) if len(names) <= 4 else 6  # twelve leads: limb leads above chest leads
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(max(5.6, 2.2 * columns + 0.6), 2.6 * rows + 0.8), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey="row", squeeze=False)
    cells = list(grid.flat)
    for cell in cells[len(names) :]:
        cell.remove()
    for place, (name, axes) in enumerate(zip(names, cells, strict=False)):
        axes.set_title(name, fontsize=9, loc="left", color=INK, fontweight="bold")
        axes.axhline(0, color=BOX_LINE, linewidth=0.6, zorder=0)
        axes.axvline(0, color=BOX_LINE, linewidth=0.6, zorder=0)
        axes.tick_params(labelsize=7, colors=PALE_INK)
        axes.spines[["top", "right"]].set_visible(False)
        if place % columns == 0:
            axes.set_ylabel("mV", fontsize=8)
        if place + columns >= len(names):
            axes.set_xlabel("ms after the R peak", fontsize=8)
            axes.tick_params(labelbottom=True)
    return figure, dict(zip(names, itertools.islice(cells, len(names)), strict=True))


def add_legend(figure: Figure, panels: Mapping[str, Axes], *, note: str) -> None:
    """The legend of all panels, below them."""
    handles, labels = next(iter(panels.values())).get_legend_handles_labels()
    columns = 3 if len(panels) > 3 else 1 if len(panels) == 1 else 2
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False, title=note,
        title_fontsize=8,
    )  # fmt: skip


def _named(name: str, summary: BeatSummary) -> str:
    return f"{name} ({summary.beats} beats, {summary.records} records)"
