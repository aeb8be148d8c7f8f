"""What a record says besides its samples, as `key: value` texts that every format carries.

Keys are those below; `Age` and `Sex` are spelled as PhysioNet's headers spell them. Values are plain ASCII:
anything else, and line ends, are written as Python escapes, because WFDB headers are read as ASCII.

For readers of other programs each statement also stands there under its own code, with description and SNOMED CT
code, and `Dx` has the SNOMED CT codes as the PhysioNet/CinC Challenges write them; reading takes `statements`.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ecgforge.errors import DataError, LabelError
from ecgforge.facts import LARGEST_AGE
from ecgforge.labels import format_statements, parse_statements, statement
from ecgforge.leads import canonical_lead
from ecgforge.record import EcgRecord, Patient, Provenance
from ecgforge.snomed import snomed_code

RATE = "rate_hz"  # the exact sampling rate, where a format keeps a rounded one
MILLIVOLTS_PER_UNIT = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "v": 1e3}  # micro sign and Greek mu

_RATE_ROUNDING = 1e-3
_SEXES = {"m": "male", "male": "male", "f": "female", "female": "female"}


def metadata_of(record: EcgRecord) -> dict[str, str]:
    """Everything a record says besides signal, rate and leads; absent facts are left out.

    Grades and likelihoods keep six significant digits.

    Raises:
        LabelError: a statement does not exist.
    """
    for code in (*record.statements, *record.likelihoods):
        statement(code)
    patient, origin = record.patient, record.provenance
    facts: dict[str, str | None] = {
        "synthetic": "yes" if origin.synthetic else "no",
        "record_id": record.record_id,
        "statements": format_statements(record.statements),
        **statement_texts(record),
        "Dx": ",".join(filter(None, map(snomed_code, record.statements))),
        "likelihoods": ",".join(f"{code}:{value:g}" for code, value in record.likelihoods.items()),
        "source": origin.source,
        "seed": _number(origin.seed),
        "index": _number(origin.index),
        "fold": _number(origin.fold),
        "patient_id": patient.patient_id,
        "Age": _number(patient.age),
        "Sex": patient.sex,
    }
    return {key: _escape(value) for key, value in facts.items() if value}


def statement_texts(record: EcgRecord) -> dict[str, str]:
    """The record's statements in words: {"AFIB": "atrial fibrillation (SNOMED CT 164889003), grade 0.5"}."""
    texts = {}
    for code, grade in record.statements.items():
        concept = snomed_code(code)
        known = f" (SNOMED CT {concept})" if concept else ""
        texts[code] = statement(code).description + known + (f", grade {grade:g}" if grade < 1 else "")
    return texts


def rate_text(record: EcgRecord) -> str:
    """The sampling rate in Hz, exact, without exponent."""
    return np.format_float_positional(record.rate, trim="-")


def exact_rate(metadata: Mapping[str, str], found: float, path: Path) -> float:
    """The rate under RATE, where there is one; else the one found in a format's own fields, Hz.

    Raises:
        DataError: the two do not belong together, or there is no rate above 0 Hz; the message names the file.
    """
    try:
        rate = float(metadata.get(RATE, found))
    except ValueError as problem:
        raise DataError(f"{path}: expected a number for {RATE}, got {metadata[RATE]!r}") from problem
    if not 0 < found < math.inf:
        raise DataError(f"{path}: expected a sampling rate above 0 Hz, got {found}")
    if not abs(rate / found - 1) < _RATE_ROUNDING:
        raise DataError(f"{path}: expected samples at {rate:g} Hz as {RATE} says, got {found:g} Hz")
    return rate


