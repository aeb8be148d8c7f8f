"""An assessment as files: results.json for programs, report.md and a self-contained report.html for people."""

import base64
import html
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ecgforge.evaluation.assessment import Assessment
from ecgforge.evaluation.beats import draw_beats
from ecgforge.evaluation.fidelity import NEIGHBOURS
from ecgforge.evaluation.markdown import markdown_table
from ecgforge.evaluation.physiology import Spread
from ecgforge.evaluation.protocols import REAL, Cell, Protocol
from ecgforge.evaluation.signal_statistics import BANDS_HZ
from ecgforge.formats.atomic import write_whole
from ecgforge.scores import Interval

Row = Sequence[str]

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}"
    "table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}"
    "th,td{border-bottom:1px solid #ccc;padding:.25rem .75rem;text-align:right}"
    "th:first-child,td:first-child{text-align:left}img{max-width:100%}"
)

# What the tables show.
_TOGETHER = (
    "Classifiers of two data sets together take as many steps as the others, so they see each real record half as "
    "often."
)
_FIDELITY = (
    f"On the features of the real-trained classifier of the first seed, test folds, k = {NEIGHBOURS}. The first row is "
    "what real records score against real ones; with half the records each, its Frechet distance is larger than that "
    "of two full sets."
)
_PHYSIOLOGY = (
    "Median (quartiles); in how many of the real and of the synthetic records it can be measured; Wasserstein distance "
    "of the two distributions, and of two halves of the real records."
)
_RHYTHMS = (
    "Beats per minute, median (quartiles), of the same records. A copy made by a model that can be asked for a heart "
    "rate was asked for each original's: then this tells whether it obeys, not what it knows of rhythms."
)
_SIGNALS = (
    f"Of the same records. Power: mean difference over leads and {len(BANDS_HZ)} bands from {BANDS_HZ[0][0]:g} to "
    f"{BANDS_HZ[-1][1]:g} Hz, dB. Correlation of leads in time: mean difference over the 66 pairs. Each beside that of "
    "two halves of the real records. Lead laws: largest violation of Einthoven's and Goldberger's laws in a record, "
    "uV, median and largest; rounding alone gives 1 to 2. By band and by pair: results.json."
)


def write_report(assessment: Assessment, folder: Path, *, command: str = "") -> tuple[Path, ...]:
    """Write results.json, report.md (with beats.png) and report.html into a folder.

    Args:
        assessment: What to tell.
        folder: Made where it does not exist.
        command: What was typed, shown in the report.

    Returns:
        The files.

    Raises:
        DataError: a file cannot be written.
    """
    picture = _png(draw_beats(assessment.beats))
    sections = _sections(assessment)
    contents = {
        "results.json": json.dumps(_plain(assessment), indent=1, ensure_ascii=False).encode(),
        "beats.png": picture,
        "report.md": _markdown(assessment, sections, command).encode(),
        "report.html": _html(assessment, sections, command, picture).encode(),
    }
    for name, content in contents.items():
        write_whole(folder / name, content)
    return tuple(folder / name for name in contents)


# ---------------------------------------------------------------------------------------------- tables


@dataclass(frozen=True)
class _Section:
    """A heading, a sentence or two, and a table."""

    title: str
    text: str
    header: Row
    rows: Sequence[Row]


def _sections(assessment: Assessment) -> list[_Section]:
    sections = [
        _data(assessment),
        _cells(assessment),
        _groups(assessment),
        _pathologies(assessment),
        _fidelity(assessment),
        *_physiology(assessment),
        *_rhythms(assessment),
        _signals(assessment),
        _statements(assessment),
    ]
    return [section for section in sections if section.rows]


def _data(assessment: Assessment) -> _Section:
    rows = [(entry.name, entry.source, str(entry.records), str(entry.tested)) for entry in assessment.data]
    return _Section("Data", "", ("data set", "source", "records", "tested"), rows)


