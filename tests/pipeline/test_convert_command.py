"""`ecgforge convert` from every format to every other, several files at once, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from ecgforge.formats import FORMATS, read_record, write_record
from ecgforge.record import EcgRecord, Patient, Provenance
from ecgforge.serving.convert_command import RecordFormat, convert

RECORD = EcgRecord(
    signal=np.random.default_rng(2).normal(size=(12, 100)).round(3).astype(np.float32),
    rate=100.0,
    record_id="one",
    statements={"AFIB": 1.0, "LVH": 0.5},
    patient=Patient(age=70.0, sex="male"),
    provenance=Provenance(synthetic=True, source="ecgforge test", seed=1, index=2),
)


def run(*words: object) -> Result:
    app = typer.Typer()
    app.command()(convert)
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_the_choices_are_the_formats() -> None:
    assert [choice.value for choice in RecordFormat] == list(FORMATS)


@pytest.mark.parametrize("source", FORMATS)
def test_from_each_format_to_every_other(tmp_path: Path, source: str) -> None:
    file = write_record(RECORD, tmp_path / "in" / "one", format=source)
    for target in FORMATS:
        result = run(file, "--to", target, "--out", tmp_path / target)
        assert result.exit_code == 0, result.output
        written = tmp_path / target / f"one{FORMATS[target].extensions[0]}"
        assert result.stdout == f"{written}\n"
        back = read_record(written)
        np.testing.assert_allclose(back.signal, RECORD.signal, rtol=0, atol=1e-6)  # whole uV stay whole uV
        for fact in ("rate", "leads", "record_id", "statements", "patient", "provenance"):
            assert getattr(back, fact) == getattr(RECORD, fact), (target, fact)


def test_one_bad_file_is_reported_and_the_others_are_converted(tmp_path: Path) -> None:
    good = [write_record(RECORD, tmp_path / name) for name in ("a.csv", "c.v2.npz")]
    bad = tmp_path / "b.csv"
    bad.write_text("nothing\n")
    result = run(good[0], bad, tmp_path / "gone.xml", good[1], "--to", "edf", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stdout == f"{tmp_path / 'out' / 'a.edf'}\n{tmp_path / 'out' / 'c.v2.edf'}\n"
    first, second = result.stderr.splitlines()
    assert (
        first.startswith(f"error: {bad}: expected columns")
        and second == f"error: {tmp_path / 'gone.xml'}: no such file"
    )


def test_a_nameless_dicom_file_and_a_bare_wfdb_name(tmp_path: Path) -> None:
    dicom = write_record(RECORD, tmp_path / "a.dcm").rename(tmp_path / "IM0001")
    write_record(RECORD, tmp_path / "00001_lr.hea")
    result = run(dicom, tmp_path / "00001_lr", "--to", "csv", "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["00001_lr.csv", "IM0001.csv"]


def test_records_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    files = [write_record(RECORD, tmp_path / "a.csv"), write_record(RECORD, tmp_path / "a.npz")]
    result = run(*files, "--to", "aecg", "--out", tmp_path / "out")
    assert result.exit_code == 1 and "already comes from" in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.xml"]


@pytest.mark.parametrize(
    ("names", "target"),
    [
        (["a.csv"], "csv"),
        (["a.hea"], "wfdb"),
        (["a.dat"], "wfdb"),
        (["a"], "wfdb"),
        (["b.csv", "a.csv", "b.hea"], "csv"),
        (["link.csv"], "csv"),
    ],
)
def test_no_input_is_ever_overwritten(tmp_path: Path, names: list[str], target: str) -> None:
    for name in ("a.csv", "a.hea", "b.csv", "b.hea"):
        write_record(RECORD, tmp_path / name)
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    result = run(*(tmp_path / name for name in names), "--to", target, "--out", tmp_path / "x" / "..")
    assert result.exit_code == 1
    assert result.stderr.count("is one of the files to read") == len(names)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_what_a_format_cannot_hold_is_an_error_of_that_file(tmp_path: Path) -> None:
    slow = EcgRecord(signal=RECORD.signal, rate=10.0)
    file = write_record(slow, tmp_path / "slow.npz")
    result = run(file, "--to", "dicom", "--out", tmp_path)
    assert result.exit_code == 1 and "50 to 1000 Hz" in result.stderr and "slow" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slow.npz"]
