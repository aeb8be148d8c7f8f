import re

import numpy as np
import pytest
import wfdb

from ecgforge.data.store import EcgStore
from ecgforge.data.wfdb_sets import build_wfdb, fold_by_hash
from ecgforge.errors import ConfigError, DataError
from ecgforge.formats.wfdb import write as write_record
from ecgforge.labels import all_statements
from ecgforge.leads import STANDARD_LEADS, lead_law_residual
from ecgforge.record import EcgRecord, Patient, Provenance
from ecgforge.snomed import STATEMENT_BY_SNOMED


def twelve(number: int, samples: int) -> np.ndarray:
    """Signals that obey the lead laws exactly, whole microvolts; (samples, 12)."""
    free = 2 * np.random.default_rng(number).integers(-1000, 1001, size=(samples, 8))
    i, ii = free[:, 0], free[:, 1]
    limb = [i, ii, ii - i, -(i + ii) // 2, i - ii // 2, ii - i // 2]
    return np.column_stack([*limb, free[:, 2:]])


def write(
    folder,
    name,
    steps,
    *,
    fs=100,
    names=STANDARD_LEADS,
    gain=1000.0,
    unit="mV",
    comments=(),
    fmt="16",
    baseline=0,
):
    folder.mkdir(parents=True, exist_ok=True)
    channels = len(names)
    wfdb.wrsamp(
        name,
        fs=fs,
        units=[unit] * channels,
        sig_name=list(names),
        d_signal=np.asarray(steps, dtype=np.int64),
        fmt=[fmt] * channels,
        adc_gain=[gain] * channels,
        baseline=[baseline] * channels,
        comments=list(comments),
        write_dir=str(folder),
    )


NORMAL = ("Age: 56", "Sex: Male", "Dx: 426783006")


def build(tmp_path, **options):
    summary = build_wfdb(tmp_path / "set", tmp_path / "store", jobs=1, **options)
    return summary, EcgStore.open(tmp_path / "store")


def reasons(summary, action):
    return [entry.reason for entry in summary.report if entry.action == action]


def test_records_of_any_folder_are_found_and_kept_to_the_microvolt(tmp_path):
    write(tmp_path / "set" / "g1", "A1", twelve(1, 1000), comments=NORMAL)
    write(tmp_path / "set", "B2", twelve(2, 1500), comments=NORMAL)
    summary, store = build(tmp_path)
    assert store.index["record_id"].tolist() == ["B2", "g1/A1"]
    np.testing.assert_array_equal(store.signals[0], twelve(2, 1500)[:1000].T)  # the first ten seconds
    np.testing.assert_array_equal(store.signals[1], twelve(1, 1000).T)
    assert summary.report == () and store.manifest.source == "set"
    back = store.record(1)
    assert back.statements == {"SR": 1.0} and back.patient == Patient(age=56.0, sex="male")
    assert back.provenance.fold == fold_by_hash("g1/A1")


def test_several_processes_read_the_same(tmp_path):
    for number in range(5):
        write(tmp_path / "set", f"A{number}", twelve(number, 1000), comments=NORMAL)
    _, store = build(tmp_path)
    build_wfdb(tmp_path / "set", tmp_path / "two", jobs=2)
    for file in ("signals.npy", "index.csv"):
        assert (tmp_path / "two" / file).read_bytes() == (store.path / file).read_bytes()


def test_units_gain_baseline_lead_order_and_spelling_do_not_matter(tmp_path):
    steps = twelve(3, 1000)
    shuffled = [11, 3, 5, 0, 1, 2, 4, 6, 7, 8, 9, 10]
    names = [STANDARD_LEADS[lead].upper() for lead in shuffled]
    write(
        tmp_path / "set",
        "uV",
        2 * steps[:, shuffled] + 100,
        names=names,
        gain=2.0,
        unit="uV",
        baseline=100,
        fmt="24",
        comments=NORMAL,
    )
    summary, store = build(tmp_path)
    np.testing.assert_array_equal(store.signals[0], steps.T)
    assert summary.report == ()


@pytest.mark.parametrize(("fs", "seconds"), [(500, 10), (360, 10), (257, 10), (1000, 2.5), (50, 10)])
def test_resampling_keeps_a_slow_sine(tmp_path, fs, seconds):
    """A 1.3 Hz sine on an offset, sampled at fs, is that sine at 100 Hz: within 1 % away from the ends."""

    def sine(rate, samples):
        times = np.arange(samples) / rate
        return 1000 * np.sin(2 * np.pi * 1.3 * times)[:, None] * np.linspace(0.2, 1, 12) + 300

    write(tmp_path / "set", "A", np.rint(sine(fs, int(12 * fs))), fs=fs, comments=NORMAL)
    _, store = build(tmp_path, seconds=seconds)
    expected = sine(100, store.samples).T
    assert store.samples == 100 * seconds
    inside = slice(30, -1)
    assert np.abs(store.signals[0][:, inside] - expected[:, inside]).max() < 10
    assert np.abs(store.signals[0] - expected).max() < 100  # nor does the offset ring at the ends


def test_resampling_keeps_the_lead_laws(tmp_path):
    write(tmp_path / "set", "A", twelve(4, 5000), fs=500, comments=NORMAL)
    _, store = build(tmp_path)
    assert lead_law_residual(store.signals_mv([0]))[0] < 0.0025  # two and a half microvolts of rounding


def test_missing_limb_leads_follow_from_i_and_ii(tmp_path):
    steps = twelve(5, 1000)
    kept = [0, 1, *range(6, 12)]
    write(tmp_path / "set", "A", steps[:, kept], names=[STANDARD_LEADS[lead] for lead in kept], comments=NORMAL)
    summary, store = build(tmp_path)
    np.testing.assert_array_equal(store.signals[0], steps.T)
    assert reasons(summary, "repaired") == ["computed III aVR aVL aVF from I and II"]


@pytest.mark.parametrize("missing", [(8,), (0,), (1, 2)])
def test_leads_that_cannot_be_made_up_leave_the_record_out(tmp_path, missing):
    write(tmp_path / "set", "good", twelve(1, 1000), comments=NORMAL)
    kept = [lead for lead in range(12) if lead not in missing]
    write(tmp_path / "set", "bad", twelve(2, 1000)[:, kept], names=[STANDARD_LEADS[lead] for lead in kept])
    summary, store = build(tmp_path)
    assert store.index["record_id"].tolist() == ["good"]
    (reason,) = reasons(summary, "left out")
    assert STANDARD_LEADS[missing[0]] in reason and "missing" in reason


def test_other_signals_are_named_not_dropped_in_silence(tmp_path):
    steps = np.column_stack([twelve(6, 1000), np.zeros((1000, 2))])
    write(tmp_path / "set", "A", steps, names=[*STANDARD_LEADS, "vx", "RESP"], comments=NORMAL)
    summary, store = build(tmp_path)
    np.testing.assert_array_equal(store.signals[0], twelve(6, 1000).T)
    assert reasons(summary, "noted") == ["signals that are none of the twelve leads are not in the store: vx RESP"]


def test_short_records_are_left_out_or_filled_up_on_request(tmp_path):
    write(tmp_path / "set", "long", twelve(1, 1000), comments=NORMAL)
    write(tmp_path / "set", "short", twelve(2, 700), comments=NORMAL)
    summary, store = build(tmp_path)
    assert store.index["record_id"].tolist() == ["long"]
    assert "7 s, shorter than 10 s" in reasons(summary, "left out")[0]
    summary, store = build(tmp_path, pad=True, overwrite=True)
    np.testing.assert_array_equal(store.signals[1][:, :700], twelve(2, 700).T)
    assert not store.signals[1][:, 700:].any()
    assert "filled up with zeros" in reasons(summary, "repaired")[0]


def damage_gain(folder):
    path = folder / "bad.hea"
    path.write_text(path.read_text().replace("1000.0(0)/mV", "0/mV", 1))


def damage_no_gain(folder):
    path = folder / "bad.hea"
    path.write_text("\n".join(re.sub(r" 16 1000.*", " 16", line) for line in path.read_text().splitlines()))


def damage_cut(folder):
    path = folder / "bad.dat"
    path.write_bytes(path.read_bytes()[:5000])


def damage_cut_beyond_the_crop(folder):
    write(folder, "bad", twelve(2, 4000))
    path = folder / "bad.dat"
    path.write_bytes(path.read_bytes()[:50000])


def damage_swap(folder):
    (folder / "bad.dat").write_bytes((folder / "good.dat").read_bytes())


def damage_segments(folder):
    (folder / "bad.hea").write_text("bad/2 12 100 1000\ngood 500\ngood 500\n")


DAMAGES = {
    damage_gain: "gain",
    damage_no_gain: "gain",
    damage_cut: "bad.dat: expected 24000 bytes as bad.hea says, got 5000",
    damage_cut_beyond_the_crop: "bad.dat: expected 96000 bytes as bad.hea says, got 50000",
    damage_swap: "belongs to another header",
    damage_segments: "segments",
    lambda folder: (folder / "bad.dat").unlink(): "no such signal file",
    lambda folder: (folder / "bad.hea").write_text(""): "number of signals in its first line",
    lambda folder: (folder / "bad.hea").write_bytes(b"\x00\xff\n" * 9): "number of signals in its first line",
    lambda folder: write(folder, "bad", np.full((1000, 12), -32768)): "missing in lead I",
    lambda folder: write(folder, "bad", twelve(2, 1000), unit="mmHg"): "mmHg",
    lambda folder: write(folder, "bad", twelve(2, 1000), gain=1.0): "expected values within",
    lambda folder: write(folder, "bad", twelve(2, 1000), names=["i", *STANDARD_LEADS[:11]]): "I more than once",
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.items())
def test_a_damaged_record_is_left_out_and_reported(tmp_path, damage, message):
    for number, name in ((1, "good"), (2, "bad")):
        write(tmp_path / "set", name, twelve(number, 1000), comments=NORMAL)
    damage(tmp_path / "set")
    summary, store = build(tmp_path)
    assert store.index["record_id"].tolist() == ["good"]
    (entry,) = summary.report
    assert (entry.record_id, entry.file, entry.action) == ("bad", "bad.hea", "left out")
    assert message in entry.reason


def test_header_statements_and_snomed_codes(tmp_path):
    comments = (
        "statements: IMI:0.5,XYZ",
        "Dx: 164889003,59118001,713427006,39732003",
        "Age: NaN",
        "Sex: Unknown",
    )
    write(tmp_path / "set", "A", twelve(1, 1000), comments=comments)
    summary, store = build(tmp_path)
    back = store.record(0)
    assert back.statements == {"IMI": 0.5, "AFIB": 1.0, "CRBBB": 1.0}
    assert back.patient == Patient()
    first, second = reasons(summary, "noted")
    assert "'XYZ'" in first and "39732003" in second


def test_odd_ages_and_sexes_are_reported(tmp_path):
    write(tmp_path / "set", "A", twelve(1, 1000), comments=("Age: old", "Sex: X", "Dx: 426783006"))
    summary, store = build(tmp_path)
    assert store.record(0).patient == Patient()
    assert ["'x'" in reasons(summary, "noted")[0], "'old'" in reasons(summary, "noted")[1]] == [True, True]


def test_a_record_without_statements_is_kept_and_noted(tmp_path):
    write(tmp_path / "set", "A", twelve(1, 1000))
    summary, store = build(tmp_path)
    assert store.record(0).statements == {} and reasons(summary, "noted") == ["no statement is known for this record"]


def test_every_snomed_code_means_a_statement_that_exists():
    assert set(STATEMENT_BY_SNOMED.values()) <= set(all_statements())
    assert all(code.isdecimal() for code in STATEMENT_BY_SNOMED)


def test_a_csv_replaces_what_headers_say(tmp_path):
    for name in ("A", "B", "C"):
        write(tmp_path / "set" / "g", name, twelve(ord(name), 1000), comments=NORMAL)
    table = tmp_path / "labels.csv"
    table.write_text('record,statements,fold\ng/A,"AFIB,LVH",3\nB.hea,WPW,\nZ,NORM,1\n')
    summary, store = build(tmp_path, statements_csv=table)
    assert [store.record(row).statements for row in range(3)] == [
        {"AFIB": 1.0, "LVH": 1.0},
        {"WPW": 1.0},
        {"SR": 1.0},
    ]
    assert store.index["fold"].tolist() == [3, fold_by_hash("g/B"), fold_by_hash("g/C")]
    (entry,) = summary.report
    assert (entry.record_id, entry.action) == ("Z", "left out") and "CSV" in entry.reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,label\nA,NORM\n", "record and statements"),
        ("record,statements\nA,NORM\nA.hea,SR\n", "A again"),
        ("record,statements,fold\nA,NORM,x\n", "fold of A"),
        ("", "cannot read"),
    ],
)
def test_a_csv_that_cannot_be_used_is_an_error(tmp_path, text, message):
    write(tmp_path / "set", "A", twelve(1, 1000))
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        build(tmp_path, statements_csv=tmp_path / "labels.csv")


