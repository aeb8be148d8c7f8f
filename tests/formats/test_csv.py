"""CSV: inverse, what pandas sees, what a spreadsheet makes of it, and damage."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ecgforge.errors import DataError
from ecgforge.formats import csv
from ecgforge.leads import STANDARD_LEADS
from ecgforge.record import EcgRecord

FACTS = ("rate", "leads", "record_id", "statements", "likelihoods", "patient", "provenance")


@given(
    signal=hnp.arrays(np.float32, (2, 30), elements=st.floats(-30, 30, width=32)),
    rate=st.sampled_from([100.0, 128.0, 300.0, 500.0, 2000.0]),
)
@settings(max_examples=30, deadline=None)
def test_samples_come_back(signal: np.ndarray, rate: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = csv.write(EcgRecord(signal=signal, rate=rate, leads=("aVR", "V1")), tmp_path_factory.mktemp("csv") / "a")
    back = csv.read(path)
    assert np.abs(back.signal - signal).max() <= 0.5e-4 + 4e-6  # half a step, and float32 at 30 mV
    assert (back.rate, back.leads) == (rate, ("aVR", "V1"))


def test_everything_else_comes_back(tmp_path: Path, record: EcgRecord) -> None:
    back = csv.read(csv.write(record, tmp_path / "a.b"))
    assert (tmp_path / "a.b.csv").is_file()
    for fact in FACTS:
        assert getattr(back, fact) == getattr(record, fact), fact


def test_pandas_reads_it(tmp_path: Path, record: EcgRecord) -> None:
    path = csv.write(record, tmp_path / "a")
    assert path.read_text().startswith("# synthetic: yes\n")
    table = pd.read_csv(path, comment="#")
    assert list(table.columns) == ["time_s", *(f"{lead}_mV" for lead in STANDARD_LEADS)]
    np.testing.assert_allclose(table["time_s"], np.arange(200) / 100)
    np.testing.assert_allclose(table["aVF_mV"], record.lead("aVF"), atol=0.5e-4)


def test_survives_a_spreadsheet(tmp_path: Path, record: EcgRecord) -> None:
    path = csv.write(record, tmp_path / "a")
    lines = path.read_text().splitlines()
    filled = [line + "," * (12 - line.count(",")) if line.startswith("#") else line for line in lines]
    path.write_text("\r\n".join(filled), encoding="utf-8-sig")
    back = csv.read(path)
    assert back.statements == record.statements and back.provenance == record.provenance


def test_rate_and_units_of_a_foreign_table(tmp_path: Path) -> None:
    path = tmp_path / "foreign.csv"
    path.write_text("time_s,lead ii_uV,V1_V\n0.000,1000,0.001\n0.004,-500,0.002\n0.008,0,0\n")
    back = csv.read(path)
    assert (back.rate, back.leads, back.record_id) == (pytest.approx(250), ("II", "V1"), "foreign")
    np.testing.assert_allclose(back.signal, [[1, -0.5, 0], [1, 2, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected columns"),
        ("time_s,I_mV\n", "expected samples"),
        ("I_mV,time_s\n0,0\n", "expected columns"),
        ("time_s,I\n0,0\n", "expected columns"),
        ("time_s\n0\n1\n", "at least one ECG lead"),
        ("time_s,I_mV,i_mV\n0,0,0\n", "I more than once"),
        ("time_s,X_mV\n0,0\n", "'X'"),
        ("time_s,I_bar\n0,0\n", "'bar'"),
        ("time_s,I_mV\n0,a\n", "number in every cell"),
        ("time_s,I_mV\n0,\n0.1,1\n", "number in every cell"),
        ("time_s,I_mV\n0,1,2\n0.1,1,2\n", "2 cells a row"),
        ("time_s,I_mV\n0,1\n0.1,nan\n", "1 missing"),
        ("time_s,I_mV\n0,1\n", "rate_hz"),
        ("time_s,I_mV\n0,1\n0.1,1\n0.3,1\n", "even steps"),
        ("# rate_hz: 100\ntime_s,I_mV\n0,1\n0.1,1\n", "even steps"),
        ("# rate_hz: fast\ntime_s,I_mV\n0,1\n0.1,1\n", "'fast'"),
        ("# rate_hz: 0\ntime_s,I_mV\n0,1\n0.1,1\n", "above 0 Hz"),
    ],
)
def test_refuses_damage_and_names_the_file(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=complaint) as caught:
        csv.read(path)
    assert "bad.csv" in str(caught.value)


def test_refuses_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match=r"a\.csv: cannot be read as text"):
        csv.read(tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"b\.csv: no such file"):
        csv.read(tmp_path / "b.csv")
