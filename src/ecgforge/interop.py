"""Records to and from what other programs work with: NumPy arrays, pandas tables, wfdb records.

    signals = stack_signals(records)                    (N, C, L) mV
    Y = stack_labels(records, vocabulary("rhythm"))     (N, K)
    records = split_signals(signals, rate=100)
    frame = to_dataframe(record)                        columns I_mV, II_mV, ..., indexed by time_s
    table = tabulate_records(records)                   a row a record
    found = to_wfdb(record); found.wrsamp(write_dir=...)

Nothing is lost on the way back: what a record says besides its samples travels in `DataFrame.attrs` and in the
comments of a wfdb record, as in the files ecgforge writes. For torch see datasets.py.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import wfdb
from jaxtyping import Float, Float32

from ecgforge.errors import DataError
from ecgforge.formats.csv import columns, rate_of
from ecgforge.formats.metadata import (
    RATE,
    metadata_of,
    millivolts_per_unit,
    rate_text,
    record_with_metadata,
)
from ecgforge.formats.samples import UV_PER_MV, microvolts
from ecgforge.labels import LabelVocabulary, format_statements, read_statements
from ecgforge.leads import STANDARD_LEADS
from ecgforge.record import EcgRecord, Provenance

_TIME = "time_s"
_MEASURED = Provenance()

# ------------------------------------------------------------------------------------------------ NumPy


def stack_signals(
    records: Sequence[EcgRecord], *, leads: Sequence[str] = STANDARD_LEADS
) -> Float32[np.ndarray, "N C L"]:
    """The signals of records as one array, mV.

    Args:
        records: One or more, of one rate and length; their leads may be in any order.
        leads: The C leads wanted, in order.

    Raises:
        DataError: no record, different rates or lengths, or a lead is missing; the message names the record.
    """
    if not records:
        raise DataError("expected one or more records, got none")
    rate, samples = records[0].rate, records[0].signal.shape[1]
    stacked = np.empty((len(records), len(leads), samples), dtype=np.float32)
    for number, record in enumerate(records):
        if (record.rate, record.signal.shape[1]) != (rate, samples):
            raise DataError(
                f"expected records of {samples} samples at {rate:g} Hz as the first one, got "
                f"{record.signal.shape[1]} at {record.rate:g} Hz in {_name_of(record, number)}; resample or cut them"
            )
        try:
            stacked[number] = record.in_leads(leads)
        except DataError as problem:
            raise DataError(f"{_name_of(record, number)}: {problem}") from problem
    return stacked


def stack_labels(records: Sequence[EcgRecord], vocabulary: LabelVocabulary) -> Float32[np.ndarray, "N K"]:
    """The statements of records as label vectors; statements without a column are left out.

    Raises:
        LabelError: a statement does not exist.
    """
    vectors = [vocabulary.encode(record.statements) for record in records]
    return np.array(vectors, dtype=np.float32).reshape(len(records), len(vocabulary))


def split_signals(
    signals: Float[np.ndarray, "N C L"],
    *,
    rate: float,
    leads: Sequence[str] = STANDARD_LEADS,
    statements: Sequence[str | Mapping[str, float]] | None = None,
    record_ids: Sequence[str] | None = None,
    provenance: Provenance = _MEASURED,
) -> list[EcgRecord]:
    """Records of an array of signals; inverse of stack_signals.

    Args:
        signals: mV.
        rate: Samples per second (Hz).
        leads: What the C rows are.
        statements: One set a record, "NORM,SR" or {"NORM": 1.0}; None or "" for none.
        record_ids: One a record; by default the number in the array.
        provenance: Where the signals are from; synthetic ones are to be marked here.

    Raises:
        DataError: numbers of records, statements or ids differ, or leads or rate are not usable.
        LabelError: a statement does not exist, or a grade is not above 0 and at most 1.
    """
    for given, name in ((statements, "statement sets"), (record_ids, "record ids")):
        if given is not None and len(given) != len(signals):
            raise DataError(f"expected {len(signals)} {name}, one a record, got {len(given)}")
    entries = [""] * len(signals) if statements is None else statements
    sets = [read_statements(entry) if entry else {} for entry in entries]
    names = record_ids if record_ids is not None else [str(number) for number in range(len(signals))]
    return [
        EcgRecord(
            signal=signal, rate=rate, leads=tuple(leads), record_id=name, statements=grades, provenance=provenance
        )
        for signal, name, grades in zip(signals, names, sets, strict=True)
    ]


# ----------------------------------------------------------------------------------------------- pandas


def to_dataframe(record: EcgRecord) -> pd.DataFrame:
    """A record as a table: the columns I_mV, II_mV, ..., a row a sample, indexed by `time_s`.

    The columns are those of the CSV and Parquet formats. What else the record says is in `attrs`, as texts.

    Raises:
        LabelError: a statement does not exist.
    """
    times = pd.Index(np.arange(record.signal.shape[1]) / record.rate, name=_TIME)
    frame = pd.DataFrame(record.signal.T, index=times, columns=[f"{lead}_mV" for lead in record.leads])
    facts = {**metadata_of(record), RATE: rate_text(record)}
    frame.attrs.update((key, text) for key, text in facts.items())
    return frame


def from_dataframe(frame: pd.DataFrame, *, rate: float | None = None) -> EcgRecord:
    """The record in a table; inverse of to_dataframe.

    Args:
        frame: Columns such as I_mV, II_uV; `time_s` as the index or as a column. Its `attrs` may hold what to_dataframe
            writes there.
        rate: Samples per second (Hz); by default what `attrs` or the times say. Needed where there are no times.

    Raises:
        DataError: a column is no lead with its unit, a sample is missing, or times and rate do not agree.
        LabelError: a statement in `attrs` does not exist.
    """
    where = Path("data frame")
    frame = frame.set_index(_TIME) if _TIME in frame.columns else frame
    leads, factors = columns([_TIME, *map(str, frame.columns)], where)
    texts = {"record_id": "", **{str(key): str(value) for key, value in frame.attrs.items()}}
    if rate is not None:
        texts[RATE] = repr(float(rate))
    return record_with_metadata(
        _numbers(frame).T * factors[:, np.newaxis],
        rate=_rate_of(frame.index, texts, where),
        leads=leads,
        metadata=texts,
        path=where,
    )


def tabulate_records(records: Sequence[EcgRecord]) -> pd.DataFrame:
    """What records say besides their samples: a row a record, indexed by `record_id`.

    Columns are patient_id, age, sex, statements (such as "IMI:0.5,SR"), rate_hz, duration_s, leads, synthetic,
    source, seed, seed_index and fold; what is unknown is missing (NA).
    """
    rows = [
        {
            "record_id": record.record_id,
            "patient_id": record.patient.patient_id,
            "age": record.patient.age,
            "sex": record.patient.sex,
            "statements": format_statements(record.statements),
            "rate_hz": record.rate,
            "duration_s": record.duration,
            "leads": " ".join(record.leads),
            "synthetic": record.provenance.synthetic,
            "source": record.provenance.source,
            "seed": record.provenance.seed,
            "seed_index": record.provenance.index,
            "fold": record.provenance.fold,
        }
        for record in records
    ]
    columns = {column: pd.Series([row[column] for row in rows], dtype=dtype) for column, dtype in _COLUMNS.items()}
    return pd.DataFrame(columns).set_index("record_id")


_COLUMNS = {
    "record_id": "string",
    "patient_id": "string",
    "age": "float64",
    "sex": "string",
    "statements": "string",
    "rate_hz": "float64",
    "duration_s": "float64",
    "leads": "string",
    "synthetic": "bool",
    "source": "string",
    "seed": "Int64",
    "seed_index": "Int64",
    "fold": "Int64",
}


# ------------------------------------------------------------------------------------------------- wfdb


def to_wfdb(record: EcgRecord) -> wfdb.Record:
    """A record of the wfdb package: exact in `p_signal`, whole microvolts in `d_signal`, ready for `.wrsamp()`.

    Raises:
        DataError: samples are missing or beyond +-32.767 mV, which format 16 cannot hold.
        LabelError: a statement does not exist.
    """
    name = re.sub(r"[^-A-Za-z0-9_]+", "-", record.record_id).strip("-") or "record"
    steps = microvolts(record, Path(name))
    leads = len(record.leads)
    found = wfdb.Record(
        p_signal=record.signal.T.astype(np.float64),
        d_signal=steps.T.astype(np.int64),
        record_name=name,
        n_sig=leads,
        fs=record.rate,
        sig_len=steps.shape[1],
        units=["mV"] * leads,
        sig_name=list(record.leads),
        fmt=["16"] * leads,
        adc_gain=[float(UV_PER_MV)] * leads,
        baseline=[0] * leads,
        comments=[f"{key}: {value}" for key, value in metadata_of(record).items()],
    )
    found.set_d_features()
    found.set_defaults()
    return found


def from_wfdb(found: wfdb.Record) -> EcgRecord:
    """The record in a record of the wfdb package; inverse of to_wfdb.

    A record of other origin, without our comments, keeps its record name as record_id.

    Raises:
        DataError: signals are missing, incomplete or of several rates, a unit is not of voltage, or a lead is
            unknown or repeated.
        LabelError: a statement in our own comments does not exist.
    """
    where = Path(str(found.record_name))
    if found.p_signal is None and found.d_signal is None:
        raise DataError(
            f"{where}: expected a record in one piece with p_signal or d_signal, got neither; "
            "read it with wfdb.rdrecord, several rates with smooth_frames=True"
        )
    values = found.p_signal if found.p_signal is not None else found.dac(return_res=64)
    units = np.array([millivolts_per_unit(unit, where) for unit in found.units])
    pairs = (line.partition(":") for line in found.comments or ())
    return record_with_metadata(
        np.asarray(values, dtype=np.float64).T * units[:, np.newaxis],
        rate=float(found.fs),
        leads=found.sig_name,
        metadata={key.strip(): value.strip() for key, colon, value in pairs if colon},
        path=where,
    )


# ---------------------------------------------------------------------------------------------- details


def _name_of(record: EcgRecord, number: int) -> str:
    return f"record {record.record_id}" if record.record_id else f"record number {number}"


def _numbers(frame: pd.DataFrame) -> Float[np.ndarray, "L C"]:
    try:
        return frame.to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as problem:
        raise DataError(f"data frame: expected a number in every cell: {problem}") from problem


def _rate_of(index: pd.Index, texts: Mapping[str, str], where: Path) -> float:
    """Samples per second (Hz): of the times, or where there are none the one that is said."""
    if index.name != _TIME and RATE not in texts:
        raise DataError(f"{where}: expected an index or a column {_TIME}, got neither; add one or give the rate")
    times = index.to_numpy(dtype=np.float64) if index.name == _TIME else np.zeros(1)  # one time disagrees with no rate
    return rate_of(texts, times, where)
