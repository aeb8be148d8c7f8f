"""Parquet: the columns of the CSV format, `time_s` and one a lead named as `I_mV`, in binary.

Samples are the record's float32 as they are. pandas, polars, DuckDB and Spark read the table; the facts stand as
texts in the file's key-value metadata. Reading and encoding are pyarrow's (the extra `parquet`).
"""

from pathlib import Path
from typing import Any

import numpy as np

from ecgforge.errors import DataError
from ecgforge.formats.atomic import with_extension, write_whole
from ecgforge.formats.csv import columns, rate_of
from ecgforge.formats.metadata import (
    RATE,
    metadata_of,
    rate_text,
    record_with_metadata,
    require_finite,
    standard_leads,
)
from ecgforge.formats.optional import require_package
from ecgforge.record import EcgRecord

_LARGEST = 2**28  # numbers in a table, 12 leads at 500 Hz for 12 hours; compressed, a small file may claim any
_PREFIX = "ecgforge."


def write(record: EcgRecord, path: Path) -> Path:
    """Write the record to `path`, with or without .parquet; returns the file written.

    Raises:
        DataError: samples are missing, or a lead is repeated.
        LabelError: a statement does not exist.
        MissingExtraError: pyarrow is not installed.
    """
    path = with_extension(path, ".parquet")
    require_finite(record.signal, standard_leads(record.leads, path), path)
    facts = {_PREFIX + key: value for key, value in {**metadata_of(record), RATE: rate_text(record)}.items()}
    pyarrow = require_package("pyarrow", extra="parquet")
    parquet = require_package("pyarrow.parquet", extra="parquet")
    table = {"time_s": np.arange(record.signal.shape[1]) / record.rate}
    table |= {f"{lead}_mV": row for lead, row in zip(record.leads, record.signal, strict=True)}
    content = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table(table, metadata=facts), content)
    return write_whole(path, content.getvalue().to_pybytes())


def read(path: Path) -> EcgRecord:
    """Read a record from a .parquet file, ours or one of the same columns (units mV, uV or V).

    Raises:
        DataError: no such file, no sound Parquet, columns or numbers are not as above, or the table is too large;
            the message names the file.
        LabelError: a statement does not exist.
        MissingExtraError: pyarrow is not installed.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    pyarrow = require_package("pyarrow", extra="parquet")
    parquet = require_package("pyarrow.parquet", extra="parquet")
    try:
        with parquet.ParquetFile(path) as file:
            names = _plain_columns(file, path)
            leads, factors = columns(names, path)
            table = file.read()
        times, *signals = [column.to_numpy().astype(np.float64) for column in table.columns]
        facts = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, MemoryError) as problem:
        raise DataError(f"{path}: expected a Parquet table of numbers, and cannot read it: {problem}") from problem
    metadata = {key.removeprefix(_PREFIX): value for key, value in facts.items() if key.startswith(_PREFIX)}
    return record_with_metadata(
        np.stack(signals) * factors[:, np.newaxis],
        rate=rate_of(metadata, times, path),
        leads=leads,
        metadata=metadata,
        path=path,
    )


def _plain_columns(file: Any, path: Path) -> list[str]:
    """Names of the columns, once it is known that they are numbers and how many there are."""
    rows, schema = file.metadata.num_rows, file.schema_arrow
    numeric = ("float", "double", "halffloat", "int", "uint")
    other = [field.name for field in schema if not str(field.type).startswith(numeric)]
    if other:
        raise DataError(f"{path}: expected columns of numbers, got other ones: {', '.join(other)[:80]}")
    if not 0 < rows * len(schema) <= _LARGEST:
        raise DataError(f"{path}: expected at least one and at most {_LARGEST} numbers, got {rows} x {len(schema)}")
    return list(schema.names)
