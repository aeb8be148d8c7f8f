"""File formats: each reads a path into an EcgRecord and writes an EcgRecord to a path.

A format is one module here with `read(path) -> EcgRecord` and `write(record, path) -> Path`, and one line in
FORMATS. The module is imported when it is used, so a format may need an optional package.
"""

import difflib
import importlib
import re
from dataclasses import dataclass
from pathlib import Path

from ecgforge.errors import ConfigError, DataError
from ecgforge.record import EcgRecord


@dataclass(frozen=True)
class Format:
    """One file format.

    Attributes:
        module: Where its `read` and `write` are.
        extensions: File endings it reads, lower case; the first is the one it writes.
        beginning: Pattern of a file's first bytes, for files of other endings; "" where they do not tell.
    """

    module: str
    extensions: tuple[str, ...]
    beginning: bytes = b""

    def read(self, path: Path) -> EcgRecord:
        """The record in the file `path`."""
        record: EcgRecord = importlib.import_module(self.module).read(path)
        return record

    def write(self, record: EcgRecord, path: Path) -> Path:
        """Write the record to `path`, with or without extension; returns the file written."""
        written: Path = importlib.import_module(self.module).write(record, path)
        return written


FORMATS: dict[str, Format] = {
    "wfdb": Format("ecgforge.formats.wfdb", (".hea", ".dat", ".mat")),
    "csv": Format("ecgforge.formats.csv", (".csv",), rb"(#[^\n]*\n)*time_s,"),
    "npz": Format("ecgforge.formats.npz", (".npz",), rb"PK\x03\x04"),
    "edf": Format("ecgforge.formats.edf", (".edf",), rb"0 {7}"),
    "dicom": Format("ecgforge.formats.dicom", (".dcm", ".dicom"), rb"(?s:.{128})DICM"),
    "aecg": Format("ecgforge.formats.aecg", (".xml", ".aecg"), rb"(?s:.*?)<(\w+:)?AnnotatedECG\b"),
    "parquet": Format("ecgforge.formats.parquet", (".parquet",), rb"PAR1"),
}

_BEGINNING_BYTES = 4096


def read_record(path: Path) -> EcgRecord:
    """Read an ECG; the format follows from the extension, else from the content.

    A bare WFDB record name is a path without extension.

    Raises:
        DataError: no format has this extension, or the file cannot be used.
    """
    found = _format_of(path)
    if found is None and path.with_name(path.name + ".hea").is_file():
        found = "wfdb"
    if found is None:
        found = _format_of_content(path)
    if found is None:
        raise DataError(f"{path}: expected a file ending in {_known_extensions()}, got {path.suffix or 'none'!r}")
    return FORMATS[found].read(path)


def write_record(record: EcgRecord, path: Path, *, format: str | None = None) -> Path:
    """Write an ECG and return the file written (for WFDB the header).

    Args:
        record: What to write.
        path: With or without the format's extension.
        format: A name out of FORMATS; by default the one of the path's extension.

    Raises:
        ConfigError: no such format.
        DataError: the path's extension names no format, or the format cannot hold this record.
    """
    if format is None:
        format = _format_of(path)
        if format is None:
            raise DataError(f"{path}: expected a name ending in {_known_extensions()}, or the format to be given")
    if format not in FORMATS:
        near = difflib.get_close_matches(format, FORMATS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"expected a format out of {', '.join(FORMATS)}, got {format!r}{hint}")
    return FORMATS[format].write(record, path)


def _format_of(path: Path) -> str | None:
    ending = path.suffix.lower()
    return next((name for name, entry in FORMATS.items() if ending in entry.extensions), None)


def _format_of_content(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING_BYTES)
    except OSError:  # then the extension is what to complain about
        return None
    known = (name for name, entry in FORMATS.items() if entry.beginning)
    return next((name for name in known if re.match(FORMATS[name].beginning, beginning)), None)


def _known_extensions() -> str:
    return " ".join(ending for entry in FORMATS.values() for ending in entry.extensions)
