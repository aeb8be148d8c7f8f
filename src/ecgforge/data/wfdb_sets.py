"""Any folder of WFDB records -> a store: rates, lengths, lead orders and label codes are brought to one form.

- Every header (.hea) below the folder is a record; its id is its path below the folder, without ".hea".
- Another rate is resampled by scipy's polyphase filter with the ratio of the rates as a fraction (denominator
  at most 1000; 360 -> 100 Hz is 5/18), then the first `seconds` are taken.
- III, aVR, aVL and aVF that are missing follow from I and II; no other lead can be made up.
- Statements come from the header comments "statements: NORM,SR" (as ecgforge writes) and "Dx: 426783006"
  (SNOMED CT, as the PhysioNet/CinC Challenges write), or from a CSV file.
- The fold is the CSV's or the header's; else one of ten by a hash of patient id (or record id), so it is
  stable and keeps a patient's records together.
"""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from ecgforge.data.building import require_free
from ecgforge.data.manifest import BuildSummary, Progress, Reading, ReportEntry
from ecgforge.data.store import StoreWriter
from ecgforge.data.workers import in_processes
from ecgforge.errors import ConfigError, DataError, LabelError
from ecgforge.facts import LARGEST_AGE
from ecgforge.formats.metadata import millivolts_per_unit
from ecgforge.formats.wfdb import read_checked
from ecgforge.labels import parse_statements
from ecgforge.leads import STANDARD_LEADS, canonical_lead
from ecgforge.rates import resample
from ecgforge.record import EcgRecord, Patient, Provenance
from ecgforge.snomed import STATEMENT_BY_SNOMED

FOLDS = 10

_MARGIN_S = 1.0  # read beyond the crop, so that the filter's edge is outside it
_SEXES = {"m": "male", "male": "male", "f": "female", "female": "female"}
_UNKNOWN = ("", "nan", "unknown", "n/a", "none")
_SHARES_OF_I_AND_II = {"III": (-1.0, 1.0), "aVR": (-0.5, -0.5), "aVL": (1.0, -0.5), "aVF": (-0.5, 1.0)}


@dataclass(frozen=True)
class _Form:
    """What every record is brought to."""

    rate: float
    seconds: float
    pad: bool

    @property
    def samples(self) -> int:
        return round(self.rate * self.seconds)


@dataclass(frozen=True)
class _Item:
    """A record to read: its id, and its row of the CSV where there is one."""

    record_id: str
    statements: str | None
    fold: int | None
    exists: bool = True


