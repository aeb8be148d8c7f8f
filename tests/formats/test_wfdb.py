"""WFDB: inverse, what the plain wfdb package sees, foreign records, and every kind of damage."""

from pathlib import Path

import numpy as np
import pytest
import wfdb as plain_wfdb
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from independent import assert_same_signal, read_independently

from ecgforge.errors import DataError, LabelError
from ecgforge.formats import wfdb
from ecgforge.labels import all_statements
from ecgforge.leads import STANDARD_LEADS
from ecgforge.record import EcgRecord, Patient, Provenance

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
CODES = st.sampled_from(list(all_statements()))
WHOLE = st.none() | st.integers(0, 2**63 - 1)


SIGNALS = st.lists(st.sampled_from(STANDARD_LEADS), min_size=1, unique=True).flatmap(
    lambda leads: st.tuples(
        st.just(tuple(leads)),
        st.integers(1, 40).flatmap(
            lambda length: hnp.arrays(np.int32, (len(leads), length), elements=st.integers(-32767, 32767))
        ),
    )
)
PATIENTS = st.fixed_dictionaries(
    {
        "patient_id": st.none() | TEXTS.filter(bool),
        "age": st.none() | st.floats(0, 300),
        "sex": st.sampled_from([None, "male", "female"]),
    }
)
ORIGINS = st.tuples(st.booleans(), TEXTS, WHOLE, WHOLE, WHOLE)


FACTS = ("rate", "leads", "record_id", "statements", "likelihoods", "patient", "provenance")


