"""HL7 aECG, the annotated ECG in XML that the FDA takes: a rhythm series of digits, 1 uV a step.

A synthetic record says so in the document's text, in the subject's name (SYNTHETIC) and in a related observation.
Each fact of the record is a related observation, the statements are interpretation statements with their SNOMED CT
codes nested. There is no date: the time is relative and the effective time unknown. Reading takes no document
type declaration, so a file can define no entities, inside or outside.

Source: ANSI/HL7 V3 ECG R1-2004 (PORT_MT020001) and the HL7 aECG Implementation Guide, 21 March 2005: value =
origin + scale * digit. Lead codes are those of ISO/IEEE 11073-10101.
"""

import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int16

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
    statement_texts,
)
from ecgforge.formats.samples import microvolts
from ecgforge.record import EcgRecord
from ecgforge.snomed import snomed_code

_NAMESPACE = "urn:hl7-org:v3"
_SCHEMA_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
# Identifiers of code systems; the first is of our own names of facts, made from a UUID as ITU-T X.667 has it.
_OUR_FACTS = f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, 'ecgforge:facts').int}"
_MDC, _CPT, _ACT_CODES = "2.16.840.1.113883.6.24", "2.16.840.1.113883.6.12", "2.16.840.1.113883.5.4"
_LOINC, _SNOMED, _GENDERS = "2.16.840.1.113883.6.1", "2.16.840.1.113883.6.96", "2.16.840.1.113883.5.1"
_REPORTED_AGE = "21612-7"  # LOINC
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_PIECE = 64  # bytes
_SUBJECT = "componentOf/timepointEvent/componentOf/subjectAssignment/subject/trialSubject"


# ---------------------------------------------------------------------------------------------- writing


def write(record: EcgRecord, path: Path) -> Path:
    """Write the record to `path`, with or without .xml; returns the file written.

    Raises:
        DataError: samples are missing or beyond +-32.767 mV, or a lead is repeated.
        LabelError: a statement does not exist.
    """
    path = with_extension(path, ".xml")
    signal = microvolts(record, path)
    facts = {**metadata_of(record), RATE: rate_text(record)}
    # The same record gets the same identifier.
    content = signal.tobytes().hex() + repr((record.leads, sorted(facts.items())))
    root = ET.Element("AnnotatedECG", {"xmlns": _NAMESPACE, "xmlns:xsi": _SCHEMA_INSTANCE})
    _add(root, "id", root=str(uuid.uuid5(uuid.NAMESPACE_OID, content)))
    _add_code(root, "93000", _CPT, name="CPT-4")
    synthetic = record.provenance.synthetic
    _add(root, "text").text = "SYNTHETIC ECG, not measured on a person" if synthetic else "ECG"
    _add(root, "effectiveTime", nullFlavor="UNK")
    _add_subject(root, record)
    for key, value in facts.items():
        observation = _add(root, "controlVariable", "relatedObservation")
        _add_code(observation, key, _OUR_FACTS, name="ecgforge")
        _add(observation, "value", **{"xsi:type": "ST"}).text = value
    if record.patient.age is not None:
        observation = _add(root, "controlVariable", "relatedObservation")
        _add_code(observation, _REPORTED_AGE, _LOINC, name="LOINC", display="Age reported")
        _add(observation, "value", **{"xsi:type": "PQ", "value": f"{record.patient.age:g}", "unit": "a"})
    _add_series(root, record, signal)
    ET.indent(root)
    return write_whole(path, ET.tostring(root, encoding="utf-8", xml_declaration=True))


def _add(parent: ET.Element, *path: str, **attributes: str) -> ET.Element:
    """New elements one within the other; the attributes are the innermost's, which is returned."""
    for tag in path:
        parent = ET.SubElement(parent, tag)
    parent.attrib.update(attributes)
    return parent


def _add_code(parent: ET.Element, code: str, system: str, *, name: str, display: str = "") -> ET.Element:
    shown = {"displayName": display} if display else {}
    return _add(parent, "code", code=code, codeSystem=system, codeSystemName=name, **shown)


