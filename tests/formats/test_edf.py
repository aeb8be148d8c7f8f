"""EDF+: inverse, what pyedflib and ecgdatakit see, foreign files, and damage."""

import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pyedflib
import pytest
from independent import assert_same_signal, read_independently

from ecgforge.errors import DataError, MissingExtraError
from ecgforge.formats import edf
from ecgforge.leads import STANDARD_LEADS
from ecgforge.record import EcgRecord, Patient, Provenance

FACTS = ("rate", "leads", "record_id", "statements", "likelihoods", "patient", "provenance")


@pytest.mark.parametrize(
    ("rate", "samples"),
    [(100.0, 1000), (500.0, 300), (257.14, 300), (128.0, 1), (0.5, 7), (360.0, 21600), (1000.0, 61_000)],
)
def test_samples_and_rate_come_back(tmp_path: Path, rate: float, samples: int) -> None:
    signal = np.random.default_rng(1).normal(size=(2, samples)).astype(np.float32)
    back = edf.read(edf.write(EcgRecord(signal=signal, rate=rate, leads=("aVR", "V1")), tmp_path / "a"))
    assert back.signal.shape == (2, samples)
    assert np.abs(back.signal - signal).max() <= 0.5e-3 + 1e-6
    assert (back.rate, back.leads) == (rate, ("aVR", "V1"))


def test_everything_else_comes_back(tmp_path: Path, record: EcgRecord) -> None:
    back = edf.read(edf.write(record, tmp_path / "a.b"))
    assert (tmp_path / "a.b.edf").is_file()
    for fact in FACTS:
        assert getattr(back, fact) == getattr(record, fact), fact


def test_texts_longer_than_an_annotation_come_back(tmp_path: Path, record: EcgRecord) -> None:
    source = " long  text" * 150
    origin = Provenance(synthetic=True, source=source)
    long = EcgRecord(signal=record.signal, rate=100.0, provenance=origin, patient=Patient(patient_id="ü " * 300))
    back = edf.read(edf.write(long, tmp_path / "a"))
    assert (back.provenance, back.patient) == (origin, long.patient)


def test_pyedflib_reads_what_we_write(tmp_path: Path, record: EcgRecord) -> None:
    with pyedflib.EdfReader(str(edf.write(record, tmp_path / "a"))) as found:
        assert found.getSignalLabels() == [f"ECG {lead}" for lead in STANDARD_LEADS]
        assert set(found.getSampleFrequencies()) == {100.0}
        assert {found.getPhysicalDimension(row) for row in range(12)} == {"uV"}
        in_uv = np.stack([found.readSignal(row) for row in range(12)])
        np.testing.assert_array_equal(in_uv, np.rint(record.signal.astype(np.float64) * 1000))
        assert (found.getPatientName(), found.getPatientCode(), found.getSex()) == ("SYNTHETIC", "p 4", "Female")
        assert found.getPatientAdditional() == "age_56" and "synthetic" in found.getRecordingAdditional()
        onsets, _, texts = found.readAnnotations()
    assert set(onsets) == {0.0}
    assert {
        "synthetic: yes",
        "statements: NORM:0.5,SR",
        "NORM: normal ECG (SNOMED CT 164854000), grade 0.5",
        "SR: sinus rhythm (SNOMED CT 426783006)",
        "seed: 3",
        "index: 17",
    } <= set(texts)


def test_ecgdatakit_reads_what_we_write(tmp_path: Path, record: EcgRecord) -> None:
    found = read_independently(edf.write(record, tmp_path / "a"))
    assert_same_signal(found, record)
    assert (found.patient.last_name, found.patient.sex, found.file_format.version) == ("SYNTHETIC", "F", "EDF+C")


def test_a_measured_record_is_not_called_synthetic(tmp_path: Path, record: EcgRecord) -> None:
    path = edf.write(EcgRecord(signal=record.signal, rate=100.0), tmp_path / "a")
    assert b"SYNTHETIC" not in path.read_bytes() and b"synthetic: no" in path.read_bytes()
    assert not edf.read(path).provenance.synthetic


