"""The PTB-XL layout as written: what the published loader code finds in it, and nothing half-written."""

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wfdb

from ecgforge.data.ptbxl_layout import require_layout, write_ptbxl
from ecgforge.data.simulate import draw_statements, simulate_data_set, simulate_record
from ecgforge.errors import ConfigError, DataError
from ecgforge.labels import all_statements
from ecgforge.leads import STANDARD_LEADS
from ecgforge.record import EcgRecord, Patient, Provenance


def _record(record_id: str, **facts: object) -> EcgRecord:
    return EcgRecord(signal=np.zeros((12, 50), np.float32), rate=100.0, record_id=record_id, **facts)


def _table(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "ptbxl_database.csv", index_col="ecg_id")


def test_a_simulated_set_loads_as_ptbxl_does(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    folder = simulate_data_set(
        tmp_path / "set",
        n=12,
        seed=3,
        rates=(100, 500),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, 12) for done in range(1, 13)]
    table = _table(folder)
    codes = table.scp_codes.apply(ast.literal_eval)
    classes = pd.read_csv(folder / "scp_statements.csv", index_col=0)
    for ecg_id, row in table.iterrows():
        expected = draw_statements(seed=3, index=int(ecg_id))
        assert codes[ecg_id] == {code: 100.0 if classes.diagnostic[code] == 1 else 0.0 for code in expected}
        low, fields = wfdb.rdsamp(str(folder / row.filename_lr))
        high, _ = wfdb.rdsamp(str(folder / row.filename_hr))
        assert low.shape == (1000, 12) and high.shape == (5000, 12) and fields["fs"] == 100
        assert fields["sig_name"] == list(STANDARD_LEADS) and "synthetic: yes" in fields["comments"]
        np.testing.assert_allclose(high[::5], low, atol=1.001e-3)
    assert list(table.index) == list(range(1, 13))
    assert (table.synthetic == 1).all() and table.report.isna().all()


def test_record_seventeen_alone_is_record_seventeen_in_the_set(tmp_path: Path) -> None:
    folder = simulate_data_set(tmp_path / "set", n=17, seed=8)
    alone = simulate_record(draw_statements(seed=8, index=17), seed=8, index=17)
    stored, _ = wfdb.rdsamp(str(folder / "records100/00000/00017_lr"))
    np.testing.assert_allclose(stored.T, alone.signal, atol=0.501e-3)


def test_no_patient_is_in_two_folds(tmp_path: Path) -> None:
    table = _table(simulate_data_set(tmp_path / "set", n=60, seconds=1.0))
    assert set(table.strat_fold) == set(range(1, 11))
    assert table.patient_id.nunique() == 52
    assert (table.groupby("patient_id")[["strat_fold", "age", "sex"]].nunique() == 1).all().all()


def test_statement_table_has_every_statement(tmp_path: Path) -> None:
    write_ptbxl([_record("1")], tmp_path / "set")
    classes = pd.read_csv(tmp_path / "set" / "scp_statements.csv", index_col=0)
    assert list(classes.index) == list(all_statements())
    assert int((classes.diagnostic == 1).sum()) == 44
    assert int((classes.form == 1).sum()) == 19 and int((classes.rhythm == 1).sum()) == 12
    assert classes.diagnostic_class["CLBBB"] == "CD" and classes.diagnostic_subclass["IMI"] == "IMI"


def test_facts_of_given_records_are_kept(tmp_path: Path) -> None:
    twin = _record(
        "21837",
        statements={"NORM": 1.0, "IMI": 0.35, "SR": 1.0},
        likelihoods={"NORM": 80.0},
        patient=Patient(patient_id="13000", age=300.0, sex="female"),
        provenance=Provenance(synthetic=True, source="model", fold=9),
    )
    real = _record("2", statements={"SR": 1.0})
    of_fold_0 = _record("3", statements={"SR": 1.0}, provenance=Provenance(synthetic=True, source="model", fold=0))
    write_ptbxl(iter([twin, real, of_fold_0]), tmp_path / "set")
    table = _table(tmp_path / "set")
    assert ast.literal_eval(table.scp_codes[21837]) == {"NORM": 80.0, "IMI": 35.0, "SR": 0.0}
    assert (table.age[21837], table.sex[21837], table.strat_fold[21837]) == (300.0, 1, 9)
    assert (table.patient_id[21837], table.synthetic[21837], table.synthetic[2]) == (13000, 1, 0)
    assert table.strat_fold[3] == 0
    assert table.filename_lr[21837] == "records100/21000/21837_lr"
    assert np.isnan(table.age[2]) and pd.isna(table.filename_hr[2])


def _at(record_id: str, rate: float) -> EcgRecord:
    return EcgRecord(signal=np.zeros((12, 50), np.float32), rate=rate, record_id=record_id)


@pytest.mark.parametrize(
    ("records", "rates", "complaint"),
    [
        ([], (100,), "at least one record"),
        ([_at("abc", 100.0)], (100,), "number as record_id"),
        ([_at("1", 250.0)], (100,), "expected 100 Hz, got 250"),
        ([_at("1", 100.0), _at("1", 100.0)], (100,), "1 again"),
        ([_at("1", 100.0), _at("2", 500.0)], (100, 500), "one after the other"),
        ([_at("1", 100.0)], (100, 500), "end within 1"),
    ],
)
def test_refuses_unfit_records_and_leaves_nothing(
    tmp_path: Path, records: list[EcgRecord], rates: tuple[int, ...], complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        write_ptbxl(records, tmp_path / "set", rates=rates)
    assert list(tmp_path.iterdir()) == []


def test_a_set_broken_off_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[EcgRecord]:
        yield _record("1")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_ptbxl(broken(), tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_refuses_a_folder_in_use_and_takes_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "precious").write_text("data")
    with pytest.raises(DataError, match="used: expected a new or an empty folder"):
        write_ptbxl([_record("1")], tmp_path / "used")
    assert (tmp_path / "used" / "precious").read_text() == "data"
    with pytest.raises(DataError, match="used: expected a new or an empty folder"):
        require_layout(tmp_path / "used", rates=(100,))
    (tmp_path / "empty").mkdir()
    require_layout(tmp_path / "empty", rates=(100, 500))
    assert (write_ptbxl([_record("1")], tmp_path / "empty") / "ptbxl_database.csv").is_file()


@pytest.mark.parametrize("rates", [(), (250,), (100, 100)])
def test_refuses_other_rates(tmp_path: Path, rates: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="100 and 500"):
        simulate_data_set(tmp_path / "set", n=1, rates=rates)
    with pytest.raises(ConfigError, match="n=0"):
        simulate_data_set(tmp_path / "set", n=0)
