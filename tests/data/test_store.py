import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgforge.data.manifest import Reading, ReportEntry, read_index
from ecgforge.data.store import EcgStore, StoreWriter, to_microvolts
from ecgforge.errors import DataError
from ecgforge.labels import all_statements, vocabulary
from ecgforge.leads import STANDARD_LEADS
from ecgforge.record import EcgRecord, Patient, Provenance


def record(number: int, *, samples: int = 50, fold: int | None = 1, leads=STANDARD_LEADS, **facts) -> EcgRecord:
    microvolts = np.random.default_rng(number).integers(-32767, 32768, size=(12, samples))
    return EcgRecord(
        signal=(microvolts / 1000).astype(np.float32),
        rate=100.0,
        leads=tuple(leads),
        record_id=facts.pop("record_id", f"r{number}"),
        statements=facts.pop("statements", {"NORM": 1.0, "SR": 1.0}),
        likelihoods=facts.pop("likelihoods", {}),
        patient=facts.pop("patient", Patient()),
        provenance=facts.pop("provenance", Provenance(fold=fold)),
    )


def write(dest, ecgs, **options) -> EcgStore:
    with StoreWriter(dest, rate=100, samples=50, source="test", **options) as writer:
        writer.add_many(ecgs)
    return EcgStore.open(dest)


def test_record_survives_the_store_to_the_microvolt_with_all_its_facts(tmp_path):
    original = record(
        7,
        statements={"IMI": 0.5, "SR": 1.0, "PRC(S)": 1.0, "LAO/LAE": 1.0},
        likelihoods={"IMI": 35.0, "SR": 0.0},
        patient=Patient(patient_id="007", age=300.0, sex="female"),
        provenance=Provenance(synthetic=True, source="test 2", seed=2**62 + 1, index=5, fold=9),
    )
    store = write(tmp_path / "s", [original], synthetic=True, source_version="2")
    back = store.record(0)
    np.testing.assert_array_equal(back.signal, original.signal)
    for field in ("rate", "leads", "record_id", "statements", "likelihoods", "patient", "provenance"):
        assert getattr(back, field) == getattr(original, field), field


def test_unknown_facts_stay_unknown(tmp_path):
    store = write(tmp_path / "s", [record(1, statements={}, fold=None)])
    back = store.record(0)
    assert back.patient == Patient() and back.statements == {} and back.provenance.fold is None


def test_ids_that_look_like_numbers_or_missing_values_stay_text(tmp_path):
    ids = ["007", "1e5", "NA", "nan", 'with "quotes", and commas']
    store = write(tmp_path / "s", [record(n, record_id=name) for n, name in enumerate(ids)])
    assert store.index["record_id"].tolist() == ids
    assert [store.record(row).record_id for row in range(len(ids))] == ids


def test_leads_in_another_order_are_put_in_standard_order(tmp_path):
    plain, turned = record(3), record(3, leads=reversed(STANDARD_LEADS))
    store = write(tmp_path / "s", [turned])
    np.testing.assert_array_equal(store.signals_mv([0])[0], plain.signal[::-1])


@pytest.mark.parametrize("known", [None, 3, 5, 900])
def test_any_number_of_records_fits_whatever_was_announced(tmp_path, monkeypatch, known):
    monkeypatch.setattr("ecgforge.data.store._FIRST_CAPACITY", 2)
    records = [record(number) for number in range(5)]
    store = write(tmp_path / "s", records, records=known)
    assert store.signals.shape == (5, 12, 50) and store.signals.dtype == np.int16
    np.testing.assert_array_equal(store.signals_mv(range(5)), np.stack([one.signal for one in records]))
    assert (tmp_path / "s" / "signals.npy").stat().st_size == 128 + 5 * 12 * 50 * 2