def test_folds_are_stable_and_keep_patients_together(tmp_path):
    assert [fold_by_hash(name) for name in ("1", "2", "A0001")] == [4, 7, 4]
    assert {fold_by_hash(str(number)) for number in range(200)} == set(range(1, 11))
    for name in ("A", "B"):
        write(tmp_path / "set", name, twelve(1, 1000), comments=(*NORMAL, "patient_id: 17"))
    _, store = build(tmp_path)
    assert store.index["fold"].tolist() == [fold_by_hash("17")] * 2


def test_our_own_files_come_back_as_they_were(tmp_path):
    original = EcgRecord(
        signal=(twelve(9, 1000).T / 1000).astype(np.float32),
        rate=100.0,
        record_id="17",
        statements={"IMI": 0.25, "SR": 1.0},
        patient=Patient(patient_id="p", age=40.0, sex="female"),
        provenance=Provenance(synthetic=True, source="model", seed=3, index=17, fold=4),
    )
    (tmp_path / "set").mkdir()
    write_record(original, tmp_path / "set" / "r17")
    summary, store = build(tmp_path)
    back = store.record(0)
    np.testing.assert_array_equal(back.signal, original.signal)
    assert (back.statements, back.patient) == (original.statements, original.patient)
    assert store.manifest.synthetic and summary.report == ()
    assert (back.provenance.seed, back.provenance.index, back.provenance.fold) == (3, 17, 4)


def test_nothing_to_read_and_bad_settings_are_errors(tmp_path):
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match="expected WFDB records"):
        build(tmp_path)
    write(tmp_path / "set", "A", twelve(1, 10))
    for options in ({"rate": 0}, {"seconds": -1}, {"rate": 1, "seconds": 0.1}):
        with pytest.raises(ConfigError, match="above 0"):
            build(tmp_path, **options)
    with pytest.raises(DataError, match="at least one usable record"):
        build(tmp_path)
    with pytest.raises(ConfigError, match="at least 1 job"):
        build_wfdb(tmp_path / "set", tmp_path / "store", jobs=0)
