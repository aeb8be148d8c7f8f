"""WFDB, PhysioNet's format: a text header (.hea) and a binary signal file (.dat, or .mat in the Challenges).

Written as format 16, 1000 steps a mV (1 uV a step), as PTB-XL is. What a record says besides its samples goes
into the header's comment lines as `# key: value`. Reading is wfdb's; checks and units are ours, because wfdb
reads a gain of 0 as 200 and a damaged file as whatever is in it.

Source: header(5) and signal(5) of the WFDB Applications Guide.
"""

import math
import re
import zlib
from pathlib import Path

import numpy as np
import wfdb
from jaxtyping import Float, Int16

from ecgforge.errors import DataError
from ecgforge.formats.atomic import write_whole
from ecgforge.formats.metadata import metadata_of, millivolts_per_unit, rate_text, record_with_metadata
from ecgforge.formats.samples import microvolts
from ecgforge.record import EcgRecord

_STEPS_PER_MV = 1000
_BYTES_PER_SAMPLE = {"8": 1.0, "16": 2.0, "61": 2.0, "80": 1.0, "160": 2.0, "24": 3.0, "32": 4.0, "212": 1.5}
_ANY_READING_PROBLEM = (ValueError, IndexError, KeyError, TypeError, AttributeError, OSError, zlib.error)


def write(record: EcgRecord, path: Path) -> Path:
    """Write NAME.hea and NAME.dat; the header last, so that a header never names an unwritten signal.

    Args:
        record: Any subset of the twelve leads, at any rate.
        path: NAME, with or without .hea or .dat; NAME is letters, digits, - and _.

    Returns:
        The header file.

    Raises:
        DataError: samples are missing or beyond +-32.767 mV, or the name is not a WFDB name.
        LabelError: a statement does not exist.
    """
    base = _base_of(path)
    if not re.fullmatch(r"[-A-Za-z0-9_]+", base.name):
        raise DataError(f"{path}: expected a WFDB record name of letters, digits, - and _, got {base.name!r}")
    steps = microvolts(record, path)
    header = _header_text(record, steps, base.name)
    write_whole(base.with_name(base.name + ".dat"), steps.T.astype("<i2").tobytes())
    return write_whole(base.with_name(base.name + ".hea"), header.encode("ascii"))


def read(path: Path) -> EcgRecord:
    """Read a WFDB record, ours or anyone's: signals in mV, leads by their standard names.

    Args:
        path: NAME.hea, NAME.dat, NAME.mat or the bare NAME.

    Raises:
        DataError: a file is missing, cut short or at odds with its header, a sample is missing, a gain is
            zero, a unit is not of voltage, a lead is unknown or repeated; the message names the file.
        LabelError: a statement in our own comment lines does not exist.
    """
    header_path = _base_of(path).with_name(_base_of(path).name + ".hea")
    header, values = read_checked(header_path)
    units = np.array([millivolts_per_unit(unit, header_path) for unit in header.units])
    return record_with_metadata(
        values * units[:, np.newaxis],
        rate=float(header.fs),
        leads=header.sig_name,
        metadata=_comments(header.comments),
        path=header_path,
    )