def test_the_same_records_give_the_same_bytes_whatever_was_announced(tmp_path):
    for name, known in (("a", None), ("b", 2)):
        write(tmp_path / name, [record(1), record(2)], records=known)
    for file in ("signals.npy", "index.csv", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@given(st.integers(-32767, 32767))
def test_every_microvolt_survives_float32_millivolts(microvolts):
    millivolts = np.full((1, 1), microvolts, dtype=np.float32) / np.float32(1000)
    assert to_microvolts(millivolts)[0, 0] == microvolts


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (32.768, "32.768 mV"),
        (-32.768, "32.768 mV"),
        (np.nan, "finite"),
        (np.inf, "finite"),
        (-np.inf, "finite"),
    ],
)
def test_values_beyond_int16_are_refused_not_wrapped(tmp_path, value, message):
    bad = record(2)
    bad.signal[4, 7] = value
    with (
        pytest.raises(DataError, match=message),
        StoreWriter(tmp_path / "s", rate=100, samples=50, source="test") as writer,
    ):
        writer.add(record(1))
        writer.add(bad)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (record(1), "r1 occurs twice"),
        (record(2, record_id=""), "expected a record id"),
        (record(2, samples=49), "got 49 samples at 100 Hz"),
        (record(2, provenance=Provenance(synthetic=True)), "expected measured records, got a synthetic one"),
        (
            EcgRecord(signal=np.zeros((1, 50), dtype=np.float32), rate=100.0, leads=("I",), record_id="x"),
            "missing",
        ),
    ],
)
def test_records_that_do_not_fit_are_refused(tmp_path, bad, message):
    with (
        pytest.raises(DataError, match=message),
        StoreWriter(tmp_path / "s", rate=100, samples=50, source="test") as writer,
    ):
        writer.add_many([record(1), bad])


def test_an_interrupted_build_leaves_nothing_and_an_existing_store_intact(tmp_path):
    write(tmp_path / "s", [record(1)])
    before = {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()}
    with (
        pytest.raises(KeyboardInterrupt),
        StoreWriter(tmp_path / "s", rate=100, samples=50, source="test", overwrite=True) as writer,
    ):
        writer.add(record(2))
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()} == before


def test_an_existing_store_is_replaced_only_on_request(tmp_path):
    write(tmp_path / "s", [record(1)])
    with pytest.raises(DataError, match="--overwrite"):
        write(tmp_path / "s", [record(2)])
    assert EcgStore.open(tmp_path / "s").record(0).record_id == "r1"
    assert write(tmp_path / "s", [record(2)], overwrite=True).record(0).record_id == "r2"
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_folder_that_is_no_store_is_never_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")
    with pytest.raises(DataError, match="not a store"):
        write(tmp_path / "thesis", [record(1)], overwrite=True)
    assert (tmp_path / "thesis" / "chapter1.txt").read_text() == "years of work"


def test_the_remains_of_a_killed_build_are_replaced_with_a_note(tmp_path):
    remains = tmp_path / "s.building"
    remains.mkdir()
    (remains / "signals.npy").write_bytes(b"half")
    with StoreWriter(tmp_path / "s", rate=100, samples=50, source="test") as writer:
        writer.add(record(1))
    assert "interrupted" in writer.summary().notes[0]
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_two_builds_at_once_do_not_mix(tmp_path):
    first = StoreWriter(tmp_path / "s", rate=100, samples=50, source="first")
    second = StoreWriter(tmp_path / "s", rate=100, samples=50, source="second")
    first.__enter__()
    first.add(record(1))
    with second:
        with pytest.raises(DataError, match="one build at a time"):
            first.__exit__(None, None, None)
        second.add(record(2))
    store = EcgStore.open(tmp_path / "s")
    assert store.manifest.source == "second" and store.index["record_id"].tolist() == ["r2"]


def test_a_store_without_records_is_refused(tmp_path):
    with pytest.raises(DataError, match="at least one usable record"):
        write(tmp_path / "s", [])
    assert list(tmp_path.iterdir()) == []


def test_opening_says_what_is_wrong_and_what_to_do(tmp_path):
    with pytest.raises(DataError, match="does not exist; make one"):
        EcgStore.open(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no manifest\.json"):
        EcgStore.open(tmp_path)


def change_manifest(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write(tmp_path / "file" / "s", [record(1)])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: change_manifest(s, format_version=99), "format version 1, got 99"),
        (lambda s: change_manifest(s, surprise=1), "surprise"),
        (lambda s: change_manifest(s, records=3), r"\(3, 12, 50\)"),
        (lambda s: (s / "manifest.json").write_text("{"), "damaged"),
        (lambda s: (s / "manifest.json").write_text("[]"), "damaged"),
        (lambda s: (s / "signals.npy").write_bytes((s / "signals.npy").read_bytes()[:-2]), "damaged"),
        (lambda s: (s / "signals.npy").unlink(), "damaged"),
        (lambda s: (s / "signals.npy").write_bytes(b""), "damaged"),
        (lambda s: change_manifest(s, rate="fast"), "damaged"),
        (lambda s: (s / "index.csv").write_text("record_id\nr1\n"), "expected the columns"),
        (
            lambda s: (s / "index.csv").write_text((s / "index.csv").read_text().rpartition("r2")[0]),
            "1 rows",
        ),
    ],
)
def test_a_damaged_store_does_not_open(tmp_path, damage, message):
    write(tmp_path / "s", [record(1), record(2)])
    damage(tmp_path / "s")
    with pytest.raises(DataError, match=message) as raised:
        EcgStore.open(tmp_path / "s")
    assert str(tmp_path / "s") in str(raised.value)


