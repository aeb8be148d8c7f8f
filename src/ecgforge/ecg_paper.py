"""An ECG on paper: EcgRecord -> figure of true physical size, 25 mm/s and 10 mm/mV.

Everything is drawn in millimetres of paper on one set of axes that fills the page, so a second is 25 mm and a
millivolt 10 mm by construction. Baselines and calibration pulses lie on the 5 mm grid.

Paper shows differences of potential, not absolute ones: each lead is placed with its median over the whole
record on the baseline of its row. Nothing else is done to the signal: no filter, no resampling.
"""

import io
import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path

from ecgforge.errors import ConfigError, DataError
from ecgforge.formats.atomic import write_whole
from ecgforge.labels import all_statements, format_statements
from ecgforge.leads import STANDARD_LEADS, canonical_lead
from ecgforge.record import EcgRecord, Patient, Provenance

# Rows of each layout; the columns of a row share the record's time, one after the other.
LAYOUTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "3x4": (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6")),
    "6x2": tuple(zip(STANDARD_LEADS[:6], STANDARD_LEADS[6:], strict=True)),
    "12x1": tuple((lead,) for lead in STANDARD_LEADS),
}
PICTURE_FORMATS = ("png", "svg", "pdf")
PIXELS_PER_INCH = 254.0  # 10 pixels a mm: every grid line falls on a pixel
LONGEST_S = 30.0

# Millimetres. A4 landscape is HEADER + 35 boxes + FOOTER high and 2 MARGIN + 53 boxes wide.
PAGE_MM = (297.0, 210.0)
MARGIN_MM, HEADER_MM, FOOTER_MM = 16.0, 26.0, 9.0
BOX_MM = 5.0
PULSE_START_MM = 5.0
CLEAR_MM = 2.0  # least distance between the traces of two rows
LOWEST_SPACE_MM = 10.0
CLIP_MM = 40.0  # no trace goes further from its baseline: 4 mV at 10 mm/mV
LABEL_MM = (9.0, 3.0)  # room for a lead's name: width, height
LABEL_ABOVE_MM = 6.0

INK, PALE_INK, MARK = "#14181f", "#5b626b", "#8c1d18"
PAPER, FINE_LINE, BOX_LINE = "#fffafa", "#f7d3d1", "#eb9f9b"
POINTS_PER_MM = 72 / 25.4
FONT = "DejaVu Sans"  # comes with matplotlib: the same page everywhere


@dataclass(frozen=True)
class _Panel:
    """One lead over one stretch of time: samples `start` to `stop` of `trace`, mm above its baseline."""

    lead: str
    start: int
    stop: int
    trace: Float[np.ndarray, " L"]


