"""Every registered format keeps the promises of a format, and every format file is registered."""

import importlib
import pkgutil
from pathlib import Path

import numpy as np
import pytest

import ecgforge.formats
from ecgforge.errors import ConfigError, DataError
from ecgforge.formats import FORMATS, read_record, write_record
from ecgforge.record import EcgRecord, Patient, Provenance


def _record(*, synthetic: bool, leads: tuple[str, ...] = ("I", "aVF", "V1", "V6"), rate: float = 500.0) -> EcgRecord:
    return EcgRecord(
        signal=np.random.default_rng(5).normal(size=(len(leads), 300)).astype(np.float32),
        rate=rate,
        leads=leads,
        record_id="4711",
        statements={"IMI": 0.5, "SR": 1.0},
        likelihoods={"IMI": 50.0, "SR": 0.0},
        patient=Patient(patient_id="12", age=71.0, sex="male"),
        provenance=Provenance(synthetic=synthetic, source="somewhere", seed=1, index=2, fold=3),
    )


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("synthetic", [True, False])
def test_a_written_record_reads_back(tmp_path: Path, name: str, synthetic: bool) -> None:
    record = _record(synthetic=synthetic)
    path = write_record(record, tmp_path / "record", format=name)
    assert path.suffix == FORMATS[name].extensions[0] and path.is_file()
    back = read_record(path)
    assert np.abs(back.signal - record.signal).max() <= 0.5e-3 + 1e-6
    assert back.provenance.synthetic is synthetic
    for fact in ("rate", "leads", "record_id", "statements", "likelihoods", "patient", "provenance"):
        assert getattr(back, fact) == getattr(record, fact), fact


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_follows_from_the_extension(tmp_path: Path, name: str) -> None:
    record = _record(synthetic=True)
    path = write_record(record, tmp_path / f"record{FORMATS[name].extensions[0]}")
    assert read_record(path).leads == record.leads


@pytest.mark.parametrize("name", FORMATS)
def test_an_unusable_path_is_a_data_error_that_names_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"gone{FORMATS[name].extensions[0]}"
    with pytest.raises(DataError, match="gone"):
        read_record(path)


@pytest.mark.parametrize("name", FORMATS)
def test_missing_samples_are_never_written(tmp_path: Path, name: str) -> None:
    record = EcgRecord(signal=np.array([[0.0, np.nan]], np.float32), rate=100.0, leads=("II",))
    with pytest.raises(DataError, match="lead II"):
        write_record(record, tmp_path / "record", format=name)
    assert list(tmp_path.iterdir()) == []


def test_every_format_file_is_registered_once() -> None:
    package = ecgforge.formats
    modules = [f"{package.__name__}.{entry.name}" for entry in pkgutil.iter_modules(package.__path__)]
    formats = [name for name in modules if hasattr(importlib.import_module(name), "read")]
    assert sorted(formats) == sorted(entry.module for entry in FORMATS.values())
    extensions = [ending for entry in FORMATS.values() for ending in entry.extensions]
    assert len(extensions) == len(set(extensions))


@pytest.mark.parametrize("name", [name for name, entry in FORMATS.items() if entry.beginning])
def test_a_file_of_another_name_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    written = write_record(_record(synthetic=True), tmp_path / "record", format=name)
    for other in ("IM000001", "record.bin"):
        assert read_record(written.rename(tmp_path / other)).record_id == "4711"
        written = tmp_path / other


@pytest.mark.parametrize("name", FORMATS)
def test_statements_stand_in_words_and_snomed_codes(tmp_path: Path, name: str) -> None:
    path = write_record(_record(synthetic=True), tmp_path / "record", format=name)
    if name == "npz":
        with np.load(path) as arrays:
            content = str(arrays["metadata"])
    else:
        content = path.read_bytes().decode("latin1")
    for text in ("inferior myocardial infarction, grade 0.5", "sinus rhythm (SNOMED CT 426783006)", "IMI:0.5,SR"):
        assert text in content


def test_a_bare_wfdb_name_is_a_path(tmp_path: Path) -> None:
    write_record(_record(synthetic=True), tmp_path / "00001_lr.hea")
    assert read_record(tmp_path / "00001_lr").record_id == "4711"


def test_unknown_extensions_and_formats_name_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.hea \.dat \.mat \.csv \.npz.*'\.docx'"):
        read_record(tmp_path / "a.docx")
    with pytest.raises(DataError, match=r"\.npz"):
        write_record(_record(synthetic=True), tmp_path / "a")
    with pytest.raises(ConfigError, match="did you mean wfdb"):
        write_record(_record(synthetic=True), tmp_path / "a", format="wfbd")