def _cells(assessment: Assessment) -> _Section:
    protocol = assessment.protocol
    text = (
        f"Macro AUROC over the statements that can be scored, with its 95 % bootstrap interval over test records "
        f"({protocol.resamples} resamples{_over_seeds(protocol)}). Classifier {protocol.classifier.name}, "
        f"{protocol.classifier.total_steps} steps of {protocol.classifier.batch_size}, trained on folds "
        f"{_list(protocol.classifier.data.folds)}, chosen on folds {_list(protocol.classifier.validation_folds)}, "
        f"tested on folds {_list(protocol.test_folds)}; seeds {_list(protocol.seeds)}. Not scored, because no test "
        f"record or every one has them: {_not_scored(assessment)}."
    )
    if protocol.augment:
        text += f" {_TOGETHER}"
    rows = [
        (
            cell.trained_on,
            cell.tested_on,
            str(sum(not math.isnan(entry.auroc) for entry in cell.detail.statements)),
            _interval(cell.macro),
            " ".join(_number(value, 4) for value in cell.seeds),
            _interval(cell.against_real, signed=True) if cell.against_real else "",
        )
        for cell in assessment.cells
    ]
    header = ("trained on", "tested on", "statements", "macro AUROC", "seeds", "less real-trained")
    return _Section("Train here, test there", text, header, rows)


def _over_seeds(protocol: Protocol) -> str:
    return ", estimate and ends averaged over the seeds" if len(protocol.seeds) > 1 else ""


def _not_scored(assessment: Assessment) -> str:
    """By test set, where they differ from the real one."""
    by_set = {cell.tested_on: cell.detail.not_scorable for cell in assessment.cells}
    real = by_set.pop(REAL)
    others = [f"{' '.join(codes) or 'none'} in {name}" for name, codes in by_set.items() if codes != real]
    return "; ".join([" ".join(real) or "none", *others])


def _groups(assessment: Assessment) -> _Section:
    names = [group.name for group in assessment.cells[0].detail.groups]
    rows = [(_arrow(cell), *(_number(group.auroc, 4) for group in cell.detail.groups)) for cell in assessment.cells]
    text = "Mean AUROC of the statements of each group and diagnostic superclass, first seed."
    return _Section("By group", text, ("cell", *names), rows if names else [])


def _pathologies(assessment: Assessment) -> _Section:
    names = ("g_mean", "f1", "auroc", "sensitivity", "specificity")
    rows = [
        (_arrow(cell), code, *(_over([getattr(scores, name) for scores in by_seed]) for name in names))
        for cell in assessment.cells
        for code, by_seed in cell.pathologies
    ]
    text = "At the threshold with the largest G-mean on the validation folds of the training data"
    text += "; mean over the seeds (smallest to largest)." if len(assessment.protocol.seeds) > 1 else "."
    header = ("cell", "statement", "G-mean", "F1", "AUROC", "sensitivity", "specificity")
    return _Section("Single pathologies", text, header, rows)


def _fidelity(assessment: Assessment) -> _Section:
    entries = [("real, one half against the other", assessment.floor)]
    entries += [(entry.name, entry.fidelity) for entry in assessment.likeness]
    rows = [(name, *(_number(getattr(f, item.name), 3) for item in fields(f))) for name, f in entries]
    text = _FIDELITY
    header = ("data set", "Frechet distance", "precision", "recall", "density", "coverage")
    return _Section("Fidelity and diversity", text, header, rows)


def _physiology(assessment: Assessment) -> list[_Section]:
    header = ("quantity", "unit", "real", "synthetic", "measurable", "distance", "real against real")
    return [
        _Section(
            f"Physiology: {entry.name}",
            f"Of {entry.measured[0]} real and {entry.measured[1]} synthetic test records, drawn at random. "
            + _PHYSIOLOGY,
            header,
            [
                (
                    item.quantity.name,
                    item.quantity.unit,
                    _spread(item.real),
                    _spread(item.synthetic),
                    f"{item.real.measurable:.0%}, {item.synthetic.measurable:.0%}",
                    _number(item.distance, 3),
                    _number(item.floor, 3),
                )
                for item in entry.physiology
            ],
        )
        for entry in assessment.likeness
    ]


def _rhythms(assessment: Assessment) -> list[_Section]:
    header = ("statement", "real records", "synthetic records", "real", "synthetic")
    return [
        _Section(
            f"Heart rate by rhythm: {entry.name}",
            _RHYTHMS,
            header,
            [
                (
                    item.statement,
                    str(item.real_records),
                    str(item.synthetic_records),
                    _spread(item.real),
                    _spread(item.synthetic),
                )
                for item in entry.rhythms
            ],
        )
        for entry in assessment.likeness
    ]