def _foreign(path: Path, labels: list[str], *, unit: str = "mV", rates: list[int] | None = None) -> Path:
    writer = pyedflib.EdfWriter(str(path), len(labels), file_type=pyedflib.FILETYPE_EDFPLUS)
    writer.setStartdatetime(datetime(2020, 6, 1, 12))
    writer.setBirthdate(datetime(1950, 6, 2).date())
    writer.setSex("Male")
    writer.setPatientCode("X17")
    signals = []
    for row, label in enumerate(labels):
        rate = 200 if rates is None else rates[row]
        limits = {"physical_max": 5.0, "physical_min": -5.0, "digital_max": 32767, "digital_min": -32768}
        head = {"label": label, "dimension": unit, "sample_frequency": rate, "prefilter": "", "transducer": ""}
        writer.setSignalHeader(row, {**head, **limits})
        signals.append(np.sin(np.arange(2 * rate) / 20 + row))
    writer.writeSamples(signals)
    writer.writeAnnotation(0.5, -1, "index: fingertip")
    writer.close()
    return path


def test_a_foreign_recording_gives_its_ecg_leads(tmp_path: Path) -> None:
    labels = ["EEG Fpz-Cz", "ECG II", "ekg-v1", "MDC_ECG_LEAD_AVL", "Resp", "avf"]
    back = edf.read(_foreign(tmp_path / "night.edf", labels, rates=[100, 200, 200, 200, 10, 200]))
    assert (back.leads, back.rate, back.record_id) == (("II", "V1", "aVL", "aVF"), 200.0, "night")
    wanted = [np.sin(np.arange(400) / 20 + row) for row in (1, 2, 3, 5)]
    np.testing.assert_allclose(back.signal, wanted, atol=1.6e-4)  # pyedflib cuts to 10 mV / 65535 steps
    assert back.patient == Patient(patient_id="X17", age=69.0, sex="male")
    assert not back.provenance.synthetic


@pytest.mark.parametrize(
    ("labels", "options", "complaint"),
    [
        (["EEG Fpz-Cz", "Resp"], {}, "expected an ECG lead such as 'ECG II', got EEG Fpz-Cz, Resp"),
        (["ECG II", "ECG 7"], {}, "got '7'"),
        (["ECG II", "EKG II"], {}, "II more than once"),
        (["ECG II", "ECG V1"], {"rates": [100, 200]}, "at one rate, got 200 samples at 100 Hz, 400 samples at 200 Hz"),
        (["ECG II"], {"unit": "mmHg"}, "'mmHg'"),
    ],
)
def test_refuses_what_is_no_ecg_and_names_the_file(
    tmp_path: Path, labels: list[str], options: dict[str, object], complaint: str
) -> None:
    path = _foreign(tmp_path / "bad.edf", labels, **options)
    with pytest.raises(DataError, match=complaint) as caught:
        edf.read(path)
    assert "bad.edf" in str(caught.value)


@pytest.mark.parametrize(
    ("at", "content", "complaint"),
    [
        (0, b"1       ", "as its header says"),
        (0, b"\xffBIOSEMI", "as its header says"),
        (236, b"99999999", "got"),  # data records
        (236, b"-1      ", "got"),
        (252, b"9999", "EDF header"),  # signals
        (244, b"nothing ", "cannot read it"),
        (192, b"EDF+D", "in one piece"),
    ],
)
def test_refuses_a_header_that_lies(
    tmp_path: Path, record: EcgRecord, at: int, content: bytes, complaint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = edf.write(record, tmp_path / "a")
    sound = path.read_bytes()
    path.write_bytes(sound[:at] + content + sound[at + len(content) :])
    if content == b"EDF+D":  # a second data record of a discontinuous file begins late
        damaged = path.read_bytes().replace(b"+1\x14\x14", b"+5\x14\x14")
        path.write_bytes(damaged)
    with pytest.raises(DataError, match=complaint) as caught:
        edf.read(path)
    assert "a.edf" in str(caught.value)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("length", [0, 100, 256, 3000, -1])
def test_refuses_a_truncated_file(
    tmp_path: Path, record: EcgRecord, length: int, capfd: pytest.CaptureFixture[str]
) -> None:
    path = edf.write(record, tmp_path / "a")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match=r"a\.edf: expected an EDF"):
        edf.read(path)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(("rate", "samples"), [(257.14, 20000), (100.0, 6001), (3000.0, 1)])
def test_writes_no_length_that_edf_cannot_tell(tmp_path: Path, rate: float, samples: int) -> None:
    record = EcgRecord(signal=np.zeros((1, samples), np.float32), rate=rate, leads=("II",))
    with pytest.raises(DataError, match="expected whole seconds"):
        edf.write(record, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_without_pyedflib_the_extra_is_named(
    tmp_path: Path, record: EcgRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = edf.write(record, tmp_path / "a")
    monkeypatch.setitem(sys.modules, "pyedflib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ecgforge\[edf\]'"):
        edf.read(path)