def draw_ecg(
    record: EcgRecord,
    *,
    layout: str = "3x4",
    title: str | None = None,
    speed_mm_s: float = 25.0,
    gain_mm_mv: float = 10.0,
    rhythm_lead: str | None = "II",
) -> Figure:
    """The record on ECG paper, A4 landscape where it fits, on a larger page otherwise.

    Layouts with several columns show consecutive stretches of time from left to right (a quarter of the
    record each in "3x4") and, below, one lead over the whole time. A record that lacks some of the twelve
    leads is drawn with the leads it has, in standard order, a row each, whatever the layout.

    Args:
        record: Up to 30 s.
        layout: "3x4", "6x2" or "12x1": rows x columns.
        title: First line of the header; the record's identifier by default.
        speed_mm_s: Paper speed.
        gain_mm_mv: Height of a millivolt. Rows move apart for large signals; beyond 40 mm a trace is cut and
            marked with a triangle.
        rhythm_lead: Lead of the rhythm strip, None for no strip.

    Raises:
        ConfigError: unknown layout, or speed or gain not above 0.
        DataError: unknown rhythm lead, or a record that is empty or too long for one page.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"expected a layout out of {', '.join(LAYOUTS)}, got {layout!r}")
    if not (speed_mm_s > 0 and gain_mm_mv > 0):
        raise ConfigError(f"expected paper speed and gain above 0, got {speed_mm_s} mm/s and {gain_mm_mv} mm/mV")
    _require_drawable(record)

    mm_per_sample = speed_mm_s / record.rate
    rows = _rows(record, layout=layout, rhythm_lead=rhythm_lead, gain_mm_mv=gain_mm_mv)
    pulse_mm = (0.2 * speed_mm_s, gain_mm_mv)
    left = MARGIN_MM + PULSE_START_MM + pulse_mm[0] + BOX_MM
    width = max(PAGE_MM[0], _whole_boxes(left + record.duration * speed_mm_s - MARGIN_MM) + 2 * MARGIN_MM)
    spaces = _row_spaces(rows, mm_per_sample=mm_per_sample, pulse_height=gain_mm_mv)
    height = HEADER_MM + sum(spaces) + FOOTER_MM

    figure, axes = _page(width, height)
    _draw_grid(axes, left=MARGIN_MM, bottom=FOOTER_MM, size=(width - 2 * MARGIN_MM, sum(spaces)))
    baseline = height - HEADER_MM
    cut = False
    for row, space in zip(rows, spaces, strict=False):  # the last space is the one below the last row
        baseline -= space
        _draw_pulse(axes, baseline=baseline, size=pulse_mm)
        for panel in row:
            cut |= _draw_panel(axes, panel, left=left, baseline=baseline, mm_per_sample=mm_per_sample)
    _draw_header(axes, record, title=title, width=width, height=height)
    scale = f"{speed_mm_s:g} mm/s · {gain_mm_mv:g} mm/mV · {record.rate:g} Hz · no filter"
    note = f" · ▲▼ cut at {CLIP_MM / gain_mm_mv:g} mV" if cut else ""
    _write(axes, MARGIN_MM, FOOTER_MM / 2, scale + note, size=8.0, va="center")
    if record.provenance.synthetic:
        _write(
            axes,
            width - MARGIN_MM,
            FOOTER_MM / 2,
            "SYNTHETIC ECG",
            size=8.0,
            ha="right",
            va="center",
            color=MARK,
        )
    return figure


def save_ecg(
    record: EcgRecord,
    path: Path,
    *,
    layout: str = "3x4",
    title: str | None = None,
    speed_mm_s: float = 25.0,
    gain_mm_mv: float = 10.0,
    rhythm_lead: str | None = "II",
    dpi: float = PIXELS_PER_INCH,
) -> None:
    """Draw the record as `draw_ecg` does and write it as .png, .svg or .pdf, by the ending of `path`.

    The same record gives the same bytes: no dates, no random identifiers.

    Args:
        dpi: Pixels per inch of a .png; multiples of 25.4 give the crispest grid.

    Raises:
        ConfigError: the ending is none of the three, or as for `draw_ecg`.
        DataError: as for `draw_ecg`.
    """
    _picture_format(path)
    if not dpi > 0:
        raise ConfigError(f"expected pixels per inch above 0, got {dpi}")
    figure = draw_ecg(
        record,
        layout=layout,
        title=title,
        speed_mm_s=speed_mm_s,
        gain_mm_mv=gain_mm_mv,
        rhythm_lead=rhythm_lead,
    )
    mark = "SYNTHETIC ECG" if record.provenance.synthetic else "ECG"
    save_figure(figure, path, title=f"{mark} {title or record.record_id}".strip(), dpi=dpi)


def save_figure(figure: Figure, path: Path, *, title: str = "ECG", dpi: float = PIXELS_PER_INCH) -> None:
    """Write a figure as .png, .svg or .pdf without dates; the file is complete or not there.

    Raises:
        ConfigError: the ending of `path` is none of the three.
        DataError: the file cannot be written.
    """
    kind = _picture_format(path)
    dates: dict[str, dict[str, str | None]] = {
        "png": {},
        "svg": {"Date": None},
        "pdf": {"CreationDate": None},
    }
    content = io.BytesIO()
    # Without a salt the identifiers inside an .svg are random.
    with matplotlib.rc_context({"svg.hashsalt": "ecgforge"}):
        figure.savefig(content, format=kind, dpi=dpi, metadata={"Title": title, **dates[kind]})
    write_whole(path, content.getvalue())


def draw_sheet(
    records: Sequence[EcgRecord],
    *,
    columns: int = 2,
    leads: Sequence[str] = ("II", "V2", "V5"),
    titles: Sequence[str] | None = None,
) -> Figure:
    """Many records small on one sheet, a few leads each, at 12.5 mm/s and 5 mm/mV: for looking over a batch.

    Args:
        records: At least one, up to 30 s each.
        columns: Records side by side.
        leads: Rows of each record, from the top.
        titles: One a record; by default its identifier and statements.

    Raises:
        ConfigError: fewer than one column, or titles that do not match the records.
        DataError: no records, a record without one of the leads, empty or too long.
    """
    if columns < 1 or (titles is not None and len(titles) != len(records)):
        raise ConfigError(
            f"expected at least 1 column and a title for each of {len(records)} records, "
            f"got {columns} columns and {'no' if titles is None else len(titles)} titles"
        )
    if not records:
        raise DataError("expected at least one record to draw, got none")
    for record in records:
        _require_drawable(record)
    speed, gain, row_mm, title_mm, gap_mm, name_mm = 12.5, 5.0, 20.0, 6.0, 5.0, 10.0
    grid_size = (
        _whole_boxes(name_mm + max(record.duration for record in records) * speed),
        len(leads) * row_mm,
    )
    cell_width, cell_height = grid_size[0] + gap_mm, grid_size[1] + title_mm + gap_mm
    height = -(-len(records) // columns) * cell_height + gap_mm
    figure, axes = _page(columns * cell_width + gap_mm, height)
    for number, record in enumerate(records):
        left = gap_mm + number % columns * cell_width
        top = height - gap_mm - number // columns * cell_height - title_mm
        title = titles[number] if titles is not None else _sheet_title(record)
        _write(axes, left, top + 1.5, _fitted(title, room_mm=grid_size[0], size=7.0), size=7.0)
        _draw_grid(axes, left=left, bottom=top - grid_size[1], size=grid_size, fine=False)
        x = left + name_mm + np.arange(record.signal.shape[1]) * speed / record.rate
        for row, lead in enumerate(leads):
            baseline = top - (row + 0.5) * row_mm
            # Large waves reach into the neighbouring row, as on paper, but not beyond it.
            trace = np.clip(_placed(record, lead, gain_mm_mv=gain), 1 - row_mm, row_mm - 1)
            axes.plot(x, baseline + trace, color=INK, linewidth=0.2 * POINTS_PER_MM, gid=f"trace {lead}")
            _write(axes, left + 1, baseline, canonical_lead(lead), size=6.0, va="center")
    return figure


def _require_drawable(record: EcgRecord) -> None:
    if record.signal.shape[1] < 2 or not record.leads:
        raise DataError(f"expected a record with signal to draw, {record.record_id!r} has shape {record.signal.shape}")
    if record.duration > LONGEST_S:
        raise DataError(
            f"expected at most {LONGEST_S:g} s on one page, {record.record_id!r} has {record.duration:g} s; "
            "cut it first: dataclasses.replace(record, signal=record.signal[:, start:stop])"
        )


def _picture_format(path: Path) -> str:
    kind = path.suffix.lower().removeprefix(".")
    if kind not in PICTURE_FORMATS:
        raise ConfigError(f"expected a picture file ending in .{', .'.join(PICTURE_FORMATS)}, got {path.name!r}")
    return kind


def _placed(record: EcgRecord, lead: str, *, gain_mm_mv: float) -> Float[np.ndarray, " L"]:
    """A lead in mm of paper above its baseline; gaps in the signal stay gaps (NaN)."""
    signal = np.asarray(record.lead(lead), dtype=np.float64)
    signal[~np.isfinite(signal)] = np.nan
    if np.isnan(signal).all():
        return signal
    return np.asarray((signal - np.nanmedian(signal)) * gain_mm_mv)


def _rows(record: EcgRecord, *, layout: str, rhythm_lead: str | None, gain_mm_mv: float) -> list[list[_Panel]]:
    """The panels of each row, from the top; a row always spans the whole time."""
    named = LAYOUTS[layout]
    if set(record.leads) != set(STANDARD_LEADS):
        named = tuple((lead,) for lead in STANDARD_LEADS if lead in record.leads)
    elif rhythm_lead is not None and len(named[0]) > 1:
        named = (*named, (canonical_lead(rhythm_lead),))
    length = record.signal.shape[1]
    rows = []
    for names in named:
        edges = [round(column * length / len(names)) for column in range(len(names) + 1)]
        traces = [_placed(record, lead, gain_mm_mv=gain_mm_mv) for lead in names]
        rows.append([_Panel(*entry) for entry in zip(names, edges[:-1], edges[1:], traces, strict=True)])
    return rows


def _row_spaces(rows: list[list[_Panel]], *, mm_per_sample: float, pulse_height: float) -> list[float]:
    """Whole boxes (mm) above each baseline, and below the last one, so that no two rows collide.

    Rows stand as evenly as the height of A4 allows; where that is too little the page grows.
    """
    reaches = [_reach(row, mm_per_sample=mm_per_sample) for row in rows]
    between = [float(np.max(upper - lower)) for (_, lower), (upper, _) in itertools.pairwise(reaches)]
    top, bottom = float(np.max(reaches[0][0])), -float(np.min(reaches[-1][1]))
    needed = [max(top, pulse_height), *(max(space, pulse_height) for space in between), bottom]
    narrow = [max(_whole_boxes(space + CLEAR_MM), LOWEST_SPACE_MM) for space in needed]
    room = PAGE_MM[1] - HEADER_MM - FOOTER_MM
    spaces = narrow
    for boxes in range(round(room / BOX_MM)):
        # Edges belong to one row only: half the space looks even.
        even = [boxes // 2 * BOX_MM, *(boxes * BOX_MM for _ in between), boxes // 2 * BOX_MM]
        wider = [max(pair) for pair in zip(narrow, even, strict=True)]
        if sum(wider) > room:
            break
        spaces = wider
    rest = max(0.0, room - sum(spaces)) // BOX_MM
    return [spaces[0] + rest // 2 * BOX_MM, *spaces[1:-1], spaces[-1] + (rest - rest // 2) * BOX_MM]


def _reach(row: list[_Panel], *, mm_per_sample: float) -> tuple[Float[np.ndarray, " X"], Float[np.ndarray, " X"]]:
    """How far a row reaches above and below its baseline (mm), for each box or so along the paper."""
    upper = np.concatenate([panel.trace[panel.start : panel.stop] for panel in row])
    upper = np.clip(np.nan_to_num(upper), -CLIP_MM, CLIP_MM)
    lower = upper.copy()
    for panel in row:
        under_name = slice(panel.start, panel.start + max(1, round(LABEL_MM[0] / mm_per_sample)))
        name_top = _name_height(panel, mm_per_sample=mm_per_sample) + LABEL_MM[1]
        upper[under_name] = np.maximum(upper[under_name], name_top)
    starts = np.arange(0, len(upper), max(1, round(BOX_MM / mm_per_sample)))
    return np.maximum.reduceat(upper, starts), np.minimum.reduceat(lower, starts)


def _name_height(panel: _Panel, *, mm_per_sample: float) -> float:
    """Where a lead's name stands above the baseline (mm): clear of the trace below it."""
    stop = min(panel.stop, panel.start + max(1, round(LABEL_MM[0] / mm_per_sample)))
    highest = float(np.max(np.nan_to_num(panel.trace[panel.start : stop])))
    return max(LABEL_ABOVE_MM, min(highest, CLIP_MM) + 1.5)


