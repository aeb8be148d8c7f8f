"""What a store says about itself: its manifest, its index and the report of its build."""

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32

from ecgforge.errors import DataError
from ecgforge.labels import LabelVocabulary, format_statements, parse_statements
from ecgforge.record import EcgRecord, Patient, Provenance

FORMAT_VERSION = 1
STORE_FILES = ("signals.npy", "index.csv", "report.csv", "manifest.json")
INDEX_COLUMNS = (
    "record_id",
    "patient_id",
    "fold",
    "age",
    "sex",
    "label_quality",
    "source_file",
    "statements",
    "likelihoods",
    "seed",
    "seed_index",
)
_INTEGER_COLUMNS = ("fold", "label_quality", "seed", "seed_index")

Scalar = str | int | float | bool | None
Progress = Callable[[int, int], None]
"""Called as progress(done, total) while something long runs."""


@dataclass(frozen=True)
class StoreManifest:
    """What manifest.json says.

    Attributes:
        format_version: Version of the store layout.
        records: Number of records N.
        samples: Samples per lead L.
        rate: Samples per second (Hz).
        leads: Names of the signal rows, in order.
        units: Unit of the signals, "uV".
        source: Data set or model the records come from.
        source_version: Its version, "" if unknown.
        synthetic: True if the records were not measured on persons.
        labels: Statement codes the store was built with, canonical order.
        options: Settings of the build.
        report_counts: Number of records by action in report.csv.
        sha256: Checksum of every other file by name.
        created_by: Program and version that built the store.
    """

    format_version: int
    records: int
    samples: int
    rate: float
    leads: tuple[str, ...]
    units: str
    source: str
    source_version: str
    synthetic: bool
    labels: tuple[str, ...]
    options: Mapping[str, Scalar]
    report_counts: Mapping[str, int]
    sha256: Mapping[str, str]
    created_by: str

    @property
    def full_source(self) -> str:
        """Source with its version, e.g. "PTB-XL 1.0.3"."""
        return f"{self.source} {self.source_version}".strip()

    def to_json(self) -> str:
        """The manifest as the text of manifest.json."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, path: Path) -> "StoreManifest":
        """The manifest in a manifest.json.

        Raises:
            DataError: the file is damaged or of another format version.
        """
        rebuild = f"build the store {path.parent} again"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            version = content["format_version"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged ({error!r}); {rebuild}") from error
        if version != FORMAT_VERSION:
            raise DataError(
                f"expected store format version {FORMAT_VERSION}, got {version!r} in {path}; "
                f"use the ecgforge that built it, or {rebuild}"
            )
        names = {field.name for field in fields(cls)}
        if set(content) != names:
            raise DataError(f"{path} is damaged (entries {sorted(set(content) ^ names)}); {rebuild}")
        try:
            converted = {
                "records": int(content["records"]),
                "samples": int(content["samples"]),
                "rate": float(content["rate"]),
                "leads": tuple(content["leads"]),
                "labels": tuple(content["labels"]),
            }
        except (ValueError, TypeError) as error:
            raise DataError(f"{path} is damaged ({error}); {rebuild}") from error
        return cls(**{**content, **converted})


@dataclass(frozen=True)
class ReportEntry:
    """One thing that was off with one record of the source.

    Attributes:
        record_id: Record it is about.
        file: File it was found in, relative to the source folder.
        action: "left out" (not in the store), "repaired" (changed to fit) or "noted" (kept as it was).
        reason: What was wrong, in words.
    """

    record_id: str
    file: str
    action: str
    reason: str

    def __str__(self) -> str:
        return f"record {self.record_id} ({self.file}) {self.action}: {self.reason}"


@dataclass(frozen=True)
class Reading:
    """What came of reading one record of a source: the record, or None and the reason in `entries`."""

    record: EcgRecord | None
    source_file: str
    label_quality: int | None = None
    entries: tuple[ReportEntry, ...] = ()


@dataclass(frozen=True)
class BuildSummary:
    """What a build did.

    Attributes:
        folder: The finished store.
        records: Records in it.
        report: Everything that was off, record by record; also in the store's report.csv.
        notes: What was found around the build itself, such as the remains of an interrupted one.
    """

    folder: Path
    records: int
    report: tuple[ReportEntry, ...]
    notes: tuple[str, ...]

    def count(self, action: str) -> int:
        """Number of different records with this action in the report."""
        return count_actions(self.report).get(action, 0)


def count_actions(report: Iterable[ReportEntry]) -> dict[str, int]:
    affected: dict[str, set[str]] = {}
    for entry in report:
        affected.setdefault(entry.action, set()).add(f"{entry.record_id}|{entry.file}")
    return {action: len(records) for action, records in sorted(affected.items())}


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def index_row(record: EcgRecord, *, source_file: str, label_quality: int | None) -> dict[str, object]:
    return {
        "record_id": record.record_id,
        "patient_id": record.patient.patient_id,
        "fold": record.provenance.fold,
        "age": record.patient.age,
        "sex": record.patient.sex,
        "label_quality": label_quality,
        "source_file": source_file,
        "statements": format_statements(record.statements),
        "likelihoods": ",".join(f"{code}:{value:g}" for code, value in record.likelihoods.items()),
        "seed": record.provenance.seed,
        "seed_index": record.provenance.index,
    }


def write_report(path: Path, report: Iterable[ReportEntry]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("record_id", "file", "action", "reason"))
        writer.writerows((entry.record_id, entry.file, entry.action, entry.reason) for entry in report)


def read_index(path: Path) -> pd.DataFrame:
    """The index of a store; unknown text is "", unknown numbers are NA.

    Raises:
        ValueError: a column is missing or a number is none.
    """
    index = pd.read_csv(path, dtype="string", keep_default_na=False)
    if tuple(index.columns) != INDEX_COLUMNS:
        raise ValueError(f"expected the columns {', '.join(INDEX_COLUMNS)} in {path}, got {', '.join(index.columns)}")
    for column in INDEX_COLUMNS:
        if column in _INTEGER_COLUMNS:
            # By way of "string" and Int64, as floats would round large seeds.
            index[column] = index[column].replace("", pd.NA).astype("Int64")
        elif column == "age":
            index[column] = index[column].replace("", "nan").astype(float)
        else:
            index[column] = index[column].astype(object)
    return index


def record_from_row(row: "pd.Series[Any]", signal: Float[np.ndarray, "12 L"], manifest: StoreManifest) -> EcgRecord:
    """The record an index row describes, with its signal (mV)."""
    statements, age = str(row["statements"]), row["age"]
    return EcgRecord(
        signal=signal,
        rate=manifest.rate,
        record_id=str(row["record_id"]),
        statements=parse_statements(statements) if statements else {},
        likelihoods=_parse_likelihoods(str(row["likelihoods"])),
        patient=Patient(
            patient_id=str(row["patient_id"]) or None,
            age=None if pd.isna(age) else float(age),
            sex=str(row["sex"]) or None,
        ),
        provenance=Provenance(
            synthetic=manifest.synthetic,
            source=manifest.full_source,
            seed=_integer_or_none(row["seed"]),
            index=_integer_or_none(row["seed_index"]),
            fold=_integer_or_none(row["fold"]),
        ),
    )


def _integer_or_none(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def _parse_likelihoods(text: str) -> dict[str, float]:
    pairs = (item.rpartition(":") for item in text.split(",") if item)
    return {code: float(value) for code, _, value in pairs}


def encode_statements(texts: Iterable[str], vocabulary: LabelVocabulary) -> Float32[np.ndarray, "N K"]:
    """Label vectors of index texts such as "NORM,SR"; an empty text gives zeros.

    Raises:
        LabelError: a text names a statement that does not exist.
    """
    known = {"": np.zeros(len(vocabulary), dtype=np.float32)}
    vectors = []
    for text in texts:
        if text not in known:
            known[text] = vocabulary.encode(parse_statements(text))
        vectors.append(known[text])
    return np.stack(vectors)