def record_with_metadata(
    signal: Float[np.ndarray, "C L"],
    *,
    rate: float,
    leads: Sequence[str],
    metadata: Mapping[str, str],
    path: Path,
) -> EcgRecord:
    """The record of a signal (mV) and the texts found beside it; inverse of metadata_of.

    Files of other origin carry no `synthetic` line; they get their file name as record_id. Keys that are not
    ours are left aside.

    Raises:
        DataError: lead names, samples or a value are not usable; the message names the file.
        LabelError: a statement does not exist; the message names the file.
    """
    known = {key.lower(): _unescape(value) for key, value in metadata.items()}
    ours = known.get("synthetic") in ("yes", "no")
    names = standard_leads(leads, path)
    require_finite(signal, names, path)
    try:
        return EcgRecord(
            signal=signal.astype(np.float32),
            rate=rate,
            leads=names,
            record_id=known.get("record_id", "" if ours else path.stem),
            statements=parse_statements(known["statements"]) if "statements" in known else {},
            likelihoods=_likelihoods(known.get("likelihoods", "")),
            patient=Patient(
                patient_id=known.get("patient_id"),
                age=_age(known.get("age", "")),
                sex=_SEXES.get(known.get("sex", "").lower()),
            ),
            provenance=Provenance(
                synthetic=known.get("synthetic") == "yes",
                source=known.get("source", ""),
                seed=_whole(known, "seed"),
                index=_whole(known, "index"),
                fold=_whole(known, "fold"),
            ),
        )
    except (DataError, LabelError) as problem:
        raise type(problem)(f"{path}: {problem}") from problem


def standard_leads(names: Sequence[str], path: Path) -> tuple[str, ...]:
    """Standard spelling of a file's lead names.

    Raises:
        DataError: none, an unknown or a repeated lead; the message names the file.
    """
    if not names:
        raise DataError(f"{path}: expected at least one ECG lead, got none")
    try:
        standard = tuple(canonical_lead(name) for name in names)
    except DataError as problem:
        raise DataError(f"{path}: {problem}") from problem
    repeated = sorted({name for name in standard if standard.count(name) > 1})
    if repeated:
        raise DataError(f"{path}: expected each lead once, got {' '.join(repeated)} more than once")
    return standard


def require_finite(signal: Float[np.ndarray, "C L"], leads: Sequence[str], path: Path) -> None:
    """Check that a signal has samples and none is missing.

    Raises:
        DataError: no samples, NaN or infinity; the message names the file and the lead.
    """
    if signal.shape[1] == 0:
        raise DataError(f"{path}: expected samples, got none")
    for name, row in zip(leads, signal, strict=True):
        missing = int(np.count_nonzero(~np.isfinite(row)))
        if missing:
            raise DataError(f"{path}: expected a number for every sample, got {missing} missing ones in lead {name}")


def millivolts_per_unit(unit: str, path: Path) -> float:
    """What one `unit` (mV, uV or V) is in mV.

    Raises:
        DataError: another unit; the message names the file.
    """
    factor = MILLIVOLTS_PER_UNIT.get(unit.strip().lower())
    if factor is None:
        raise DataError(f"{path}: expected signals in mV, uV or V, got {unit!r}")
    return factor


def _number(value: int | float | None) -> str | None:
    if value is None or math.isnan(value):
        return None
    return repr(value).removesuffix(".0")


def _escape(text: str) -> str:
    plain = text.encode("unicode_escape").decode("ascii")
    # Readers strip spaces and comment signs at the ends, spreadsheets commas.
    kept = plain.strip(" ,#")
    start = len(plain) - len(plain.lstrip(" ,#"))
    outside = (plain[:start], plain[start + len(kept) :])
    before, after = ("".join(f"\\x{ord(letter):02x}" for letter in part) for part in outside)
    return before + kept + after


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text.strip()
    try:
        return text.strip().encode("ascii").decode("unicode_escape")
    except UnicodeError:  # a foreign file's own backslashes
        return text.strip()


def _likelihoods(text: str) -> dict[str, float]:
    pairs = (item.rpartition(":") for item in text.split(",") if item)
    try:
        return {statement(code).code: float(value) for code, _, value in pairs}
    except ValueError as problem:
        raise DataError(f"expected likelihoods such as NORM:100,SR:0, got {text!r}") from problem


def _age(text: str) -> float | None:
    try:
        age = float(text)
    except ValueError:  # "Unknown" and the like in foreign files
        return None
    return age if 0 <= age <= LARGEST_AGE else None


def _whole(known: Mapping[str, str], key: str) -> int | None:
    if key not in known:
        return None
    try:
        return int(known[key])
    except ValueError as problem:
        raise DataError(f"expected a whole number for {key}, got {known[key]!r}") from problem