@given(
    signal=SIGNALS,
    rate=st.sampled_from([100.0, 128.0, 250.0, 257.14, 500.0, 1000.0]),
    record_id=TEXTS,
    statements=st.dictionaries(CODES, st.integers(1, 100).map(lambda percent: percent / 100), max_size=4),
    likelihoods=st.dictionaries(CODES, st.integers(0, 100).map(float), max_size=4),
    patient=PATIENTS,
    origin=ORIGINS,
)
@settings(max_examples=60, deadline=None)
def test_reading_is_the_inverse_of_writing(
    signal: tuple[tuple[str, ...], np.ndarray],
    rate: float,
    record_id: str,
    statements: dict[str, float],
    likelihoods: dict[str, float],
    patient: dict[str, object],
    origin: tuple[bool, str, int | None, int | None, int | None],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    leads, steps = signal
    record = EcgRecord(
        signal=(steps / 1000).astype(np.float32),
        rate=rate,
        leads=leads,
        record_id=record_id,
        statements=statements,
        likelihoods=likelihoods,
        patient=Patient(**patient),
        provenance=Provenance(*origin),
    )
    path = wfdb.write(record, tmp_path_factory.mktemp("wfdb") / "record_1")
    back = wfdb.read(path)
    assert np.abs(back.signal - record.signal).max() <= 0.5e-3
    for fact in FACTS:
        assert getattr(back, fact) == getattr(record, fact), fact


def test_plain_wfdb_reads_what_we_write(tmp_path: Path, record: EcgRecord) -> None:
    path = wfdb.write(record, tmp_path / "00017_lr.dat")
    assert path == tmp_path / "00017_lr.hea"
    found = plain_wfdb.rdrecord(str(tmp_path / "00017_lr"))
    assert np.abs(found.p_signal.T - record.signal).max() <= 0.5e-3 + 1e-6
    assert found.sig_name == list(STANDARD_LEADS)
    assert (found.fs, found.fmt[0], found.adc_gain[0], found.units[0]) == (100, "16", 1000.0, "mV")
    assert found.comments[:2] == ["synthetic: yes", "record_id: 17"]
    assert "statements: NORM:0.5,SR" in found.comments
    assert "Age: 56" in found.comments and "Sex: female" in found.comments
    steps = plain_wfdb.rdrecord(str(tmp_path / "00017_lr"), physical=False)
    assert [value % 2**16 for value in steps.checksum] == [value % 2**16 for value in steps.calc_checksum()]
    assert steps.init_value == steps.d_signal[0].tolist()


def test_ecgdatakit_reads_what_we_write(tmp_path: Path, record: EcgRecord) -> None:
    assert_same_signal(read_independently(wfdb.write(record, tmp_path / "a")), record)


def test_statements_stand_in_the_header_as_the_challenges_write_them(tmp_path: Path, record: EcgRecord) -> None:
    lines = wfdb.write(record, tmp_path / "a").read_text().splitlines()
    assert "# Dx: 164854000,426783006" in lines
    assert "# NORM: normal ECG (SNOMED CT 164854000), grade 0.5" in lines


def test_writing_leaves_no_other_file(tmp_path: Path, record: EcgRecord) -> None:
    wfdb.write(record, tmp_path / "a")
    wfdb.write(record, tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.dat", "a.hea"]


@pytest.mark.parametrize(("units", "factor"), [("uV", 1e-3), ("mV", 1.0), ("V", 1e3)])
def test_a_foreign_record_comes_in_mv_with_standard_leads(tmp_path: Path, units: str, factor: float) -> None:
    values = np.array([[1.0, -2.0], [0.5, 0.25], [0.0, 3.0]])
    plain_wfdb.wrsamp(
        "foreign",
        fs=250,
        units=[units, units],
        sig_name=["AVR", "v2"],
        p_signal=values,
        fmt=["16", "16"],
        comments=["Age: 74", "Sex: Male", "Dx: 426783006"],
        write_dir=str(tmp_path),
    )
    back = wfdb.read(tmp_path / "foreign")
    assert back.leads == ("aVR", "V2")
    np.testing.assert_allclose(back.signal, values.T * factor, rtol=1e-3)
    assert (back.rate, back.record_id, back.patient) == (250.0, "foreign", Patient(age=74.0, sex="male"))
    assert not back.provenance.synthetic and back.statements == {}


def test_unknown_age_and_sex_of_a_foreign_record(tmp_path: Path) -> None:
    _foreign(tmp_path, np.zeros((4, 1)), comments=["Age: NaN", "Sex: Unknown"])
    assert wfdb.read(tmp_path / "foreign").patient == Patient()


def test_a_challenge_record_with_mat_signals(tmp_path: Path) -> None:
    steps = np.arange(-6, 6, dtype="<i2").reshape(6, 2)
    (tmp_path / "A1.mat").write_bytes(bytes(24) + steps.tobytes())
    lines = ["A1 2 500 6"] + [f"A1.mat 16+24 1000/mV 16 0 {steps[0, i]} 0 0 {STANDARD_LEADS[i]}" for i in (0, 1)]
    (tmp_path / "A1.hea").write_text("\n".join(lines) + "\n#Age: 59\n#Sex: Female\n")
    back = wfdb.read(tmp_path / "A1.mat")
    np.testing.assert_allclose(back.signal, steps.T / 1000, atol=1e-7)
    assert back.patient == Patient(age=59.0, sex="female")


def _foreign(folder: Path, values: np.ndarray, *, name: str = "II", comments: list[str] | None = None) -> Path:
    plain_wfdb.wrsamp(
        "foreign",
        fs=100,
        units=["mV"],
        sig_name=[name],
        p_signal=values,
        fmt=["16"],
        adc_gain=[1000.0],
        baseline=[0],
        comments=comments or [],
        write_dir=str(folder),
    )
    return folder / "foreign.hea"


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_refuses_a_header_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.hea: no such"):
        wfdb.read(tmp_path / "gone.dat")


def test_refuses_a_missing_signal_file(tmp_path: Path, record: EcgRecord) -> None:
    path = wfdb.write(record, tmp_path / "a")
    (tmp_path / "a.dat").unlink()
    with pytest.raises(DataError, match=r"a\.dat: no such signal file, though a\.hea names it"):
        wfdb.read(path)


@pytest.mark.parametrize("change", [-1, -2400, 2])
def test_refuses_a_signal_file_of_another_length(tmp_path: Path, record: EcgRecord, change: int) -> None:
    path = wfdb.write(record, tmp_path / "a")
    content = (tmp_path / "a.dat").read_bytes()
    (tmp_path / "a.dat").write_bytes(content[:change] if change < 0 else content + bytes(change))
    with pytest.raises(DataError, match=rf"a\.dat: expected {len(content)} bytes"):
        wfdb.read(path)


def test_refuses_the_signal_of_another_record(tmp_path: Path, record: EcgRecord) -> None:
    path = wfdb.write(record, tmp_path / "a")
    (tmp_path / "a.dat").write_bytes((tmp_path / "a.dat").read_bytes()[::-1])
    with pytest.raises(DataError, match=r"a\.hea: .*another header"):
        wfdb.read(path)


@pytest.mark.parametrize("gain", ["0(0)/mV", "0/mV", "0.0"])
def test_refuses_a_gain_of_zero(tmp_path: Path, record: EcgRecord, gain: str) -> None:
    path = wfdb.write(record, tmp_path / "a")
    _edit(path, "1000(0)/mV", gain)
    with pytest.raises(DataError, match=r"a\.hea: expected a gain"):
        wfdb.read(path)


def test_refuses_missing_samples(tmp_path: Path) -> None:
    values = np.array([[0.1], [np.nan], [0.2]])
    with pytest.raises(DataError, match=r"foreign\.hea: .* 1 missing ones in lead II"):
        wfdb.read(_foreign(tmp_path, values))


def test_refuses_a_lead_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"foreign\.hea: .*'PLETH'"):
        wfdb.read(_foreign(tmp_path, np.zeros((4, 1)), name="PLETH"))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (" 0 V6", " 0 V5", "V5 more than once"),
        ("/mV 16 0", "/mmHg 16 0", "mmHg"),
        ("a 12 100", "a 0 100", "at least one signal"),
        ("a 12 100", "a 13 100", "13 signal lines"),
        ("a 12 100", "a/2 12 100", "segments"),
        ("a 12 100", "a 12 0", "0"),
        ("a 12 100", "what is this", "number of signals"),
        ("a.dat 16 ", "a.dat 77 ", "cannot"),
        ("seed: 3", "seed: three", "whole number for seed"),
        ("likelihoods: NORM:100", "likelihoods: NORM:much", "likelihoods such as"),
    ],
)
def test_refuses_a_header_that_makes_no_sense(
    tmp_path: Path, record: EcgRecord, old: str, new: str, complaint: str
) -> None:
    path = wfdb.write(record, tmp_path / "a")
    _edit(path, old, new)
    with pytest.raises(DataError, match=complaint) as caught:
        wfdb.read(path)
    assert "a.hea" in str(caught.value)