def _add_subject(root: ET.Element, record: EcgRecord) -> None:
    assignment = _add(root, "componentOf", "timepointEvent", "componentOf", "subjectAssignment")
    subject = _add(assignment, "subject", "trialSubject")
    identifier = record.patient.patient_id or record.record_id
    if identifier.isprintable() and identifier:
        _add(subject, "id", root=_OUR_FACTS, extension=identifier)
    else:
        _add(subject, "id", nullFlavor="UNK")
    person = _add(subject, "subjectDemographicPerson")
    if record.provenance.synthetic:
        _add(person, "name").text = "SYNTHETIC"
    if record.patient.sex is not None:
        gender = {"male": "M", "female": "F"}[record.patient.sex]
        _add(person, "administrativeGenderCode", code=gender, codeSystem=_GENDERS)
    trial = _add(assignment, "componentOf", "clinicalTrial")
    _add(trial, "id", nullFlavor="NA")


def _add_series(root: ET.Element, record: EcgRecord, signal: Int16[np.ndarray, "C L"]) -> None:
    series = _add(root, "component", "series")
    _add_code(series, "RHYTHM", _ACT_CODES, name="ActCode", display="Rhythm Waveforms")
    _add(series, "effectiveTime", nullFlavor="UNK")
    if record.provenance.synthetic:
        device = _add(series, "author", "seriesAuthor", "manufacturedSeriesDevice")
        _add(device, "manufacturerModelName").text = "ecgforge, a generator of synthetic ECGs"
    sequences = _add(series, "component", "sequenceSet")
    time = _add(sequences, "component", "sequence")
    _add_code(time, "TIME_RELATIVE", _ACT_CODES, name="ActCode")
    value = _add(time, "value", **{"xsi:type": "GLIST_PQ"})
    _add(value, "head", value="0", unit="s")
    _add(value, "increment", value=np.format_float_positional(1 / record.rate, trim="-"), unit="s")
    for lead, row in zip(record.leads, signal.tolist(), strict=True):
        sequence = _add(sequences, "component", "sequence")
        _add_code(sequence, f"MDC_ECG_LEAD_{lead.upper()}", _MDC, name="MDC")
        value = _add(sequence, "value", **{"xsi:type": "SLIST_PQ"})
        _add(value, "origin", value="0", unit="uV")
        _add(value, "scale", value="1", unit="uV")
        _add(value, "digits").text = " ".join(map(str, row))
    _add_statements(series, record)


def _add_statements(series: ET.Element, record: EcgRecord) -> None:
    texts = statement_texts(record)
    if not texts:
        return
    interpretation = _add(series, "subjectOf", "annotationSet", "component", "annotation")
    _add_code(interpretation, "MDC_ECG_INTERPRETATION", _MDC, name="MDC")
    for code, text in texts.items():
        item = _add(interpretation, "component", "annotation")
        _add_code(item, "MDC_ECG_INTERPRETATION_STATEMENT", _MDC, name="MDC")
        _add(item, "value", **{"xsi:type": "ST"}).text = f"{code}: {text}"
        concept = snomed_code(code)
        if concept is not None:
            nested = _add(item, "component", "annotation")
            _add_code(nested, concept, _SNOMED, name="SNOMED CT")


# ---------------------------------------------------------------------------------------------- reading


def read(path: Path) -> EcgRecord:
    """Read an aECG file, ours or anyone's: its one rhythm series.

    Raises:
        DataError: no such file, not an aECG, a document type declaration, several rhythm series, a sequence that
            is none of the twelve leads, leads of different lengths, or a unit that is not of voltage; the
            message names the file.
        LabelError: a statement among our own facts does not exist.
    """
    root = _parse(path)
    if root.tag != "AnnotatedECG":
        raise DataError(f"{path}: expected an HL7 aECG, whose root is AnnotatedECG, got {root.tag[:40]!r}")
    sequences = _sequences(root, path)
    times = [entry for entry in sequences if _code(entry).startswith("TIME_")]
    signals = [entry for entry in sequences if not _code(entry).startswith("TIME_")]
    leads = standard_leads([_code(entry) for entry in signals], path)
    rows = [_millivolts(entry, lead, path) for entry, lead in zip(signals, leads, strict=True)]
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1:
        raise DataError(f"{path}: expected leads of one length, got {', '.join(map(str, lengths))} samples")
    metadata = _metadata(root)
    rate = exact_rate(metadata, _rate(times, path), path)
    return record_with_metadata(np.stack(rows), rate=rate, leads=leads, metadata=metadata, path=path)


