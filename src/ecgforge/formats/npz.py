"""NumPy's .npz: the record's float32 samples as they are, for exchange between Python programs.

Arrays: `signal` (C, L) float32 in mV, `leads` (C,) text, `rate` in Hz, `metadata` a JSON object of texts. No
pickled objects, so a file from a stranger runs no code.
"""

import io
import json
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ecgforge.errors import DataError
from ecgforge.formats.atomic import with_extension, write_whole
from ecgforge.formats.metadata import metadata_of, record_with_metadata, require_finite, standard_leads
from ecgforge.record import EcgRecord

_ARRAYS = ("signal", "leads", "rate", "metadata")
_READING_PROBLEMS = (
    *(OSError, EOFError, KeyError, ValueError, TypeError, MemoryError, NotImplementedError, RecursionError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),  # the last by an array's damaged header
)


def write(record: EcgRecord, path: Path) -> Path:
    """Write the record to `path`, with or without .npz; returns the file written.

    Raises:
        DataError: samples are missing, or a lead is repeated.
        LabelError: a statement does not exist.
    """
    path = with_extension(path, ".npz")
    require_finite(record.signal, standard_leads(record.leads, path), path)
    content = io.BytesIO()
    np.savez_compressed(
        content,
        signal=record.signal,
        leads=np.array(record.leads),
        rate=np.array(record.rate, dtype=np.float64),
        metadata=np.array(json.dumps(metadata_of(record))),
    )
    return write_whole(path, content.getvalue())


def read(path: Path) -> EcgRecord:
    """Read a record from an .npz file.

    Raises:
        DataError: no such file, not an .npz of these arrays, or arrays that do not fit each other.
        LabelError: a statement does not exist.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in _ARRAYS}
        metadata = json.loads(str(arrays["metadata"]))
        rate = float(arrays["rate"])
    except _READING_PROBLEMS as problem:
        raise DataError(f"{path}: expected an .npz of {', '.join(_ARRAYS)}, got {problem}") from problem
    signal, leads = arrays["signal"], [str(name) for name in np.atleast_1d(arrays["leads"])]
    if signal.ndim != 2 or len(signal) != len(leads) or signal.dtype.kind != "f":
        raise DataError(
            f"{path}: expected a signal of floats, shape ({len(leads)}, samples), got {signal.dtype} {signal.shape}"
        )
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise DataError(f"{path}: expected metadata to be a JSON object of texts")
    return record_with_metadata(signal, rate=rate, leads=leads, metadata=metadata, path=path)
