"""CSV: a column `time_s`, then one column a lead named as `I_mV`; `# key: value` lines above.

pandas reads it with `comment="#"`, a spreadsheet opens it as it is. Samples have four decimals (0.1 uV):
three would do for 1 uV steps, the fourth keeps the rounding far below one step on the way to and from WFDB.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ecgforge.errors import DataError
from ecgforge.formats.atomic import with_extension, write_whole
from ecgforge.formats.metadata import (
    RATE,
    metadata_of,
    millivolts_per_unit,
    rate_text,
    record_with_metadata,
    require_finite,
    standard_leads,
)
from ecgforge.record import EcgRecord

_TIME = "time_s"
_TIME_STEP = 1e-6  # times are written to the microsecond


def write(record: EcgRecord, path: Path) -> Path:
    """Write the record to `path`, with or without .csv; returns the file written.

    Raises:
        DataError: samples are missing, or a lead is repeated.
        LabelError: a statement does not exist.
    """
    path = with_extension(path, ".csv")
    require_finite(record.signal, standard_leads(record.leads, path), path)
    metadata = {**metadata_of(record), RATE: rate_text(record)}
    lines = [f"# {key}: {value}" for key, value in metadata.items()]
    lines.append(",".join([_TIME, *(f"{lead}_mV" for lead in record.leads)]))
    for sample, values in enumerate(record.signal.T.tolist()):
        lines.append(f"{sample / record.rate:.6f}," + ",".join(f"{value:.4f}" for value in values))
    return write_whole(path, ("\n".join(lines) + "\n").encode("ascii"))


def read(path: Path) -> EcgRecord:
    """Read a record from a .csv file, ours or one of the same columns (units mV, uV or V).

    Without a `rate_hz` line the sampling rate follows from the time column.

    Raises:
        DataError: no such file, columns or numbers are not as above; the message names the file.
        LabelError: a statement does not exist.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as problem:
        raise DataError(f"{path}: no such file") from problem
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"{path}: cannot be read as text: {problem}") from problem
    # A spreadsheet that saved the file again has filled the comment lines up with commas.
    comments = [line.lstrip("# ").rstrip(",").partition(":") for line in lines if line.startswith("#")]
    metadata = {key.strip(): value.strip() for key, colon, value in comments if colon}
    rows = [line for line in lines if line.strip() and not line.startswith("#")]
    leads, factors = columns(rows[0].split(",") if rows else [], path)
    table = _numbers(rows[1:], len(leads) + 1, path)
    return record_with_metadata(
        table[:, 1:].T * factors[:, np.newaxis],
        rate=rate_of(metadata, table[:, 0], path),
        leads=leads,
        metadata=metadata,
        path=path,
    )


def columns(names: Sequence[str], path: Path) -> tuple[tuple[str, ...], Float[np.ndarray, " C"]]:
    """Lead names and mV per unit out of the columns time_s, I_mV, II_mV.

    Raises:
        DataError: other columns, an unknown or repeated lead, or a unit that is not of voltage.
    """
    first, *signals = (name.strip() for name in names or [""])
    parts = [name.rpartition("_") for name in signals]
    if first != _TIME or not all(name for name, _, _ in parts):
        raise DataError(f"{path}: expected columns such as {_TIME},I_mV,II_mV, got {','.join(names)[:80]!r}")
    leads = standard_leads([name for name, _, _ in parts], path)
    return leads, np.array([millivolts_per_unit(unit, path) for _, _, unit in parts])


def _numbers(rows: Sequence[str], width: int, path: Path) -> Float[np.ndarray, "L width"]:
    if not rows:
        raise DataError(f"{path}: expected samples, got none")
    try:
        table = np.loadtxt(rows, delimiter=",", ndmin=2)
    except ValueError as problem:
        raise DataError(f"{path}: expected a number in every cell: {problem}") from problem
    if table.shape[1] != width:
        raise DataError(f"{path}: expected {width} cells a row as the header line has, got {table.shape[1]}")
    return table


def rate_of(metadata: Mapping[str, str], times: Float[np.ndarray, " L"], path: Path) -> float:
    """The sampling rate a table says, else that of its times, Hz.

    Raises:
        DataError: neither is there, or the times are not even steps of it.
    """
    if RATE in metadata:
        try:
            rate = float(metadata[RATE])
        except ValueError as problem:
            raise DataError(f"{path}: expected a number for {RATE}, got {metadata[RATE]!r}") from problem
    elif len(times) > 1 and times[-1] > times[0]:
        rate = (len(times) - 1) / (times[-1] - times[0])
    else:
        raise DataError(f"{path}: expected {RATE} to be given or rising times in the column {_TIME}")
    if not rate > 0:
        raise DataError(f"{path}: expected a sampling rate above 0 Hz, got {rate}")
    even = times[0] + np.arange(len(times)) / rate
    worst = float(np.abs(times - even).max())
    if not worst <= max(0.01 / rate, 2 * _TIME_STEP):
        raise DataError(f"{path}: expected {_TIME} in even steps of 1/{rate:g} s, got steps {worst:g} s off")
    return rate
