"""DICOM ECG waveforms: one multiplex group of 16-bit samples, 1 uV a step, with annotations.

The storage class follows from what the standard lets each hold: 12-Lead ECG at 200 to 1000 Hz up to 16384 samples,
General ECG at those rates for longer records, Ambulatory ECG at 50 to under 200 Hz. Synthetic records have
Synthetic Data (0008,001C) YES, the patient's name SYNTHETIC, Content Qualification RESEARCH and no identity to
remove. A statement is a text annotation, and a coded finding where SNOMED CT has a code. All facts stand as
`key: value` lines in the private block ECGFORGE, from which reading takes them.

The record has no date, but the standard wants some: 1900-01-01. Identifiers are made from the content: the same
record gives the same file.

Source: DICOM PS3.3 A.34.3 to A.34.5 (storage classes), C.10.8 to C.10.10 (waveform modules), C.12.1 (Synthetic
Data); PS3.16 CID 3001 (lead codes, ISO/IEEE 11073-10102). Reading and encoding are pydicom's (the extra `dicom`).
"""

import hashlib
import io
import re
import struct
import warnings
from collections.abc import Iterator
from importlib import metadata as package_metadata
from pathlib import Path
from typing import Any

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
from ecgforge.formats.optional import require_package
from ecgforge.formats.samples import microvolts
from ecgforge.labels import statement
from ecgforge.record import EcgRecord
from ecgforge.snomed import snomed_code

TWELVE_LEAD = "1.2.840.10008.5.1.4.1.1.9.1.1"
GENERAL = "1.2.840.10008.5.1.4.1.1.9.1.2"
AMBULATORY = "1.2.840.10008.5.1.4.1.1.9.1.3"
_GENERAL_32_BIT = "1.2.840.10008.5.1.4.1.1.9.1.4"
_READ_CLASSES = (TWELVE_LEAD, GENERAL, AMBULATORY, _GENERAL_32_BIT)

# Transfer syntaxes read: little endian. A deflated file may be of any size once inflated, and none is an ECG's.
_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"

# The number in the lead codes MDC 2:n and SCPECG 5.6.3-9-n.
_LEAD_NUMBERS = {"I": 1, "II": 2, "III": 61, "aVR": 62, "aVL": 63, "aVF": 64} | {f"V{n}": n + 2 for n in range(1, 7)}
_LEADS_BY_NUMBER = {number: lead for lead, number in _LEAD_NUMBERS.items()}

_PRIVATE_GROUP, _PRIVATE_CREATOR, _PRIVATE_FACTS = 0x0099, "ECGFORGE", 0x01
_NO_DATE, _NO_TIME = "19000101", "000000"
_SAMPLE_TYPES = {("SB", 8): "i1", ("SS", 16): "<i2", ("SL", 32): "<i4"}
_BEAT_LABELS = ("MEDIAN", "AVERAGE", "REPRESENTATIVE")  # groups of one averaged beat, not of the recording
_SEXES = {"male": "M", "female": "F"}
_READING_PROBLEMS = (
    *(OSError, ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError, RecursionError),
    *(NotImplementedError, MemoryError, EOFError, struct.error),
)


# ---------------------------------------------------------------------------------------------- writing


def write(record: EcgRecord, path: Path) -> Path:
    """Write the record to `path`, with or without .dcm; returns the file written.

    Raises:
        DataError: samples are missing or beyond +-32.767 mV, a lead is repeated, or the rate is outside what
            DICOM holds (50 to 1000 Hz).
        LabelError: a statement does not exist.
        MissingExtraError: pydicom is not installed.
    """
    path = with_extension(path, ".dcm")
    signal = microvolts(record, path)
    storage_class = _storage_class(record, path)
    pydicom = require_package("pydicom", extra="dicom")
    facts = {**metadata_of(record), RATE: rate_text(record)}
    lines = "\n".join(f"{key}: {value}" for key, value in facts.items())
    digest = hashlib.sha256(lines.encode() + " ".join(record.leads).encode() + signal.tobytes()).hexdigest()
    dataset = pydicom.Dataset()
    _identify(dataset, storage_class, digest)
    _describe(dataset, record)
    dataset.WaveformSequence = [_multiplex_group(record, signal)]
    annotations = list(_annotations(record))
    if annotations:
        dataset.WaveformAnnotationSequence = annotations
    block = dataset.private_block(_PRIVATE_GROUP, _PRIVATE_CREATOR, create=True)
    block.add_new(_PRIVATE_FACTS, "UT", lines)
    content = io.BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return write_whole(path, content.getvalue())