def _whole_boxes(length_mm: float) -> float:
    # The small number keeps 265.0000001 from costing a box.
    return BOX_MM * float(np.ceil(length_mm / BOX_MM - 1e-6))


def _page(width_mm: float, height_mm: float) -> tuple[Figure, Axes]:
    """A white page with axes in mm from its lower left corner."""
    figure = Figure(figsize=(width_mm / 25.4, height_mm / 25.4), dpi=100, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width_mm)
    axes.set_ylim(0, height_mm)
    axes.set_axis_off()
    return figure, axes


def _draw_grid(axes: Axes, *, left: float, bottom: float, size: tuple[float, float], fine: bool = True) -> None:
    """Lines every 5 mm, and every 1 mm between them if `fine`; `size` is width and height in mm."""
    right, top = left + size[0], bottom + size[1]
    axes.add_patch(Rectangle((left, bottom), *size, facecolor=PAPER, edgecolor="none", zorder=0))
    rulings = [(1.0, FINE_LINE, 0.1)] if fine else []
    for step, color, line_mm in (*rulings, (BOX_MM, BOX_LINE, 0.2)):
        upright = [[(x, bottom), (x, top)] for x in np.arange(left, right + step / 2, step)]
        level = [[(left, y), (right, y)] for y in np.arange(bottom, top + step / 2, step)]
        lines = LineCollection(
            upright + level, colors=color, linewidths=line_mm * POINTS_PER_MM, capstyle="projecting", zorder=1
        )
        lines.set_snap(True)
        axes.add_collection(lines, autolim=False)


