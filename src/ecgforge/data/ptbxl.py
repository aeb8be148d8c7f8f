"""PTB-XL as published -> a store.

Reads ptbxl_database.csv and the WFDB records under records100 or records500 of versions 1.0.1 to 1.0.3.
A record that cannot be used is reported and left out; nothing is dropped silently.

Source: Wagner et al. 2020, doi 10.1038/s41597-020-0495-6; PhysioNet doi 10.13026/kfzx-aw45.
"""

import ast
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd

from ecgforge.data.building import require_free
from ecgforge.data.manifest import BuildSummary, Progress, Reading, ReportEntry
from ecgforge.data.store import StoreWriter
from ecgforge.data.workers import in_processes
from ecgforge.errors import ConfigError, DataError, LabelError
from ecgforge.formats import wfdb
from ecgforge.labels import all_statements
from ecgforge.record import EcgRecord, Patient

SECONDS = 10
RATES = {100: ("filename_lr", "records100", "lr"), 500: ("filename_hr", "records500", "hr")}

_REQUIRED_COLUMNS = ("ecg_id", "scp_codes")
_SEXES = {0: "male", 1: "female"}
# 1.0.1 and 1.0.2 hold the same records; 1.0.3 dropped 38 that occurred twice.
_VERSION_BY_RECORDS = {21837: "1.0.1", 21799: "1.0.3"}


@dataclass(frozen=True)
class _Row:
    """One row of ptbxl_database.csv, checked; not `usable` where `entries` say why it must be left out."""

    record_id: str
    source_file: str
    patient: Patient
    fold: int | None
    label_quality: int | None
    likelihoods: Mapping[str, float]
    entries: tuple[ReportEntry, ...]
    usable: bool


