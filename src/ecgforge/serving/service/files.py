"""Records to files that a client gets, and files that a client sends to records.

A client's file name is never used as a path: only its last part, if it is harmless, names a file in a folder made for
this one request. What a WFDB header names must be among the files that came with it.
"""

import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ecgforge.ecg_paper import save_ecg
from ecgforge.errors import DataError, EcgforgeError
from ecgforge.formats import FORMATS, read_record, write_record
from ecgforge.record import EcgRecord

MEDIA_TYPES = {
    ".csv": "text/csv",
    ".npz": "application/octet-stream",
    ".edf": "application/octet-stream",
    ".dcm": "application/dicom",
    ".xml": "application/xml",
    ".parquet": "application/vnd.apache.parquet",
    ".zip": "application/zip",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".pdf": "application/pdf",
}

_HARMLESS_NAME = re.compile(r"[A-Za-z0-9_][-A-Za-z0-9_]{0,99}(\.[A-Za-z0-9]{1,10})?")
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the same records give the same file
_LARGEST_INFLATED = 64 * 2**20  # bytes that a small file may grow to when it is read
_MOST_SAMPLES = 10**7  # of a WFDB lead


@dataclass(frozen=True)
class Download:
    """A file for the client."""

    name: str
    media_type: str
    content: bytes


# ------------------------------------------------------------------------------------------- to a client


def record_files(records: Sequence[EcgRecord], *, names: Sequence[str], format: str) -> Download:
    """The records in a file format; several files come as a zip.

    Args:
        records: At least one.
        names: File names without extension, one a record.
        format: A name out of formats.FORMATS.

    Raises:
        DataError: the format cannot hold a record.
        MissingExtraError: the format needs a package that is not installed.
    """
    with TemporaryDirectory(prefix="ecgforge-") as place:
        folder = Path(place)
        with _paths_hidden(folder):
            for record, name in zip(records, names, strict=True):
                write_record(record, folder / name, format=format)
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    if len(files) == 1:
        ((name, content),) = files.items()
        return _download(name, content)
    return _download(f"{names[0] if len(names) == 1 else 'ecgs'}-{format}.zip", _zip(files))


def record_picture(record: EcgRecord, *, name: str, format: str, layout: str) -> Download:
    """The record on ECG paper.

    Raises:
        DataError: the record cannot be drawn.
    """
    with TemporaryDirectory(prefix="ecgforge-") as place:
        path = Path(place) / f"{name}.{format}"
        save_ecg(record, path, layout=layout)
        return _download(path.name, path.read_bytes())


def _download(name: str, content: bytes) -> Download:
    return Download(name, MEDIA_TYPES[Path(name).suffix], content)


def _zip(files: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), data, zipfile.ZIP_DEFLATED)
    return content.getvalue()


# ----------------------------------------------------------------------------------------- from a client


def uploaded_record(files: Sequence[tuple[str, bytes]]) -> tuple[EcgRecord, str]:
    """The record in the files a client sent, and their name without extension.

    Args:
        files: Name and content of a file, or of a WFDB header and its signal file.

    Raises:
        DataError: no files, a name that is not harmless, or no usable record in them.
        LabelError, MissingExtraError: as formats.read_record.
    """
    contents = dict(files)
    if not files or len(contents) < len(files):
        raise DataError("expected one file, or a WFDB header (.hea) with its signal file; choose them together")
    for name in contents:
        if not _HARMLESS_NAME.fullmatch(name):
            raise DataError(
                f"expected a file name of letters, digits, - and _ with an extension, got {name[:60]!r}; rename it"
            )
    main = _main_file(list(contents))
    _require_small(main, contents)
    with TemporaryDirectory(prefix="ecgforge-") as place:
        folder = Path(place)
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        with _paths_hidden(folder):
            return read_record(folder / main), Path(main).stem


def _main_file(names: Sequence[str]) -> str:
    """The one to read: the header of a WFDB record, else the only file."""
    headers = [name for name in names if name.endswith(".hea")]
    if len(headers) == 1:
        return headers[0]
    if len(names) == 1 and Path(names[0]).suffix not in FORMATS["wfdb"].extensions:
        return names[0]
    raise DataError(
        f"expected one file, or a WFDB header (.hea) with its signal file, got {', '.join(names)[:200]}; "
        "choose the files of one record"
    )


def _require_small(main: str, contents: Mapping[str, bytes]) -> None:
    """Refuse files that reach for others or would grow out of proportion."""
    content = contents[main]
    if main.endswith(".hea"):
        _require_own_files(content, contents)
    elif zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            inflated = sum(entry.file_size for entry in archive.infolist())
        if inflated > _LARGEST_INFLATED:
            raise DataError(f"expected at most {_LARGEST_INFLATED} bytes in {main}, got {inflated}; send it in parts")


def _require_own_files(header: bytes, contents: Mapping[str, bytes]) -> None:
    # Lines as the WFDB reader sees them, so that nothing is hidden from this check.
    text = header.decode("ascii", errors="ignore")
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    named = {fields[0] for fields in lines[1:]}
    missing = sorted(named - contents.keys())
    if missing:
        raise DataError(
            f"expected the files that the header names, got none called {', '.join(missing)[:200]!r}; "
            "choose header and signal file together"
        )
    length = lines[0][3] if lines and len(lines[0]) > 3 else "0"
    if not length.isdecimal() or int(length[:20]) > _MOST_SAMPLES:
        raise DataError(f"expected at most {_MOST_SAMPLES} samples a lead, got {length[:20]}; send it in parts")


@contextmanager
def _paths_hidden(folder: Path) -> Iterator[None]:
    """Takes the service's own folder out of error messages."""
    try:
        yield
    except EcgforgeError as error:
        raise type(error)(str(error).replace(f"{folder}/", "")) from error
