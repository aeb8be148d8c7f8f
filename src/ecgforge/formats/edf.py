"""EDF+, the European Data Format: 16-bit signals in data records, facts as annotations at the start.

Written here, 1 uV a step; read with pyedflib (the extra `edf`), which checks the whole header. pyedflib's own
writer is not used: it cuts annotations to 40 bytes. A synthetic record says so in the patient's name (SYNTHETIC),
in the recording field and in the annotation `synthetic: yes`.

Source: Kemp and Olivan, European data format 'plus' (EDF+), Clinical Neurophysiology 114 (2003), and the
specification at edfplus.info: a recording of unknown date has `Startdate X` and 01.01.85, an unknown fact is X.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int16

from ecgforge.errors import DataError
from ecgforge.formats.atomic import with_extension, write_whole
from ecgforge.formats.metadata import (
    RATE,
    exact_rate,
    metadata_of,
    millivolts_per_unit,
    rate_text,
    record_with_metadata,
    standard_leads,
)
from ecgforge.formats.optional import require_package
from ecgforge.formats.samples import microvolts
from ecgforge.leads import STANDARD_LEADS
from ecgforge.record import EcgRecord

_UNKNOWN_START = date(1985, 1, 1)
_ANNOTATION_BYTES = 400  # edflib, which pyedflib and others read with, cuts at 512
_RECORD_SECONDS = (0.001, 60.0)  # what edflib allows for a data record
_READING_PROBLEMS = (OSError, ValueError, TypeError, IndexError, RuntimeError, MemoryError)


# ---------------------------------------------------------------------------------------------- writing


def write(record: EcgRecord, path: Path) -> Path:
    """Write the record to `path`, with or without .edf; returns the file written.

    Raises:
        DataError: samples are missing or beyond +-32.767 mV, a lead is repeated, or a recording of over a minute
            has no whole number of seconds.
        LabelError: a statement does not exist.
    """
    path = with_extension(path, ".edf")
    signal = microvolts(record, path)
    samples, duration = _data_record(record, path)
    texts = list(_annotations({**metadata_of(record), RATE: rate_text(record)}))
    blocks = _annotation_blocks(texts, records=signal.shape[1] // samples, duration=float(duration))
    by_record = signal.reshape(len(signal), -1, samples).transpose(1, 0, 2).reshape(len(blocks), -1)
    data = np.concatenate([by_record.astype("<i2"), blocks], axis=1)
    header = _header(record, samples=samples, duration=duration, blocks=blocks)
    return write_whole(path, header + data.tobytes())


def _data_record(record: EcgRecord, path: Path) -> tuple[int, str]:
    """Samples of a data record and its duration in seconds as written: a second, else the whole recording."""
    length, rate = record.signal.shape[1], record.rate
    if float(rate).is_integer() and length % int(rate) == 0:
        return int(rate), "1"
    shortest, longest = _RECORD_SECONDS
    if not shortest <= length / rate <= longest:
        raise DataError(
            f"{path}: expected whole seconds at a whole sampling rate, or {shortest:g} to {longest:g} s, for EDF, "
            f"got {length} samples at {rate:g} Hz; cut the record"
        )
    return length, f"{length / rate:.8f}"[:8]


def _annotations(metadata: dict[str, str]) -> Iterator[str]:
    """`key: value` texts; a long value goes on under `key+`."""
    for key, value in metadata.items():
        for start in range(0, len(value), _ANNOTATION_BYTES):
            yield f"{key}{'+' if start else ''}: {value[start : start + _ANNOTATION_BYTES]}"


def _annotation_blocks(texts: Sequence[str], *, records: int, duration: float) -> Int16[np.ndarray, "records words"]:
    """The annotation signal: every data record begins with its own time, the first has the texts as well."""
    blocks = [f"+{record * duration:.6f}".rstrip("0").rstrip(".") + "\x14\x14\0" for record in range(records)]
    blocks[0] += "".join(f"+0\x14{text}\x14\0" for text in texts)
    width = max(map(len, blocks))
    width += width % 2
    content = b"".join(block.encode("ascii").ljust(width, b"\0") for block in blocks)
    return np.frombuffer(content, dtype="<i2").reshape(records, -1)


def _header(record: EcgRecord, *, samples: int, duration: str, blocks: Int16[np.ndarray, "records words"]) -> bytes:
    synthetic, patient = record.provenance.synthetic, record.patient
    sex = {"male": "M", "female": "F", None: "X"}[patient.sex]
    name = "SYNTHETIC" if synthetic else "X"
    age = "" if patient.age is None else f"age_{patient.age:g}"
    origin = f"{_subfield(record.provenance.source)} {'synthetic' if synthetic else ''}"
    signals = len(record.leads) + 1
    start = _UNKNOWN_START.strftime("%d.%m.%y")
    fields = [
        ("0", 8),
        (f"{_subfield(patient.patient_id)} {sex} X {name} {age}", 80),
        (f"Startdate X {_subfield(record.record_id)} X {origin}", 80),
        (start, 8),
        ("00.00.00", 8),
        (str(256 * (1 + signals)), 8),
        ("EDF+C", 44),
        (str(len(blocks)), 8),
        (duration, 8),
        (str(signals), 4),
    ]
    # The signals' fields: one kind after the other, each for all signals; the annotations' signal is the last.
    leads = len(record.leads)
    fields += [(text, 16) for text in (*(f"ECG {lead}" for lead in record.leads), "EDF Annotations")]
    fields += [("", 80)] * signals
    fields += [(text, 8) for text in (*["uV"] * leads, "")]
    for lowest, highest in (("-32768", "-1"), ("32767", "1")):
        fields += [(text, 8) for text in (*[lowest] * leads, highest)]
    fields += [("-32768", 8)] * signals + [("32767", 8)] * signals
    fields += [("", 80)] * signals
    fields += [(text, 8) for text in (*[str(samples)] * leads, str(blocks.shape[1]))]
    fields += [("", 32)] * signals
    return b"".join(text[:width].encode("ascii").ljust(width) for text, width in fields)


def _subfield(text: str | None) -> str:
    """A text as one word of at most 30 printable ASCII characters; the annotations have it in full."""
    return re.sub(r"[^!-~]+", "_", text or "")[:30] or "X"


# ---------------------------------------------------------------------------------------------- reading


def read(path: Path) -> EcgRecord:
    """Read the ECG leads of an EDF or EDF+ file, ours or anyone's; signals that are no ECG are left aside.

    Leads are known by labels such as "ECG II", "EKG V1", "aVR" and "MDC_ECG_LEAD_V5".

    Raises:
        DataError: no such file, not a sound EDF of one piece, no ECG lead, an ECG channel that is none of the
            twelve leads, leads of different rates or lengths, or a unit that is not of voltage; the message
            names the file.
        LabelError: a statement in our own annotations does not exist.
        MissingExtraError: pyedflib is not installed.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    pyedflib = require_package("pyedflib", extra="edf")
    _require_whole(path)
    try:
        with pyedflib.EdfReader(str(path)) as reader:
            return _record_of(reader, path)
    except _READING_PROBLEMS as problem:
        raise DataError(f"{path}: expected an EDF file in one piece, and cannot read it: {problem}") from problem