def _signals(assessment: Assessment) -> _Section:
    rows = [
        (
            entry.name,
            _number(entry.spectra.mean_difference_db, 2),
            _number(entry.spectra.floor_db, 2),
            _number(entry.correlations.mean_difference, 3),
            _number(entry.correlations.floor, 3),
            f"{entry.lead_laws.real_median_uv:.1f}, {entry.lead_laws.real_largest_uv:.1f}",
            f"{entry.lead_laws.synthetic_median_uv:.1f}, {entry.lead_laws.synthetic_largest_uv:.1f}",
        )
        for entry in assessment.likeness
    ]
    floor = "real against real"
    header = ("data set", "power", floor, "correlation", floor, "lead laws: real", "synthetic")
    return _Section("Spectra, correlations, lead laws", _SIGNALS, header, rows)


def _statements(assessment: Assessment) -> _Section:
    """AUROC of every statement on real records, by what the classifier learned from."""
    columns = [cell for cell in assessment.cells if cell.tested_on == REAL]
    rows = [
        (entry.label, str(entry.positives), *(_number(cell.detail.statements[k].auroc, 3) for cell in columns))
        for k, entry in enumerate(columns[0].detail.statements)
    ]
    header = ("statement", "records", *(f"trained on {cell.trained_on}" for cell in columns))
    return _Section("By statement, tested on real records", "AUROC, first seed.", header, rows)


# ----------------------------------------------------------------------------------------------- files


def _markdown(assessment: Assessment, sections: Sequence[_Section], command: str) -> str:
    lines = ["# Synthetic against real ECGs", "", f"Made by {assessment.created_by}.", ""]
    if command:
        lines += ["```sh", command, "```", ""]
    for section in sections:
        lines += [f"## {section.title}", "", *([section.text, ""] if section.text else [])]
        lines += [*markdown_table(section.header, section.rows), ""]
    lines += ["## Beats", "", _beats_text(assessment), "", "![Median beats with their quartile band](beats.png)", ""]
    return "\n".join(lines)


def _html(assessment: Assessment, sections: Sequence[_Section], command: str, picture: bytes) -> str:
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Synthetic against real ECGs</title>",
        f"<meta name=viewport content='width=device-width'><style>{_STYLE}</style>",
        f"<h1>Synthetic against real ECGs</h1><p>Made by {html.escape(assessment.created_by)}.</p>",
    ]
    if command:
        parts.append(f"<pre>{html.escape(command)}</pre>")
    for section in sections:
        parts.append(f"<h2>{html.escape(section.title)}</h2><p>{html.escape(section.text)}</p><table>")
        parts.append(_html_row(section.header, "th"))
        parts += [_html_row(row, "td") for row in section.rows]
        parts.append("</table>")
    encoded = base64.b64encode(picture).decode()
    source = f"data:image/png;base64,{encoded}"
    parts.append(f"<h2>Beats</h2><p>{html.escape(_beats_text(assessment))}</p>")
    parts.append(f"<img alt='Median beats with their quartile band' src='{source}'>")
    return "\n".join(parts) + "\n</html>\n"


def _beats_text(assessment: Assessment) -> str:
    whose = "all test records" if assessment.beats_of == "all" else f"test records with {assessment.beats_of} alone"
    return f"Median beats of {whose}, drawn at random, with their quartile bands."


def _html_row(cells: Row, tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, metadata={"Software": None})
    return content.getvalue()


# -------------------------------------------------------------------------------------------- numbers


def _number(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def _over(values: Sequence[float]) -> str:
    """A number, or of several seeds the mean with the smallest and the largest."""
    mean = _number(sum(values) / len(values), 3)
    return mean if len(values) == 1 else f"{mean} ({_number(min(values), 3)} to {_number(max(values), 3)})"


def _interval(interval: Interval, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{interval.estimate:{sign}.4f} ({interval.low:{sign}.4f} to {interval.high:{sign}.4f})"


def _spread(spread: Spread) -> str:
    if math.isnan(spread.median):
        return "not measurable"
    return f"{spread.median:.3g} ({spread.lower:.3g} to {spread.upper:.3g})"


def _arrow(cell: Cell) -> str:
    return f"{cell.trained_on} → {cell.tested_on}"


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _plain(value: Any) -> Any:
    """Dataclasses, mappings and arrays as JSON takes them; NaN becomes null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and math.isnan(value) else value