def _draw_pulse(axes: Axes, *, baseline: float, size: tuple[float, float]) -> None:
    """Calibration: 1 mV for 0.2 s, at the beginning of a row."""
    width, height = size
    up = MARGIN_MM + PULSE_START_MM
    x = [up - BOX_MM / 2, up, up, up + width, up + width, up + width + BOX_MM / 2]
    y = [baseline, baseline, baseline + height, baseline + height, baseline, baseline]
    axes.plot(x, y, color=INK, linewidth=0.25 * POINTS_PER_MM, solid_joinstyle="miter", gid="calibration")


def _draw_panel(axes: Axes, panel: _Panel, *, left: float, baseline: float, mm_per_sample: float) -> bool:
    """One lead over its stretch of time, with its name; True if the trace had to be cut."""
    samples = np.arange(panel.start, min(panel.stop + 1, len(panel.trace)))  # one more: up to the next panel
    x, trace = left + samples * mm_per_sample, panel.trace[samples]
    shown = baseline + np.clip(trace, -CLIP_MM, CLIP_MM)
    width = 0.3 * POINTS_PER_MM
    axes.plot(x, shown, color=INK, linewidth=width, solid_joinstyle="round", gid=f"trace {panel.lead}")
    name = panel.lead if np.isfinite(trace).any() else f"{panel.lead} no signal"
    name_height = _name_height(panel, mm_per_sample=mm_per_sample)
    _write(axes, x[0] + 1.0, baseline + name_height, name, size=9.0, weight="bold")
    if panel.start > 0:
        edges = [baseline - LABEL_ABOVE_MM, baseline + LABEL_ABOVE_MM + LABEL_MM[1]]
        axes.plot([x[0], x[0]], edges, color=PALE_INK, linewidth=0.2 * POINTS_PER_MM)
    cut = np.abs(np.nan_to_num(trace)) > CLIP_MM
    for first in np.flatnonzero(cut & ~np.concatenate(([False], cut[:-1]))):
        marker = "^" if trace[first] > 0 else "v"
        axes.plot(x[first], shown[first], marker=marker, color=MARK, markersize=1.5 * POINTS_PER_MM)
    return bool(cut.any())