def _require_whole(path: Path) -> None:
    """Check that the file is as long as its header says; pyedflib would print its complaint."""
    try:
        with path.open("rb") as file:
            header = file.read(256)
            size, records, signals = (int(header[at : at + width]) for at, width in ((184, 8), (236, 8), (252, 4)))
            samples = file.read(256 * signals)[216 * signals : 224 * signals]
        samples_per_record = sum(int(samples[at : at + 8]) for at in range(0, 8 * signals, 8))
    except (OSError, ValueError) as problem:
        raise DataError(f"{path}: expected an EDF header, and cannot read it: {problem}") from problem
    expected, found = size + 2 * records * samples_per_record, path.stat().st_size
    if not header.startswith(b"0       ") or records < 1 or found != expected:
        raise DataError(f"{path}: expected an EDF file of {expected} bytes as its header says, got {found}")


def _record_of(reader: Any, path: Path) -> EcgRecord:
    labels = [label.strip() for label in reader.getSignalLabels()]
    rows = [row for row, label in enumerate(labels) if _is_ecg(label)]
    if not rows:
        raise DataError(f"{path}: expected an ECG lead such as 'ECG II', got {', '.join(labels) or 'no signal'}")
    leads = standard_leads([_lead_name(labels[row]) for row in rows], path)
    lengths = {(int(reader.getNSamples()[row]), float(reader.getSampleFrequency(row))) for row in rows}
    if len(lengths) > 1:
        found = ", ".join(f"{samples} samples at {rate:g} Hz" for samples, rate in sorted(lengths))
        raise DataError(f"{path}: expected all ECG leads at one rate, got {found}; resample them first")
    units = [millivolts_per_unit(reader.getPhysicalDimension(row), path) for row in rows]
    signal = np.stack([reader.readSignal(row) * unit for row, unit in zip(rows, units, strict=True)])
    metadata = _metadata(reader)
    ((_, rate),) = lengths
    return record_with_metadata(
        signal, rate=exact_rate(metadata, rate, path), leads=leads, metadata=metadata, path=path
    )


def _is_ecg(label: str) -> bool:
    return bool(re.match(r"(MDC_)?(ECG|EKG)", label, re.IGNORECASE)) or label.upper() in map(str.upper, STANDARD_LEADS)


def _lead_name(label: str) -> str:
    return re.sub(r"^(ECG|EKG)[ _-]*", "", label, flags=re.IGNORECASE)


def _metadata(reader: Any) -> dict[str, str]:
    """The annotations as we write them; of a file of other origin what its header says of the patient."""
    found: dict[str, str] = {}
    for text in reader.readAnnotations()[2]:
        key, _, value = str(text).partition(": ")
        if key.endswith("+"):
            found[key[:-1]] = found.get(key[:-1], "") + value
        else:
            found.setdefault(key, value)
    if found.get("synthetic") in ("yes", "no"):
        return found
    header = {"patient_id": reader.getPatientCode(), "Sex": str(reader.getSex()), "Age": _age(reader)}
    return {key: value for key, value in header.items() if value}


def _age(reader: Any) -> str:
    """Whole years at the recording, "" where one of the two dates is unknown."""
    start = reader.getStartdatetime()
    if not reader.getBirthdate() or start.date() == _UNKNOWN_START:
        return ""
    born = reader.getBirthdate(string=False)
    return str(start.year - born.year - ((start.month, start.day) < (born.month, born.day)))