class _Builder(ET.TreeBuilder):
    """Builds the tree with bare names, and refuses a document type."""

    inside = False  # the root element has begun, after which no document type can come

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise DataError("expected no document type declaration (<!DOCTYPE ...>), got one; remove it")

    def start(self, tag: str, attrs: dict[str, str], /) -> ET.Element:
        self.inside = True
        return super().start(_bare(tag), {_bare(name): value for name, value in attrs.items()})

    def end(self, tag: str, /) -> ET.Element:
        return super().end(_bare(tag))


def _bare(name: str) -> str:
    return name.rpartition("}")[2]


def _parse(path: Path) -> ET.Element:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    builder = _Builder()
    parser = ET.XMLParser(target=builder)
    try:
        content, at = path.read_bytes(), 0
        # In small pieces up to the root, because a parser goes on to the end of a piece and expands its entities.
        while at < len(content) and not builder.inside:
            parser.feed(content[at : at + _PIECE])
            at += _PIECE
        parser.feed(content[at:])
        root: ET.Element = parser.close()
    except DataError as problem:
        raise DataError(f"{path}: {problem}") from problem
    except (OSError, ET.ParseError, ValueError, LookupError) as problem:
        raise DataError(f"{path}: expected XML, and cannot read it: {problem}") from problem
    return root


def _sequences(root: ET.Element, path: Path) -> list[ET.Element]:
    rhythms = [series for series in root.iterfind("component/series") if _code(series) != "REPRESENTATIVE_BEAT"]
    sets = [found for series in rhythms for found in series.iterfind("component/sequenceSet")]
    if len(sets) != 1:
        raise DataError(f"{path}: expected one rhythm series with one set of sequences, got {len(sets)}")
    return sets[0].findall("component/sequence")


def _code(entry: ET.Element) -> str:
    code = entry.find("code")
    return "" if code is None else code.get("code", "").upper()


def _quantity(entry: ET.Element, name: str, path: Path) -> tuple[float, str]:
    """Value and unit of one of the parts of a sequence's value, such as its scale."""
    part = entry.find(f"value/{name}")
    try:
        return float("" if part is None else part.get("value", "")), "" if part is None else part.get("unit", "")
    except ValueError as problem:
        raise DataError(f"{path}: expected a number as the {name} of {_code(entry)}, got none") from problem


def _rate(times: list[ET.Element], path: Path) -> float:
    if len(times) != 1:
        raise DataError(f"{path}: expected one time sequence, got {len(times)}")
    step, unit = _quantity(times[0], "increment", path)
    if unit not in _SECONDS or not step > 0:
        raise DataError(f"{path}: expected a time increment above 0 in s, ms or us, got {step:g} {unit!r}")
    return float(f"{1 / (step * _SECONDS[unit]):.9g}")  # 1 / 0.001 may be an ulp off 1000


def _millivolts(entry: ET.Element, lead: str, path: Path) -> Float[np.ndarray, " L"]:
    digits = entry.findtext("value/digits") or ""
    try:
        steps = np.array(digits.split(), dtype=np.float64)
    except ValueError as problem:
        raise DataError(f"{path}: expected numbers as the digits of lead {lead}: {problem}") from problem
    scale, unit = _quantity(entry, "scale", path)
    origin, origin_unit = _quantity(entry, "origin", path)
    return steps * (scale * millivolts_per_unit(unit, path)) + origin * millivolts_per_unit(origin_unit, path)


def _metadata(root: ET.Element) -> dict[str, str]:
    """Our own facts; of a file of other origin what it says of the subject."""
    facts = dict(_facts(root, _OUR_FACTS))
    if facts:
        return facts
    subject = root.find(_SUBJECT)
    if subject is None:
        return {}
    identifier, gender = subject.find("id"), subject.find("subjectDemographicPerson/administrativeGenderCode")
    found = {
        "patient_id": "" if identifier is None else identifier.get("extension", ""),
        "Sex": "" if gender is None else gender.get("code", ""),
        "Age": dict(_facts(root, _LOINC)).get(_REPORTED_AGE, ""),
    }
    return {key: value for key, value in found.items() if value}


def _facts(root: ET.Element, system: str) -> Iterator[tuple[str, str]]:
    """Code and value of the related observations whose code is of this system."""
    for observation in root.iterfind("controlVariable/relatedObservation"):
        code, value = observation.find("code"), observation.find("value")
        if code is not None and value is not None and code.get("codeSystem") == system:
            yield code.get("code", ""), value.text or value.get("value") or ""