def _storage_class(record: EcgRecord, path: Path) -> str:
    if 200 <= record.rate <= 1000:
        return TWELVE_LEAD if record.signal.shape[1] <= 16384 else GENERAL
    if 50 <= record.rate < 200:
        return AMBULATORY
    raise DataError(f"{path}: expected a sampling rate of 50 to 1000 Hz for DICOM, got {record.rate:g} Hz; resample it")


def _identify(dataset: Any, storage_class: str, digest: str) -> None:
    """What the file is: class, identifiers and the dates that have to be there."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = storage_class
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[digest, "instance"])
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[digest, "study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[digest, "series"])
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.Modality = "ECG"
    dataset.ContentDate, dataset.ContentTime = _NO_DATE, _NO_TIME
    dataset.AcquisitionDateTime = _NO_DATE + _NO_TIME
    dataset.StudyDate = dataset.StudyTime = dataset.StudyID = dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.SeriesNumber = dataset.InstanceNumber = "1"
    dataset.AcquisitionContextSequence = []


def _describe(dataset: Any, record: EcgRecord) -> None:
    """Whom and what it is of, and whether it was measured at all."""
    origin, patient = record.provenance, record.patient
    dataset.SyntheticData = "YES" if origin.synthetic else "NO"
    name = "SYNTHETIC" if origin.synthetic else ""
    dataset.PatientName = name
    dataset.PatientID = _short(patient.patient_id or record.record_id or name)
    dataset.PatientBirthDate = ""
    dataset.PatientSex = _SEXES.get(patient.sex or "", "")
    if patient.age is not None and 0 <= patient.age < 999.5:
        dataset.PatientAge = f"{round(patient.age):03d}Y"
    dataset.Manufacturer = "ecgforge" if origin.synthetic else ""
    dataset.ManufacturerModelName = _short(origin.source)
    dataset.StudyDescription = "Synthetic ECG, not measured on a person" if origin.synthetic else "ECG"
    if origin.synthetic:
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = "Synthetic: there is no patient"
        dataset.ContentQualification = "RESEARCH"
        dataset.SoftwareVersions = _short(package_metadata.version("ecgforge"))
    if origin.seed is not None:
        dataset.SeriesDescription = _short(f"seed {origin.seed}, index {origin.index}")


def _short(text: str) -> str:
    """A text as a DICOM long string holds it: 64 characters, no backslash and no control character."""
    return re.sub(r"[\\\x00-\x1f\x7f]", " ", text)[:64].strip()


def _multiplex_group(record: EcgRecord, signal: Int16[np.ndarray, "C L"]) -> Any:
    from pydicom.dataset import Dataset
    from pydicom.valuerep import DSfloat

    group = Dataset()
    group.MultiplexGroupTimeOffset = "0"
    group.WaveformOriginality = "ORIGINAL"
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = signal.shape
    group.SamplingFrequency = DSfloat(record.rate, auto_format=True)
    group.MultiplexGroupLabel = "RHYTHM"
    group.ChannelDefinitionSequence = [_channel(lead) for lead in record.leads]
    group.WaveformBitsAllocated = 16
    group.WaveformSampleInterpretation = "SS"
    group.add_new("WaveformData", "OW", signal.T.astype("<i2").tobytes())
    return group


def _channel(lead: str) -> Any:
    from pydicom.dataset import Dataset

    channel = Dataset()
    channel.ChannelLabel = lead
    channel.ChannelSourceSequence = [_code(f"2:{_LEAD_NUMBERS[lead]}", "MDC", f"Lead {lead}")]
    channel.ChannelSensitivity = "1"
    channel.ChannelSensitivityUnitsSequence = [_code("uV", "UCUM", "microvolt")]
    channel.ChannelSensitivityCorrectionFactor = "1"
    channel.ChannelBaseline = "0"
    channel.ChannelSampleSkew = "0"
    channel.WaveformBitsStored = 16
    return channel


def _code(value: str, scheme: str, meaning: str) -> Any:
    from pydicom.dataset import Dataset

    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, _short(meaning)
    return code


def _annotations(record: EcgRecord) -> Iterator[Any]:
    """Of each statement a text, "AFIB: atrial fibrillation", and a coded finding where SNOMED CT has one."""
    from pydicom.dataset import Dataset

    whole_group = [1, 0]
    for number, (code, text) in enumerate(statement_texts(record).items(), start=1):
        item = Dataset()
        item.ReferencedWaveformChannels, item.AnnotationGroupNumber = whole_group, number
        item.UnformattedTextValue = f"{code}: {text}"
        yield item
        concept = snomed_code(code)
        if concept is not None:
            item = Dataset()
            item.ReferencedWaveformChannels, item.AnnotationGroupNumber = whole_group, number
            item.ConceptNameCodeSequence = [_code("121071", "DCM", "Finding")]
            item.ConceptCodeSequence = [_code(concept, "SCT", statement(code).description)]
            yield item


# ---------------------------------------------------------------------------------------------- reading


def read(path: Path) -> EcgRecord:
    """Read a DICOM ECG (12-lead, general, ambulatory), ours or anyone's: the one group that is a recording.

    Raises:
        DataError: no such file, no DICOM file or a damaged one, another storage class or transfer syntax, several
            groups of recordings, a channel that is none of the twelve leads or has no unit of voltage, or
            missing samples; the message names the file.
        LabelError: a statement in our own private block does not exist.
        MissingExtraError: pydicom is not installed.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    pydicom = require_package("pydicom", extra="dicom")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pydicom, on values that break a rule and are read all the same
            _require_syntax(path)
            dataset = pydicom.dcmread(path)
            _require_storage_class(dataset, path)
            return _record_of(dataset, path)
    except pydicom.errors.InvalidDicomError as problem:
        raise DataError(f"{path}: expected a DICOM file, and this is none") from problem
    except (*_READING_PROBLEMS, pydicom.errors.BytesLengthException) as problem:
        raise DataError(f"{path}: expected a DICOM ECG, and cannot read it: {problem}") from problem