def build_ptbxl(
    src: str | Path,
    dest: str | Path,
    *,
    rate: int = 100,
    folds: Collection[int] | None = None,
    jobs: int | None = None,
    strict: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> BuildSummary:
    """Build a store from a PTB-XL folder.

    Every statement a record lists counts as present (grade 1) whatever its likelihood, which is kept beside
    it (0 = unknown). Age 300 ("90 or older") stays as published.

    Args:
        src: Folder with ptbxl_database.csv and records100 or records500.
        dest: Store to make.
        rate: 100 or 500 Hz: which of the two published versions of the signals to take.
        folds: Folds (strat_fold) to take, None for all.
        jobs: Reading processes, None for one a processor.
        strict: Turn the first problem with any record into an error.
        overwrite: Replace an existing store.
        progress: Called as progress(done, total).

    Raises:
        ConfigError: rate is neither 100 nor 500.
        DataError: no PTB-XL there, no such fold, no usable record, or `strict` and something is off.
    """
    if rate not in RATES:
        raise ConfigError(f"expected PTB-XL's rates 100 or 500 Hz, got {rate}")
    source = Path(src)
    require_free(Path(dest), overwrite=overwrite)
    table = _read_table(source)
    _require_signals(source, rate=rate)
    synthetic = _is_synthetic(table, source)
    rows = _of_folds([_parse_row(row, rate=rate) for row in _cells(table)], folds, source)
    writer = StoreWriter(
        dest,
        rate=float(rate),
        samples=SECONDS * rate,
        source=source.resolve().name if synthetic else "PTB-XL",
        source_version="" if synthetic else detect_version(source, records=len(table)),
        records=len(rows),
        options={
            "rate": rate,
            "folds": ",".join(map(str, sorted(folds))) if folds else "all",
            "strict": strict,
        },
        synthetic=synthetic,
        overwrite=overwrite,
    )
    with writer:
        readings = in_processes(partial(_read_record, source), rows, jobs=jobs)
        writer.add_readings(readings, total=len(rows), strict=strict, progress=progress)
    return writer.summary()


def detect_version(src: Path, *, records: int) -> str:
    """PTB-XL's version by folder name, RECORDS file or number of records; "" where nothing tells."""
    named = re.search(r"\b1\.0\.\d\b", src.resolve().name)
    if named:
        return named.group()
    listing = src / "RECORDS"
    if listing.is_file():
        # It lists every record twice, at 100 and at 500 Hz.
        listed = len(listing.read_text(encoding="utf-8").split()) // 2
        if listed in _VERSION_BY_RECORDS:
            return _VERSION_BY_RECORDS[listed]
    return _VERSION_BY_RECORDS.get(records, "")


def _read_table(src: Path) -> pd.DataFrame:
    path = src / "ptbxl_database.csv"
    if not path.is_file():
        found = "a folder without ptbxl_database.csv" if src.is_dir() else "no such folder"
        raise DataError(
            f"expected PTB-XL in {src}, got {found}; "
            "name the folder that holds it (download: https://physionet.org/content/ptb-xl)"
        )
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise DataError(f"cannot read {path} ({error}); download it again") from error
    missing = [column for column in _REQUIRED_COLUMNS if column not in table]
    if missing:
        raise DataError(f"expected the columns {', '.join(_REQUIRED_COLUMNS)} in {path}, {missing[0]} is missing")
    if table.empty:
        raise DataError(f"expected records in {path}, got none; download it again")
    return table


def _cells(table: pd.DataFrame) -> Iterator[dict[str, str]]:
    names = [str(column) for column in table.columns]
    for values in table.itertuples(index=False, name=None):
        yield dict(zip(names, values, strict=True))


def _is_synthetic(table: pd.DataFrame, src: Path) -> bool:
    """Whether the set says it is synthetic: a column of that name with 1 throughout, unknown to PTB-XL."""
    if "synthetic" not in table:
        return False
    marks = sorted(set(table["synthetic"]))
    if marks not in (["0"], ["1"]):
        raise DataError(
            f"expected the column synthetic of {src / 'ptbxl_database.csv'} to be 0 or 1 throughout, got "
            f"{' '.join(marks)}; keep real and synthetic records apart"
        )
    return marks == ["1"]


def _require_signals(src: Path, *, rate: int) -> None:
    folder = RATES[rate][1]
    if (src / folder).is_dir():
        return
    there = [f"{other} Hz" for other, (_, name, _) in RATES.items() if (src / name).is_dir()]
    remedy = f"{' and '.join(there)} is there, choose that rate" if there else "download the signals"
    raise DataError(f"expected the signals at {rate} Hz in {src / folder}, which does not exist; {remedy}")


def _of_folds(rows: Sequence[_Row], folds: Collection[int] | None, src: Path) -> list[_Row]:
    if folds is None:
        return list(rows)
    existing = {row.fold for row in rows if row.fold is not None}
    unknown = sorted(set(folds) - existing)
    if unknown:
        raise DataError(
            f"expected folds of {src}, which has {' '.join(map(str, sorted(existing))) or 'none'}, "
            f"got {' '.join(map(str, unknown))}"
        )
    # Rows whose fold cannot be read stay, so that the report names them.
    return [row for row in rows if row.fold in folds or not row.usable]


class _RowParser:
    """Cells of one row, collecting what is wrong with them."""

    def __init__(self, row: Mapping[str, str], *, record_id: str, source_file: str) -> None:
        self._row = row
        self._id = record_id
        self._file = source_file
        self.entries: list[ReportEntry] = []

    def note(self, action: str, reason: str) -> None:
        self.entries.append(ReportEntry(self._id, self._file, action, reason))

    def number(self, column: str, *, action: str) -> float | None:
        """A cell as a number; None where it is absent, empty or unreadable (noted as `action`)."""
        text = self._row.get(column, "").strip()
        try:
            return float(text) if text and text.lower() != "nan" else None
        except ValueError:
            self.note(action, f"expected a number as {column} in ptbxl_database.csv, got {text!r}")
            return None

    def integer(self, column: str, *, action: str) -> int | None:
        """A cell as a whole number; "3.0" counts as 3."""
        value = self.number(column, action=action)
        if value is None or value.is_integer():
            return None if value is None else int(value)
        self.note(action, f"expected a whole number as {column} in ptbxl_database.csv, got {value:g}")
        return None

    def age(self) -> float | None:
        """Years; PTB-XL's 300 stays."""
        years = self.number("age", action="repaired")
        if years is not None and not 0 <= years < math.inf:
            self.note("repaired", f"expected years as age, got {years:g}; left empty")
            return None
        return years

    def sex(self) -> str | None:
        """PTB-XL's 0 or 1 as a word."""
        code = self.integer("sex", action="repaired")
        if code is not None and code not in _SEXES:
            self.note("repaired", f"expected sex 0 (male) or 1 (female), got {code}; left empty")
        return None if code is None else _SEXES.get(code)

    def likelihoods(self) -> dict[str, float]:
        """Statement -> likelihood in percent from the scp_codes cell, which is a Python dictionary."""
        text = self._row["scp_codes"]
        try:
            cell = ast.literal_eval(text)
            found = {str(code): float(value) for code, value in cell.items()}
        except (ValueError, SyntaxError, TypeError, AttributeError, MemoryError, RecursionError):
            self.note("left out", f"expected scp_codes such as {{'NORM': 100.0, 'SR': 0.0}}, got {text!r}")
            return {}
        for code in found.keys() - all_statements().keys():
            self.note("noted", f"statement {code} is none of the 71 of PTB-XL; kept without it")
        return {code: value for code, value in found.items() if code in all_statements()}


def _parse_row(row: Mapping[str, str], *, rate: int) -> _Row:
    text = row["ecg_id"].strip()
    record_id = text.removesuffix(".0")
    column, folder, ending = RATES[rate]
    source_file = row.get(column, "").strip()
    if not source_file and record_id.isdecimal():
        number = int(record_id)
        source_file = f"{folder}/{number // 1000 * 1000:05d}/{number:05d}_{ending}"
    cells = _RowParser(row, record_id=record_id, source_file=source_file)
    if not record_id.isdecimal():
        cells.note("left out", f"expected a whole number as ecg_id, got {text!r}")
    likelihoods = cells.likelihoods()
    # A record in an unknown fold could put a patient on both sides of a split.
    fold = cells.integer("strat_fold", action="left out")
    patient = Patient(
        patient_id=row.get("patient_id", "").strip().removesuffix(".0") or None,
        age=cells.age(),
        sex=cells.sex(),
    )
    label_quality = cells.integer("label_quality", action="repaired")
    usable = all(entry.action != "left out" for entry in cells.entries)
    return _Row(record_id, source_file, patient, fold, label_quality, likelihoods, tuple(cells.entries), usable)


def _read_record(src: Path, row: _Row) -> Reading:
    if not row.usable:
        return Reading(None, row.source_file, entries=row.entries)
    try:
        found = wfdb.read(src / row.source_file)
        record = EcgRecord(
            signal=found.in_leads(),
            rate=found.rate,
            record_id=row.record_id,
            statements=dict.fromkeys(row.likelihoods, 1.0),
            likelihoods=row.likelihoods,
            patient=row.patient,
            provenance=replace(found.provenance, fold=row.fold),
        )
    except (DataError, LabelError) as error:
        entry = ReportEntry(row.record_id, row.source_file, "left out", str(error))
        return Reading(None, row.source_file, entries=(entry,))
    return Reading(record, row.source_file, label_quality=row.label_quality, entries=row.entries)