def build_wfdb(
    src: str | Path,
    dest: str | Path,
    *,
    rate: int | float = 100,
    seconds: int | float = 10,
    statements_csv: str | Path | None = None,
    pad: bool = False,
    jobs: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> BuildSummary:
    """Build a store from a folder of WFDB records.

    Args:
        src: Folder, searched with all folders below it.
        dest: Store to make.
        rate: Samples per second (Hz) of the store.
        seconds: Length of its records (s); longer ones are cropped to their beginning.
        statements_csv: Table with the columns record and statements ("NORM,SR") and, if wanted, fold. A
            row replaces what the header says. A record is named by its path below `src` or, if unique,
            by its name.
        pad: Fill shorter records up with zeros instead of leaving them out.
        jobs: Reading processes, None for one a processor.
        overwrite: Replace an existing store.
        progress: Called as progress(done, total).

    Raises:
        ConfigError: rate or seconds is not above 0.
        DataError: no WFDB record there, the CSV cannot be used, or no record is usable.
    """
    form = _Form(rate=float(rate), seconds=float(seconds), pad=pad)
    if not (rate > 0 and seconds > 0 and form.samples > 0):
        raise ConfigError(f"expected a rate and a length above 0, got {rate:g} Hz and {seconds:g} s")
    source = Path(src)
    require_free(Path(dest), overwrite=overwrite)
    names = sorted(path.relative_to(source).with_suffix("").as_posix() for path in source.rglob("*.hea"))
    if not names:
        raise DataError(f"expected WFDB records (.hea) in {source} or folders below it, got none")
    items = _items(names, None if statements_csv is None else Path(statements_csv))
    writer = StoreWriter(
        dest,
        rate=rate,
        samples=form.samples,
        source=source.resolve().name,
        records=len(names),
        synthetic=_says_synthetic(source / f"{names[0]}.hea"),
        options={
            "rate": rate,
            "seconds": seconds,
            "pad": pad,
            "statements_csv": None if statements_csv is None else Path(statements_csv).name,
        },
        overwrite=overwrite,
    )
    with writer:
        readings = in_processes(partial(_read_record, source, form), items, jobs=jobs)
        writer.add_readings(readings, total=len(items), progress=progress)
    return writer.summary()


def fold_by_hash(name: str) -> int:
    """Fold 1 to 10 of a patient or record id: the same in every build, on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % FOLDS + 1


def _items(names: Sequence[str], table_path: Path | None) -> list[_Item]:
    if table_path is None:
        return [_Item(name, statements=None, fold=None) for name in names]
    rows = _read_csv(table_path)
    by_name = {name: [path for path in names if path.rpartition("/")[2] == name] for name in rows}
    found: dict[str, tuple[str, int | None]] = {}
    unmatched = []
    for name, row in rows.items():
        matches = [name] if name in names else by_name[name]
        if len(matches) == 1:
            found[matches[0]] = row
        else:
            unmatched.append(_Item(name, *row, exists=False))
    return [_Item(name, *found.get(name, (None, None))) for name in names] + unmatched


def _read_csv(path: Path) -> dict[str, tuple[str, int | None]]:
    """Record name -> (statements, fold)."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the statements in {path} ({error})") from error
    if not {"record", "statements"} <= set(table.columns):
        raise DataError(
            f"expected the columns record and statements in {path}, got {', '.join(table.columns)}; "
            'write a row such as g1/A0001,"NORM,SR"'
        )
    rows: dict[str, tuple[str, int | None]] = {}
    for row in table.to_dict("records"):
        name = re.sub(r"\.(hea|dat|mat)$", "", row["record"].strip())
        fold = row.get("fold", "").strip()
        if name in rows:
            raise DataError(f"expected every record once in {path}, got {name} again; keep one row")
        if fold and not fold.isdecimal():
            raise DataError(f"expected a whole number as fold of {name} in {path}, got {fold!r}")
        rows[name] = (row["statements"], int(fold) if fold else None)
    return rows


def _says_synthetic(header: Path) -> bool:
    return _comments(header.read_text(encoding="utf-8", errors="replace").splitlines()).get("synthetic") == "yes"


def _comments(lines: Sequence[str]) -> dict[str, str]:
    """ "# Age: 56" and its like as {"age": "56"}."""
    pairs = (line.lstrip("# ").partition(":") for line in lines if ":" in line)
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _read_record(src: Path, form: _Form, item: _Item) -> Reading:
    file = f"{item.record_id}.hea"
    entries: list[tuple[str, str]] = []
    record = None
    try:
        if not item.exists:
            raise DataError("expected a record of the CSV in the folder, got none or several of this name")
        signal, facts = _read_signal(src / file, form, entries)
        record = _record(item, signal, form, facts, entries)
    except DataError as error:
        entries = [("left out", str(error))]
    report = tuple(ReportEntry(item.record_id, file, action, reason) for action, reason in entries)
    return Reading(record, file, entries=report)


def _read_signal(
    header_path: Path, form: _Form, entries: list[tuple[str, str]]
) -> tuple[Float[np.ndarray, "12 L"], dict[str, str]]:
    """A record's signal in the store's form (mV), and its header comments."""
    header, signals = read_checked(header_path, seconds=form.seconds + _MARGIN_S)
    rows = _by_lead(signals, header.sig_name, header.units, header_path, entries)
    signal = resample(_twelve_leads(rows, entries), rate=header.fs, wanted=form.rate)
    return _of_length(signal, form, entries), _comments(header.comments)


def _by_lead(
    signals: Float[np.ndarray, "C L"],
    names: Sequence[str],
    units: Sequence[str],
    path: Path,
    entries: list[tuple[str, str]],
) -> dict[str, Float[np.ndarray, " L"]]:
    """The rows that are one of the twelve leads, in mV, without missing samples."""
    rows = {}
    others = []
    for row, name, unit in zip(signals, names, units, strict=True):
        try:
            lead = canonical_lead(name or "")
        except DataError:
            others.append(str(name))
            continue
        if lead in rows:
            raise DataError(f"expected each lead once, got {lead} more than once")
        if np.isnan(row).any():
            raise DataError(f"expected a number for every sample, got {np.isnan(row).sum()} missing in lead {lead}")
        rows[lead] = row * millivolts_per_unit(unit, path)
    if others:
        entries.append(("noted", f"signals that are none of the twelve leads are not in the store: {' '.join(others)}"))
    return rows