def _require_syntax(path: Path) -> None:
    from pydicom.filereader import read_file_meta_info

    syntax = str(read_file_meta_info(path).TransferSyntaxUID)
    if syntax not in (_IMPLICIT, _EXPLICIT):
        raise DataError(f"{path}: expected the transfer syntax {_IMPLICIT} or {_EXPLICIT}, got {syntax}")


def _require_storage_class(dataset: Any, path: Path) -> None:
    found = dataset.SOPClassUID
    if found not in _READ_CLASSES:
        raise DataError(f"{path}: expected an ECG waveform ({TWELVE_LEAD} or alike), got {found} ({found.name})")


def _record_of(dataset: Any, path: Path) -> EcgRecord:
    group = _recording(dataset, path)
    channels = list(group.ChannelDefinitionSequence)
    leads = standard_leads([_lead_name(channel) for channel in channels], path)
    metadata = _metadata(dataset)
    return record_with_metadata(
        _millivolts(group, path),
        rate=exact_rate(metadata, float(group.SamplingFrequency), path),
        leads=leads,
        metadata=metadata,
        path=path,
    )


def _recording(dataset: Any, path: Path) -> Any:
    groups = [
        group
        for group in dataset.WaveformSequence
        if not any(word in str(group.get("MultiplexGroupLabel", "")).upper() for word in _BEAT_LABELS)
    ]
    if len(groups) != 1:
        raise DataError(f"{path}: expected one group of leads recorded at one time, got {len(groups)}")
    return groups[0]


