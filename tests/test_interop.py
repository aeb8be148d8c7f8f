"""Records to arrays, tables and wfdb records, and back: nothing is lost, and what cannot be is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wfdb

from ecgforge.data.simulate import simulate_record
from ecgforge.errors import DataError, LabelError
from ecgforge.formats import read_record, write_record
from ecgforge.interop import (
    from_dataframe,
    from_wfdb,
    split_signals,
    stack_labels,
    stack_signals,
    tabulate_records,
    to_dataframe,
    to_wfdb,
)
from ecgforge.labels import custom_vocabulary
from ecgforge.leads import STANDARD_LEADS
from ecgforge.record import EcgRecord, Patient, Provenance


@pytest.fixture(scope="module")
def record() -> EcgRecord:
    simulated = simulate_record("IMI:0.5,SR", seed=1, index=3, seconds=2)
    return replace(
        simulated,
        record_id="a/b 7",
        likelihoods={"IMI": 50.0},
        patient=Patient(patient_id="Zoë", age=61.0, sex="female"),
        provenance=Provenance(synthetic=True, source="tests, é", seed=2**62 + 1, index=3, fold=9),
    )


def assert_same(found: EcgRecord, expected: EcgRecord) -> None:
    np.testing.assert_array_equal(found.signal, expected.signal)
    for name in ("rate", "leads", "record_id", "statements", "likelihoods", "patient", "provenance"):
        assert getattr(found, name) == getattr(expected, name), name


# ------------------------------------------------------------------------------------------------ NumPy


def test_signals_are_stacked_in_the_order_of_leads_asked_for(record: EcgRecord) -> None:
    turned = replace(record, signal=record.signal[::-1], leads=record.leads[::-1])
    stacked = stack_signals([record, turned], leads=("V2", "I"))
    assert (stacked.shape, stacked.dtype) == ((2, 2, 200), np.float32)
    np.testing.assert_array_equal(stacked[0], record.signal[[7, 0]])
    np.testing.assert_array_equal(stacked[1], stacked[0])


def test_splitting_is_the_inverse_of_stacking(record: EcgRecord) -> None:
    others = [replace(record, record_id=str(number), likelihoods={}, patient=Patient()) for number in range(3)]
    back = split_signals(
        stack_signals(others),
        rate=100,
        statements=["IMI:0.5,SR", {"IMI": 0.5, "SR": 1.0}, "imi:0.5,sr"],
        provenance=record.provenance,
    )
    for found, expected in zip(back, others, strict=True):
        assert_same(found, expected)
    assert split_signals(stack_signals(others), rate=100, statements=["", {}, "SR"])[1].statements == {}


def test_labels_are_vectors_in_the_order_of_the_vocabulary(record: EcgRecord) -> None:
    labels = stack_labels([record, replace(record, statements={"AFIB": 1.0})], custom_vocabulary(["SR", "AFIB", "IMI"]))
    np.testing.assert_array_equal(labels, np.array([[1, 0, 0.5], [0, 1, 0]], dtype=np.float32))
    assert stack_labels([], custom_vocabulary(["SR"])).shape == (0, 1)


def test_records_that_do_not_stack_are_named(record: EcgRecord) -> None:
    with pytest.raises(DataError, match="one or more records"):
        stack_signals([])
    with pytest.raises(DataError, match="200 samples at 100 Hz as the first one, got 199 at 100 Hz in record short"):
        stack_signals([record, replace(record, signal=record.signal[:, 1:], record_id="short")])
    with pytest.raises(DataError, match="got 200 at 50 Hz in record number 1"):
        stack_signals([record, replace(record, rate=50, record_id="")])
    with pytest.raises(DataError, match="record a/b 7: expected leads"):
        stack_signals([replace(record, signal=record.signal[:2], leads=("I", "II"))])


def test_arrays_that_do_not_split_are_refused(record: EcgRecord) -> None:
    signals = stack_signals([record, record])
    with pytest.raises(DataError, match="expected 2 statement sets, one a record, got 1"):
        split_signals(signals, rate=100, statements=["SR"])
    with pytest.raises(DataError, match="expected 2 record ids, one a record, got 3"):
        split_signals(signals, rate=100, record_ids=["a", "b", "c"])
    with pytest.raises(DataError, match="with 2 leads, got"):
        split_signals(signals, rate=100, leads=("I", "II"))
    with pytest.raises(LabelError, match="unknown ECG statement 'AFIBB'"):
        split_signals(signals, rate=100, statements=["AFIBB", "SR"])
    with pytest.raises(LabelError, match="at most 1, got {'AFIB': 2.0}"):
        split_signals(signals, rate=100, statements=[{"AFIB": 2.0}, "SR"])


# ----------------------------------------------------------------------------------------------- pandas


def test_a_data_frame_holds_the_record(record: EcgRecord) -> None:
    frame = to_dataframe(record)
    assert list(frame.columns) == [f"{lead}_mV" for lead in STANDARD_LEADS]
    assert frame.index.name == "time_s" and frame.index[150] == 1.5
    np.testing.assert_array_equal(frame["V2_mV"].to_numpy(), record.lead("V2"))
    assert frame.attrs["statements"] == "IMI:0.5,SR" and frame.attrs["synthetic"] == "yes"
    assert_same(from_dataframe(frame), record)


def test_a_data_frame_can_be_cut_thinned_and_scaled(record: EcgRecord) -> None:
    frame = to_dataframe(record)
    window = from_dataframe(frame.loc[0.5:1.0, ["V2_mV", "I_mV"]])
    np.testing.assert_array_equal(window.signal, record.signal[[7, 0], 50:101])
    assert window.leads == ("V2", "I") and window.statements == record.statements
    with pytest.raises(DataError, match="even steps of 1/100 s"):
        from_dataframe(frame.iloc[::2])
    assert from_dataframe(frame.iloc[::2], rate=50).rate == 50
    microvolts = (frame * 1000).rename(columns=lambda name: name.replace("_mV", "_uV"))
    np.testing.assert_allclose(from_dataframe(microvolts).signal, record.signal, rtol=1e-6)


def test_the_tables_of_csv_and_parquet_files_are_such_data_frames(record: EcgRecord, tmp_path: Path) -> None:
    path = write_record(record, tmp_path / "one.csv")
    found = from_dataframe(pd.read_csv(path, comment="#"))
    np.testing.assert_allclose(found.signal, read_record(path).signal, atol=1e-7)
    assert (found.rate, found.record_id, found.statements) == (pytest.approx(100), "", {})


def test_data_frames_of_other_kinds_are_refused(record: EcgRecord) -> None:
    frame = to_dataframe(record)
    plain = pd.DataFrame(frame.to_numpy(), columns=frame.columns)
    assert from_dataframe(plain, rate=100).rate == 100
    with pytest.raises(DataError, match="index or a column time_s, got neither; add one or give the rate"):
        from_dataframe(plain)
    with pytest.raises(DataError, match="expected columns such as time_s,I_mV,II_mV"):
        from_dataframe(plain.rename(columns={"I_mV": "I"}), rate=100)
    with pytest.raises(DataError, match="1 missing ones in lead V1"):
        from_dataframe(plain.mask((plain.index.to_numpy() == 3)[:, None] & (plain.columns == "V1_mV")), rate=100)
    with pytest.raises(DataError, match="a number in every cell"):
        from_dataframe(plain.assign(I_mV="high"), rate=100)
    with pytest.raises(DataError, match="sampling rate above 0 Hz"):
        from_dataframe(plain, rate=0)


def test_the_table_of_records_keeps_large_seeds_and_missing_facts(record: EcgRecord) -> None:
    bare = EcgRecord(signal=np.zeros((1, 50)), rate=25, leads=("II",), record_id="bare")
    table = tabulate_records([record, bare])
    assert list(table.index) == ["a/b 7", "bare"]
    assert table["seed"].iloc[0] == 2**62 + 1
    assert table.loc["bare", ["patient_id", "age", "sex", "seed", "seed_index", "fold"]].isna().all()
    assert table.loc["bare", ["statements", "rate_hz", "duration_s", "leads"]].tolist() == ["", 25, 2, "II"]
    assert table["synthetic"].tolist() == [True, False]
    assert len(tabulate_records([])) == 0


# ------------------------------------------------------------------------------------------------- wfdb


def test_a_wfdb_record_and_back_is_the_record(record: EcgRecord) -> None:
    found = to_wfdb(record)
    assert (found.fs, found.sig_len, found.sig_name, found.units[0]) == (100, 200, list(STANDARD_LEADS), "mV")
    assert found.record_name == "a-b-7"
    assert_same(from_wfdb(found), record)


def test_the_wfdb_package_writes_and_reads_it(record: EcgRecord, tmp_path: Path) -> None:
    to_wfdb(record).wrsamp(write_dir=str(tmp_path))
    theirs = wfdb.rdrecord(str(tmp_path / "a-b-7"))
    ours = read_record(tmp_path / "a-b-7.hea")
    assert_same(from_wfdb(theirs), ours)
    assert np.abs(ours.signal - record.signal).max() <= 0.5001e-3  # half a microvolt
    assert ours.statements == record.statements and ours.provenance == record.provenance


def test_digital_samples_and_other_units_become_millivolts(record: EcgRecord) -> None:
    found = to_wfdb(record)
    found.p_signal = None
    np.testing.assert_allclose(from_wfdb(found).signal, np.rint(record.signal * 1000) / 1000, atol=1e-6)
    volts = to_wfdb(record)
    volts.units, volts.p_signal = ["V"] * 12, volts.p_signal / 1000
    np.testing.assert_allclose(from_wfdb(volts).signal, record.signal, rtol=1e-6)


def test_wfdb_records_that_cannot_be_taken_are_refused(record: EcgRecord) -> None:
    found = to_wfdb(record)
    found.units[0] = "bpm"
    with pytest.raises(DataError, match="a-b-7: expected signals in mV, uV or V, got 'bpm'"):
        from_wfdb(found)
    found = to_wfdb(record)
    found.p_signal = found.d_signal = None
    with pytest.raises(DataError, match="expected a record in one piece"):
        from_wfdb(found)
    with pytest.raises(DataError, match="within"):
        to_wfdb(replace(record, signal=record.signal + 40))