def _draw_header(axes: Axes, record: EcgRecord, *, title: str | None, width: float, height: float) -> None:
    right, room = width - MARGIN_MM, width - 2 * MARGIN_MM
    name = _fitted(title or record.record_id or "ECG", room_mm=room - 40, size=13.0, weight="bold")
    _write(axes, MARGIN_MM, height - 10.5, name, size=13.0, weight="bold")
    facts = [*_patient_facts(record.patient), f"{record.duration:g} s"]
    _write(axes, MARGIN_MM, height - 15.8, " · ".join(facts), size=8.5)
    statements = _wrapped(_described(record), room_mm=room, size=8.5, lines=2)
    for number, line in enumerate(statements):
        _write(axes, MARGIN_MM, height - 20.0 - 4.0 * number, line, size=8.5)
    if record.provenance.synthetic:
        box = {"facecolor": MARK, "edgecolor": "none", "boxstyle": "square,pad=0.3"}
        place = (right - 1.2, height - 10.0)
        _write(axes, *place, "SYNTHETIC", size=11.0, weight="bold", ha="right", color="white", bbox=box)
    origin = _fitted(_origin(record.provenance), room_mm=room / 2, size=8.5)
    _write(axes, right, height - 15.8, origin, size=8.5, ha="right")


def _width_mm(text: str, *, size: float, weight: str = "normal") -> float:
    font = FontProperties(family=FONT, size=size, weight=weight)
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / POINTS_PER_MM