def test_rows_by_fold_and_label_quality(tmp_path):
    with StoreWriter(tmp_path / "s", rate=100, samples=50, source="test") as writer:
        for number, (fold, quality) in enumerate([(1, 2), (2, 1), (9, 0), (2, None), (None, 2)]):
            writer.add(record(number, fold=fold), label_quality=quality)
    store = EcgStore.open(tmp_path / "s")
    assert store.rows().tolist() == [0, 1, 2, 3, 4]
    assert store.rows(folds=[2, 9]).tolist() == [1, 2, 3]
    assert store.rows(min_label_quality=2).tolist() == [0, 3, 4]  # none given counts as exact
    assert store.rows(folds=(2,), min_label_quality=2).tolist() == [3]
    with pytest.raises(DataError, match="which has 1 2 9, got 3 10"):
        store.rows(folds=[1, 10, 3])


def test_labels_are_grades_in_the_columns_of_the_vocabulary(tmp_path):
    store = write(
        tmp_path / "s",
        [
            record(1, statements={"IMI": 0.5, "SR": 1.0}),
            record(2, statements={}),
            record(3, statements={"AMI": 1.0}),
        ],
    )
    everything = store.labels(vocabulary("all"))
    codes = list(all_statements())
    assert everything.shape == (3, 71) and everything.dtype == np.float32
    assert everything.sum(axis=1).tolist() == [1.5, 0, 1]
    assert everything[0, codes.index("IMI")] == 0.5 and everything[2, codes.index("AMI")] == 1
    classes = vocabulary("superdiagnostic")
    assert store.labels(classes)[:, classes.labels.index("MI")].tolist() == [0.5, 0, 1]


def test_a_row_outside_the_store_is_an_error(tmp_path):
    store = write(tmp_path / "s", [record(1)])
    for row in (-1, 1):
        with pytest.raises(DataError, match="expected a row from 0 to 0"):
            store.record(row)


def test_a_pickled_store_opens_its_files_instead_of_carrying_them(tmp_path):
    store = write(tmp_path / "s", [record(number) for number in range(20)])
    frozen = pickle.dumps(store)
    assert len(frozen) < 1000
    np.testing.assert_array_equal(pickle.loads(frozen).signals, store.signals)


def test_readings_that_do_not_fit_go_to_the_report(tmp_path):
    broken = ReportEntry("r9", "r9.hea", "left out", "no signal")
    readings = [
        Reading(record(1), "r1.hea", label_quality=1),
        Reading(None, "r9.hea", entries=(broken,)),
        Reading(record(1), "again.hea"),
        Reading(record(2), "r2.hea", entries=(ReportEntry("r2", "r2.hea", "noted", "odd"),)),
    ]
    seen = []
    with StoreWriter(tmp_path / "s", rate=100, samples=50, source="test") as writer:
        writer.add_readings(readings, total=4, progress=lambda done, total: seen.append((done, total)))
    summary = writer.summary()
    assert (summary.records, summary.count("left out"), summary.count("noted")) == (2, 2, 1)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    store = EcgStore.open(tmp_path / "s")
    assert store.manifest.report_counts == {"left out": 2, "noted": 1}
    assert store.index["source_file"].tolist() == ["r1.hea", "r2.hea"]
    lines = (tmp_path / "s" / "report.csv").read_text().splitlines()
    assert lines[0] == "record_id,file,action,reason" and lines[1] == "r9,r9.hea,left out,no signal"
    assert set(store.manifest.sha256) == {"signals.npy", "index.csv", "report.csv"}


def test_strict_turns_the_first_problem_into_an_error(tmp_path):
    readings = [Reading(record(1), "a.hea"), Reading(record(1), "b.hea")]
    with (
        pytest.raises(DataError, match=r"b\.hea.*occurs twice"),
        StoreWriter(tmp_path / "s", rate=100, samples=50, source="test") as writer,
    ):
        writer.add_readings(readings, total=2, strict=True)


def test_index_refuses_a_number_that_is_none(tmp_path):
    write(tmp_path / "s", [record(1)])
    path = tmp_path / "s" / "index.csv"
    path.write_text(path.read_text().replace("r1,,1,", "r1,,one,"))
    with pytest.raises(ValueError, match="one"):
        read_index(path)