def read_checked(path: Path, *, seconds: float | None = None) -> tuple[wfdb.Record, Float[np.ndarray, "C L"]]:
    """A record's header, and its signals in their own units, NaN where a sample is missing.

    Args:
        path: The header, NAME.hea.
        seconds: How much of the beginning to read, None for all.

    Raises:
        DataError: a file is missing, cut short or at odds with its header, or a gain is zero; the message
            names the file.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such WFDB header")
    _require_plain_header(path)
    base = str(path.with_suffix(""))
    try:
        header = wfdb.rdheader(base)
        whole = seconds is None or header.sig_len is None or seconds * header.fs >= header.sig_len
        found = wfdb.rdrecord(base, sampto=None if whole else math.ceil(seconds * header.fs), physical=False)
    except _ANY_READING_PROBLEM as problem:
        raise _why_unreadable(path, problem) from problem
    _require_whole_files(header, path)
    if whole:  # a checksum is of all samples
        _require_own_signal(found, path)
    return header, found.dac(return_res=64).T


def _base_of(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() in (".hea", ".dat", ".mat") else path


def _header_text(record: EcgRecord, steps: Int16[np.ndarray, "C L"], name: str) -> str:
    lines = [f"{name} {len(record.leads)} {rate_text(record)} {steps.shape[1]}"]
    for lead, row in zip(record.leads, steps, strict=True):
        checksum = row.sum(dtype=np.int64).astype(np.int16)  # the sum's low 16 bits, signed, as header(5) defines it
        lines.append(f"{name}.dat 16 {_STEPS_PER_MV}(0)/mV 16 0 {row[0]} {checksum} 0 {lead}")
    lines += [f"# {key}: {value}" for key, value in metadata_of(record).items()]
    return "\n".join(lines) + "\n"


def _require_plain_header(path: Path) -> None:
    """Check what wfdb would pass over: one segment, every signal line there, no gain of zero.

    wfdb reads a gain of zero or none as 200 steps a mV.
    """
    text = path.read_text(encoding="ascii", errors="ignore")
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines or len(lines[0]) < 2 or not lines[0][1].isdigit():
        raise DataError(f"{path}: expected a WFDB header with the number of signals in its first line")
    signals, signal_lines = int(lines[0][1]), lines[1:]
    if "/" in lines[0][0]:
        raise DataError(f"{path}: expected a record in one piece, got one of several segments; join them first")
    if signals == 0:
        raise DataError(f"{path}: expected at least one signal, got none")
    if len(signal_lines) != signals:
        raise DataError(f"{path}: expected {signals} signal lines as its first line says, got {len(signal_lines)}")
    for fields in signal_lines:
        gain = re.match(r"[-+]?[\d.]+(?:e[-+]?\d+)?", fields[2], re.IGNORECASE) if len(fields) > 2 else None
        if gain is None or float(gain.group()) == 0:
            raise DataError(f"{path}: expected a gain in steps per mV, got zero or none in {' '.join(fields)!r}")


def _why_unreadable(path: Path, problem: Exception) -> DataError:
    """The particular reason where a signal file is at fault, else wfdb's own words."""
    try:
        header = wfdb.rdheader(str(path.with_suffix("")))
        _require_whole_files(header, path)
    except DataError as reason:
        return reason
    except _ANY_READING_PROBLEM as reason:
        return DataError(f"{path}: expected a WFDB header, and cannot read it: {reason}")
    return DataError(f"{path}: its signals cannot be read: {problem}")


def _require_whole_files(header: wfdb.Record, path: Path) -> None:
    """Check that every signal file is there and as long as the header says."""
    for name in dict.fromkeys(header.file_name):
        signal_path = path.parent / name
        if not signal_path.is_file():
            raise DataError(f"{signal_path}: no such signal file, though {path.name} names it")
        rows = [row for row, other in enumerate(header.file_name) if other == name]
        code = str(header.fmt[rows[0]])
        if code not in _BYTES_PER_SAMPLE or header.sig_len is None:
            continue  # compressed, or a length that wfdb takes from the file itself
        samples = header.sig_len * sum(header.samps_per_frame[row] for row in rows)
        expected = int(np.ceil(samples * _BYTES_PER_SAMPLE[code])) + (header.byte_offset[rows[0]] or 0)
        found = signal_path.stat().st_size
        # Packed formats may pad their end by a byte or two.
        if found < expected or (code == "16" and found > expected):
            raise DataError(f"{signal_path}: expected {expected} bytes as {path.name} says, got {found}")


def _require_own_signal(found: wfdb.Record, path: Path) -> None:
    """Refuse a signal file that is not the header's: first sample and checksum both differ.

    Either alone is no proof, because headers edited by hand or by other tools may have one of them wrong.
    """
    for lead, row, first, checksum, averaged in zip(
        found.sig_name, found.d_signal.T, found.init_value, found.checksum, found.samps_per_frame, strict=True
    ):
        # Of several samples a frame wfdb gives the mean, which has neither.
        if not row.size or first is None or checksum is None or averaged > 1:
            continue
        if row[0] != first and (int(row.sum(dtype=np.int64)) - checksum) % 2**16:
            raise DataError(
                f"{path}: expected the signal to start at {first} with checksum {checksum} in lead {lead}, "
                f"got {row[0]}; the signal file belongs to another header"
            )


def _comments(lines: list[str]) -> dict[str, str]:
    pairs = (line.lstrip("# ").partition(":") for line in lines)
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}
