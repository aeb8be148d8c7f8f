"""Parquet: inverse, what pandas sees, foreign tables, and damage."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from ecgforge.errors import DataError, MissingExtraError
from ecgforge.formats import parquet
from ecgforge.leads import STANDARD_LEADS
from ecgforge.record import EcgRecord

FACTS = ("rate", "leads", "record_id", "statements", "likelihoods", "patient", "provenance")


def test_reading_is_the_bitwise_inverse_of_writing(tmp_path: Path, record: EcgRecord) -> None:
    back = parquet.read(parquet.write(record, tmp_path / "a.b"))
    assert (tmp_path / "a.b.parquet").is_file()
    assert back.signal.tobytes() == record.signal.tobytes()
    for fact in FACTS:
        assert getattr(back, fact) == getattr(record, fact), fact


def test_pandas_reads_it(tmp_path: Path, record: EcgRecord) -> None:
    path = parquet.write(record, tmp_path / "a")
    table = pd.read_parquet(path)
    assert list(table.columns) == ["time_s", *(f"{lead}_mV" for lead in STANDARD_LEADS)]
    np.testing.assert_allclose(table["time_s"], np.arange(200) / 100)
    np.testing.assert_array_equal(table["aVF_mV"], record.lead("aVF"))
    assert pq.read_schema(path).metadata[b"ecgforge.synthetic"] == b"yes"


def test_a_foreign_table(tmp_path: Path) -> None:
    table = pd.DataFrame({"time_s": [0.0, 0.004, 0.008], "lead ii_uV": [1000, -500, 0], "V1_V": [0.001, 0.002, 0]})
    table.to_parquet(tmp_path / "foreign.parquet")
    back = parquet.read(tmp_path / "foreign.parquet")
    assert (back.rate, back.leads, back.record_id) == (pytest.approx(250), ("II", "V1"), "foreign")
    np.testing.assert_allclose(back.signal, [[1, -0.5, 0], [1, 2, 0]], atol=1e-6)


def _table(**changed: object) -> dict[str, object]:
    sound = {"time_s": [0.0, 0.01, 0.02], "I_mV": [0.0, 0.1, 0.2]}
    return {name: value for name, value in {**sound, **changed}.items() if value is not None}


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        (_table(I_mV=None), "at least one ECG lead"),
        (_table(time_s=None), "expected columns such as"),
        (_table(X_mV=[0.0, 0, 0]), "'X'"),
        (_table(i_mV=[0.0, 0, 0]), "I more than once"),
        (_table(II_bar=[0.0, 0, 0]), "'bar'"),
        (_table(II_mV=["a", "b", "c"]), "columns of numbers, got other ones: II_mV"),
        (_table(II_mV=[[1.0], [2.0] * 9, []]), "columns of numbers, got other ones: II_mV"),
        (_table(II_mV=[None, 1.0, 2.0]), "1 missing ones in lead II"),
        (_table(time_s=[0.0, 0.01, 0.05]), "even steps"),
        (_table(time_s=[0.0, 0.0, 0.0]), "rate_hz"),
        ({"time_s": pa.array([], pa.float64()), "I_mV": pa.array([], pa.float64())}, "at least one"),
    ],
)
def test_refuses_damage_and_names_the_file(tmp_path: Path, columns: dict[str, object], complaint: str) -> None:
    path = tmp_path / "bad.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(DataError, match=complaint) as caught:
        parquet.read(path)
    assert "bad.parquet" in str(caught.value)


def test_refuses_a_small_file_of_a_huge_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.parquet"
    zeros = np.zeros(1_000_000, np.float32)
    pq.write_table(pa.table({"time_s": zeros, "I_mV": zeros}), path)
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(parquet, "_LARGEST", 1_999_999)
    with pytest.raises(DataError, match=r"bomb\.parquet: .* at most 1999999 numbers, got 1000000 x 2"):
        parquet.read(path)


@pytest.mark.parametrize("length", [0, 4, 1000, -1, -20])
def test_refuses_a_truncated_file(tmp_path: Path, record: EcgRecord, length: int) -> None:
    path = parquet.write(record, tmp_path / "a")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match=r"a\.parquet: expected a Parquet table"):
        parquet.read(path)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, record: EcgRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet.write(record, tmp_path / "a")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for action in (lambda: parquet.read(path), lambda: parquet.write(record, tmp_path / "b")):
        with pytest.raises(MissingExtraError, match=r"pip install 'ecgforge\[parquet\]'"):
            action()