def _fitted(text: str, *, room_mm: float, size: float, weight: str = "normal") -> str:
    """The text in one line, cut with an ellipsis where it is wider than the room."""
    text = whole = " ".join(text.split())
    while _width_mm(text, size=size, weight=weight) > room_mm:
        whole = whole[: min(len(whole) - 1, int(len(whole) * room_mm / _width_mm(whole, size=size, weight=weight)))]
        text = whole + "…"
    return text


def _wrapped(text: str, *, room_mm: float, size: float, lines: int) -> list[str]:
    """The text in at most so many lines, the last one cut with an ellipsis."""
    characters = max(1, int(0.95 * room_mm * len(text) / max(_width_mm(text, size=size), 1.0)))
    wrapped = textwrap.wrap(text, characters, max_lines=lines, placeholder=" …")
    return [_fitted(line, room_mm=room_mm, size=size) for line in wrapped]


def _patient_facts(patient: Patient) -> list[str]:
    facts = []
    if patient.age is not None:
        facts.append("90 years or older" if patient.age >= 90 else f"{patient.age:g} years")  # 300 stands for 90+
    if patient.sex is not None:
        facts.append(patient.sex)
    return facts


def _described(record: EcgRecord) -> str:
    """Statements in words: "IMI inferior myocardial infarction (0.5);  SR sinus rhythm"."""
    known = all_statements()
    words = []
    for code, grade in record.statements.items():
        description = f" {known[code].description}" if code in known else ""
        words.append(f"{code}{description}" + (f" ({grade:g})" if grade < 1 else ""))
    return "; ".join(words)


def _origin(provenance: Provenance) -> str:
    facts = [provenance.source]
    numbers = (("seed", provenance.seed), ("record", provenance.index), ("fold", provenance.fold))
    facts += [f"{name} {number}" for name, number in numbers if number is not None]
    return " · ".join(filter(None, facts))


def _sheet_title(record: EcgRecord) -> str:
    mark = "SYNTHETIC" if record.provenance.synthetic else ""
    return " · ".join(filter(None, (record.record_id, format_statements(record.statements), mark)))


def _write(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    *,
    size: float,
    weight: str = "normal",
    ha: str = "left",
    va: str = "baseline",
    color: str = INK,
    bbox: dict[str, str] | None = None,
) -> None:
    # parse_math off: a "$" in a title is a dollar.
    axes.text(
        x,
        y,
        text,
        fontsize=size,
        fontfamily=FONT,
        fontweight=weight,
        ha=ha,
        va=va,
        color=color,
        bbox=bbox,
        parse_math=False,
        zorder=4,
    )