def _twelve_leads(
    rows: Mapping[str, Float[np.ndarray, " L"]], entries: list[tuple[str, str]]
) -> Float[np.ndarray, "12 L"]:
    """The twelve leads in standard order, limb leads completed by Einthoven's and Goldberger's laws."""
    missing = [lead for lead in STANDARD_LEADS if lead not in rows]
    lost = [lead for lead in missing if lead not in _SHARES_OF_I_AND_II or not {"I", "II"} <= rows.keys()]
    if lost:
        raise DataError(f"expected all twelve leads, got {' '.join(rows) or 'none'}: {' '.join(lost)} missing")
    if missing:
        entries.append(("repaired", f"computed {' '.join(missing)} from I and II"))
    complete = dict(rows)
    for lead in missing:
        share_i, share_ii = _SHARES_OF_I_AND_II[lead]
        complete[lead] = share_i * rows["I"] + share_ii * rows["II"]
    return np.stack([complete[lead] for lead in STANDARD_LEADS])


def _of_length(
    signal: Float[np.ndarray, "C L"], form: _Form, entries: list[tuple[str, str]]
) -> Float[np.ndarray, "C L2"]:
    lacking = form.samples - signal.shape[1]
    if lacking <= 0:
        return signal[:, : form.samples]
    length = f"{signal.shape[1] / form.rate:g} s, shorter than {form.seconds:g} s"
    if not form.pad:
        raise DataError(f"its length is {length}; take shorter records (seconds) or fill up with zeros (pad)")
    entries.append(("repaired", f"its length is {length}; filled up with zeros"))
    return np.pad(signal, ((0, 0), (0, lacking)))


def _record(
    item: _Item,
    signal: Float[np.ndarray, "12 L"],
    form: _Form,
    facts: Mapping[str, str],
    entries: list[tuple[str, str]],
) -> EcgRecord:
    patient_id = facts.get("patient_id") or None
    fold = _whole(facts.get("fold", "")) if item.fold is None else item.fold
    if fold is None:
        fold = fold_by_hash(patient_id or item.record_id)
    sex = facts.get("sex", "").lower()
    if sex not in _SEXES and sex not in _UNKNOWN:
        entries.append(("noted", f"expected Male or Female as sex, got {sex!r}; left empty"))
    statements = (
        _header_statements(facts, entries) if item.statements is None else _known_statements(item.statements, entries)
    )
    if not statements:
        entries.append(("noted", "no statement is known for this record"))
    return EcgRecord(
        signal=signal.astype(np.float32),
        rate=form.rate,
        record_id=item.record_id,
        statements=statements,
        patient=Patient(patient_id=patient_id, age=_age(facts.get("age", ""), entries), sex=_SEXES.get(sex)),
        provenance=Provenance(
            synthetic=facts.get("synthetic") == "yes",
            seed=_whole(facts.get("seed", "")),
            index=_whole(facts.get("index", "")),
            fold=fold,
        ),
    )


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _header_statements(facts: Mapping[str, str], entries: list[tuple[str, str]]) -> dict[str, float]:
    statements = _known_statements(facts.get("statements", ""), entries)
    for code in (part.strip() for part in facts.get("dx", "").split(",")):
        if code in STATEMENT_BY_SNOMED:
            statements.setdefault(STATEMENT_BY_SNOMED[code], 1.0)
        elif code.lower() not in _UNKNOWN:
            entries.append(("noted", f"SNOMED CT code {code} has no ECG statement here; left out of the labels"))
    return statements


def _known_statements(text: str, entries: list[tuple[str, str]]) -> dict[str, float]:
    """The statements of "NORM,SR" one by one, so that an unknown one does not take the others with it."""
    statements: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            for code, grade in parse_statements(part).items():
                statements.setdefault(code, grade)
        except LabelError as error:
            entries.append(("noted", f"{error}; left out of the labels"))
    return statements


def _age(text: str, entries: list[tuple[str, str]]) -> float | None:
    if text.lower() in _UNKNOWN:
        return None
    try:
        age = float(text)
    except ValueError:
        age = math.nan
    if not 0 <= age <= LARGEST_AGE:
        entries.append(("noted", f"expected 0 to {LARGEST_AGE} years as age, got {text!r}; left empty"))
        return None
    return age