def test_refuses_an_unknown_statement_and_names_the_file(tmp_path: Path, record: EcgRecord) -> None:
    path = wfdb.write(record, tmp_path / "a")
    _edit(path, "statements: NORM:0.5", "statements: NORMAL")
    with pytest.raises(LabelError, match=r"a\.hea: .*NORMAL"):
        wfdb.read(path)


@pytest.mark.parametrize("value", [32.768, -32.768, 40.0, np.nan, np.inf])
def test_writes_nothing_that_16_bits_cannot_hold(tmp_path: Path, value: float) -> None:
    record = EcgRecord(signal=np.full((1, 5), value, dtype=np.float32), rate=100.0, leads=("V3",))
    with pytest.raises(DataError, match="lead V3"):
        wfdb.write(record, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["two words", "a.b", "überall"])
def test_writes_only_names_that_wfdb_reads(tmp_path: Path, record: EcgRecord, name: str) -> None:
    with pytest.raises(DataError, match="record name"):
        wfdb.write(record, tmp_path / name)


def test_writes_no_unknown_statement(tmp_path: Path) -> None:
    record = EcgRecord(signal=np.zeros((1, 5), np.float32), rate=100.0, leads=("I",), statements={"NOPE": 1.0})
    with pytest.raises(LabelError, match="NOPE"):
        wfdb.write(record, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_data_error(tmp_path: Path, record: EcgRecord) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        wfdb.write(record, tmp_path / "file" / "a")
