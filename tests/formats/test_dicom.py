"""DICOM: inverse, what pydicom and ecgdatakit see, foreign files, and damage."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from independent import assert_same_signal, read_independently
from pydicom import examples
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from ecgforge.errors import DataError, LabelError, MissingExtraError
from ecgforge.formats import dicom
from ecgforge.leads import STANDARD_LEADS
from ecgforge.record import EcgRecord, Patient

FACTS = ("rate", "leads", "record_id", "statements", "likelihoods", "patient", "provenance")


@pytest.mark.parametrize(
    ("rate", "samples", "storage_class"),
    [
        (500.0, 5000, dicom.TWELVE_LEAD),
        (257.14, 300, dicom.TWELVE_LEAD),
        (1000.0, 16384, dicom.TWELVE_LEAD),
        (200.0, 16385, dicom.GENERAL),
        (100.0, 1000, dicom.AMBULATORY),
        (50.0, 3, dicom.AMBULATORY),
    ],
)
def test_samples_rate_and_storage_class(tmp_path: Path, rate: float, samples: int, storage_class: str) -> None:
    signal = np.random.default_rng(1).normal(size=(2, samples)).astype(np.float32)
    path = dicom.write(EcgRecord(signal=signal, rate=rate, leads=("aVR", "V1")), tmp_path / "a")
    back = dicom.read(path)
    assert np.abs(back.signal - signal).max() <= 0.5e-3 + 1e-6
    assert (back.rate, back.leads) == (rate, ("aVR", "V1"))
    assert pydicom.dcmread(path).SOPClassUID == storage_class


def test_everything_else_comes_back(tmp_path: Path, record: EcgRecord) -> None:
    back = dicom.read(dicom.write(record, tmp_path / "a.b"))
    assert (tmp_path / "a.b.dcm").is_file()
    for fact in FACTS:
        assert getattr(back, fact) == getattr(record, fact), fact


def test_pydicom_reads_what_we_write(tmp_path: Path, record: EcgRecord) -> None:
    found = pydicom.dcmread(dicom.write(record, tmp_path / "a"))
    in_uv = np.rint(record.signal.astype(np.float64) * 1000)
    np.testing.assert_array_equal(found.waveform_array(0).T, in_uv)
    group = found.WaveformSequence[0]
    assert (float(group.SamplingFrequency), group.NumberOfWaveformSamples) == (100.0, 200)
    sources = [channel.ChannelSourceSequence[0] for channel in group.ChannelDefinitionSequence]
    assert [source.CodeValue for source in sources] == [
        *("2:1", "2:2", "2:61", "2:62", "2:63", "2:64"),  # CID 3001
        *("2:3", "2:4", "2:5", "2:6", "2:7", "2:8"),
    ]
    assert {source.CodingSchemeDesignator for source in sources} == {"MDC"}
    assert [source.CodeMeaning for source in sources] == [f"Lead {lead}" for lead in STANDARD_LEADS]
    units = {channel.ChannelSensitivityUnitsSequence[0].CodeValue for channel in group.ChannelDefinitionSequence}
    assert units == {"uV"}
    assert (found.PatientID, found.PatientSex, found.PatientAge) == ("p 4", "F", "056Y")
    assert (found.ManufacturerModelName, found.SeriesDescription) == ("model, “small”", "seed 3, index 17")


def test_synthetic_is_marked_by_the_standards_means(tmp_path: Path, record: EcgRecord) -> None:
    found = pydicom.dcmread(dicom.write(record, tmp_path / "a"))
    assert (found.SyntheticData, found.ContentQualification, found.PatientIdentityRemoved) == ("YES", "RESEARCH", "YES")
    assert str(found.PatientName) == "SYNTHETIC" and "not measured" in found.StudyDescription
    measured = dicom.write(EcgRecord(signal=record.signal, rate=100.0), tmp_path / "b")
    found = pydicom.dcmread(measured)
    assert found.SyntheticData == "NO" and str(found.PatientName) == ""
    assert b"YNTHETIC" not in measured.read_bytes() and not dicom.read(measured).provenance.synthetic


def test_statements_are_texts_and_snomed_findings(tmp_path: Path, record: EcgRecord) -> None:
    record = EcgRecord(signal=record.signal, rate=100.0, statements={"NORM": 0.5, "IMI": 1.0})
    items = pydicom.dcmread(dicom.write(record, tmp_path / "a")).WaveformAnnotationSequence
    texts = [item.UnformattedTextValue for item in items if "UnformattedTextValue" in item]
    assert texts == ["NORM: normal ECG (SNOMED CT 164854000), grade 0.5", "IMI: inferior myocardial infarction"]
    (concept,) = [item.ConceptCodeSequence[0] for item in items if "ConceptCodeSequence" in item]
    assert (concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning) == (
        "164854000",
        "SCT",
        "normal ECG",
    )


def test_the_same_record_gives_the_same_file(tmp_path: Path, record: EcgRecord) -> None:
    first, second = (dicom.write(record, tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second
    other = EcgRecord(signal=record.signal + 0.1, rate=100.0)
    assert pydicom.dcmread(dicom.write(other, tmp_path / "c")).SOPInstanceUID not in first.decode("latin1")


def test_ecgdatakit_reads_what_we_write(tmp_path: Path, record: EcgRecord) -> None:
    found = read_independently(dicom.write(record, tmp_path / "a"))
    assert_same_signal(found, record)
    assert (found.patient.patient_id, found.patient.sex, found.patient.age) == ("p 4", "F", 56)
    assert ("SR: sinus rhythm (SNOMED CT 426783006)", "") in found.interpretation.statements


def test_a_recorders_file_reads_as_pydicom_reads_it() -> None:
    path = Path(examples.get_path("waveform"))
    back = dicom.read(path)
    found = pydicom.dcmread(path)
    assert (back.leads, back.rate, back.record_id) == (STANDARD_LEADS, 1000.0, path.stem)
    np.testing.assert_allclose(back.signal, found.waveform_array(0).T / 1000, atol=1e-6)
    assert back.patient == Patient(patient_id="642341", age=42.0, sex="female")
    assert not back.provenance.synthetic


Change = Callable[[Dataset], None]


def _changed(record: EcgRecord, path: Path, change: Change) -> Path:
    dicom.write(record, path)
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)
    return path


def _group(dataset: Dataset) -> Dataset:
    return dataset.WaveformSequence[0]


def _channel(dataset: Dataset) -> Dataset:
    return _group(dataset).ChannelDefinitionSequence[0]


def test_foreign_units_codes_and_labels(tmp_path: Path, record: EcgRecord) -> None:
    def change(dataset: Dataset) -> None:
        del dataset[0x0099, 0x0010], dataset[0x0099, 0x1001]
        channels = _group(dataset).ChannelDefinitionSequence
        channels[0].ChannelSensitivity = "2"
        channels[0].ChannelSensitivityCorrectionFactor = "0.25"
        channels[0].ChannelBaseline = "100"
        channels[1].ChannelSensitivityUnitsSequence[0].CodeValue = "mV"
        channels[1].ChannelSensitivity = "0.001"
        channels[2].ChannelSourceSequence[0].CodeValue = "5.6.3-9-61"
        channels[3].ChannelSourceSequence[0].CodeValue = "MDC_ECG_LEAD_AVR"
        channels[4].ChannelSourceSequence[0].CodeValue = "x"
        channels[4].ChannelSourceSequence[0].CodeMeaning = "aVL, augmented voltage, left"
        del channels[5].ChannelSourceSequence

    back = dicom.read(_changed(record, tmp_path / "a.dcm", change))
    assert back.leads == STANDARD_LEADS
    wanted = np.rint(record.signal * 1000) / 1000
    np.testing.assert_allclose(back.signal[0], wanted[0] / 2 + 0.1, atol=1e-6)
    np.testing.assert_allclose(back.signal[1:], wanted[1:], atol=1e-6)
    assert back.provenance.synthetic  # by DICOM's own attribute
    assert (back.record_id, back.patient) == ("", Patient(patient_id="p 4", age=56.0, sex="female"))


def _set(where: Callable[[Dataset], Dataset], keyword: str, value: object) -> Change:
    return lambda dataset: setattr(where(dataset), keyword, value)


def _whole(dataset: Dataset) -> Dataset:
    return dataset


def _source(dataset: Dataset) -> Dataset:
    return _channel(dataset).ChannelSourceSequence[0]


def _unit(dataset: Dataset) -> Dataset:
    return _channel(dataset).ChannelSensitivityUnitsSequence[0]


def _rename_to_v7(dataset: Dataset) -> None:
    _source(dataset).CodeValue, _source(dataset).CodeMeaning = "2:9", "Lead V7"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_set(_whole, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.4"), r"an ECG waveform .*MR Image Storage"),
        (_set(_whole, "WaveformSequence", Sequence()), "one group of leads recorded at one time, got 0"),
        (lambda dataset: dataset.WaveformSequence.append(_group(dataset)), "got 2"),
        (_set(_group, "MultiplexGroupLabel", "MEDIAN BEAT"), "got 0"),
        (_set(_group, "NumberOfWaveformSamples", 2**32 - 1), "4294967295 samples"),
        (_set(_group, "NumberOfWaveformSamples", 199), "12 channels of 199 samples"),
        (_set(_group, "NumberOfWaveformChannels", 65535), "65535 channels"),
        (_set(_group, "WaveformSampleInterpretation", "MB"), "MB of 16 bits"),
        (_set(_group, "SamplingFrequency", "0"), "above 0 Hz"),
        (_set(_group, "SamplingFrequency", "120"), "100 Hz as rate_hz says, got 120"),
        (_set(_channel, "ChannelSensitivity", "0"), "sensitivity"),
        (_set(_source, "CodeValue", "2:2"), "II more than once"),
        (_rename_to_v7, "'Lead V7'"),
        (_set(_unit, "CodeValue", "mm[Hg]"), r"'mm\[Hg\]'"),
        (lambda dataset: delattr(_channel(dataset), "ChannelSensitivity"), "ChannelSensitivity"),
        (lambda dataset: delattr(_group(dataset), "WaveformData"), "WaveformData"),
    ],
)
def test_refuses_damage_and_names_the_file(tmp_path: Path, record: EcgRecord, change: Change, complaint: str) -> None:
    path = _changed(record, tmp_path / "bad.dcm", change)
    with pytest.raises(DataError, match=complaint) as caught:
        dicom.read(path)
    assert "bad.dcm" in str(caught.value)


def test_padding_is_a_missing_sample(tmp_path: Path, record: EcgRecord) -> None:
    def pad(dataset: Dataset) -> None:
        group = _group(dataset)
        group.add_new("WaveformPaddingValue", "OW", (-32768).to_bytes(2, "little", signed=True))
        group.WaveformData = (-32768).to_bytes(2, "little", signed=True) + group.WaveformData[2:]

    with pytest.raises(DataError, match=r"a\.dcm: .* 1 missing ones in lead I"):
        dicom.read(_changed(record, tmp_path / "a.dcm", pad))


def test_refuses_an_unknown_statement(tmp_path: Path, record: EcgRecord) -> None:
    def rename(dataset: Dataset) -> None:
        element = dataset[0x0099, 0x1001]
        element.value = element.value.replace("NORM:0.5", "NORMAL")

    with pytest.raises(LabelError, match=r"a\.dcm: .*NORMAL"):
        dicom.read(_changed(record, tmp_path / "a.dcm", rename))


def test_refuses_compressed_files_unread(tmp_path: Path, record: EcgRecord) -> None:
    path = dicom.write(record, tmp_path / "a")
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    with pytest.raises(DataError, match=r"a\.dcm: expected the transfer syntax"):
        dicom.read(path)


@pytest.mark.parametrize("length", [0, 100, 140, 400, 2000, -300])
def test_refuses_a_truncated_file(tmp_path: Path, record: EcgRecord, length: int) -> None:
    path = dicom.write(record, tmp_path / "a")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match=r"a\.dcm"):
        dicom.read(path)


@pytest.mark.parametrize("rate", [49.9, 1000.1])
def test_writes_no_rate_that_dicom_does_not_hold(tmp_path: Path, rate: float) -> None:
    with pytest.raises(DataError, match="50 to 1000 Hz"):
        dicom.write(EcgRecord(signal=np.zeros((1, 5), np.float32), rate=rate, leads=("I",)), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_without_pydicom_the_extra_is_named(tmp_path: Path, record: EcgRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    path = dicom.write(record, tmp_path / "a")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    for action in (lambda: dicom.read(path), lambda: dicom.write(record, tmp_path / "b")):
        with pytest.raises(MissingExtraError, match=r"pip install 'ecgforge\[dicom\]'"):
            action()