def _millivolts(group: Any, path: Path) -> Float[np.ndarray, "C L"]:
    """The samples in mV, NaN where one is padding.

    Source: PS3.3 C.10.9.1.4.2: sample * sensitivity * correction factor + baseline.
    """
    kind = (group.WaveformSampleInterpretation, group.WaveformBitsAllocated)
    if kind not in _SAMPLE_TYPES:
        raise DataError(f"{path}: expected signed samples of 8, 16 or 32 bits, got {kind[0]} of {kind[1]} bits")
    dtype = np.dtype(_SAMPLE_TYPES[kind])
    channels, length = int(group.NumberOfWaveformChannels), int(group.NumberOfWaveformSamples)
    definitions = group.ChannelDefinitionSequence
    size, data = channels * length * dtype.itemsize, group.WaveformData
    if len(definitions) != channels or not size <= len(data) <= size + 1:  # a byte of padding makes it even
        raise DataError(
            f"{path}: expected {channels} channels of {length} samples, {size} bytes, "
            f"got {len(definitions)} channels and {len(data)} bytes"
        )
    steps = np.frombuffer(data, dtype, count=channels * length).reshape(length, channels).T
    values = steps.astype(np.float64)
    if "WaveformPaddingValue" in group:
        values[steps == np.frombuffer(group.WaveformPaddingValue, dtype, count=1)] = np.nan
    for row, channel in zip(values, definitions, strict=True):
        unit = millivolts_per_unit(str(channel.ChannelSensitivityUnitsSequence[0].CodeValue), path)
        gain = float(channel.ChannelSensitivity) * float(channel.get("ChannelSensitivityCorrectionFactor") or 1)
        if not 0 < abs(gain) < np.inf:
            raise DataError(f"{path}: expected a sensitivity in uV a step, got {channel.ChannelSensitivity}")
        row *= gain * unit
        row += float(channel.get("ChannelBaseline") or 0) * unit
    return values


def _lead_name(channel: Any) -> str:
    """The lead by its code, MDC 2:n or SCPECG 5.6.3-9-n, else by the code's meaning or the channel's label."""
    for code in channel.get("ChannelSourceSequence") or []:
        value = str(code.get("CodeValue", ""))
        number = re.fullmatch(r"(?:2:|5\.6\.3-9-)(\d+)", value)
        if number and int(number[1]) in _LEADS_BY_NUMBER:
            return _LEADS_BY_NUMBER[int(number[1])]
        if value.startswith("MDC_ECG_LEAD_"):
            return value
        return re.split(r"[,(]", str(code.get("CodeMeaning", "")))[0]
    return str(channel.get("ChannelLabel", ""))


def _metadata(dataset: Any) -> dict[str, str]:
    """The facts in our private block; of a file of other origin what DICOM's own attributes say."""
    try:
        lines = str(dataset.private_block(_PRIVATE_GROUP, _PRIVATE_CREATOR)[_PRIVATE_FACTS].value).split("\n")
        return {key: value for key, _, value in (line.partition(": ") for line in lines)}
    except KeyError:
        facts = {"patient_id": dataset.get("PatientID"), "Sex": dataset.get("PatientSex"), "Age": _age(dataset)}
        if dataset.get("SyntheticData") == "YES":
            facts["synthetic"] = "yes"
        return {key: str(value) for key, value in facts.items() if value}


def _age(dataset: Any) -> str:
    """Years out of DICOM's "056Y" or "018M", "" where there is none."""
    age = re.fullmatch(r"(\d{3})([YMWD])", str(dataset.get("PatientAge", "")))
    return f"{int(age[1]) / {'Y': 1, 'M': 12, 'W': 52.18, 'D': 365.25}[age[2]]:g}" if age else ""
