import csv

import numpy as np
import pytest
import wfdb

from ecgforge.data.ptbxl import build_ptbxl, detect_version
from ecgforge.data.store import EcgStore
from ecgforge.errors import ConfigError, DataError
from ecgforge.leads import STANDARD_LEADS
from ecgforge.record import Patient

PUBLISHED_NAMES = [name.upper() for name in STANDARD_LEADS[:6]] + list(STANDARD_LEADS[6:])


def microvolts(ecg_id: int, rate: int) -> np.ndarray:
    """A signal that is different in every record, lead and sample; (samples, 12)."""
    return np.random.default_rng([ecg_id, rate]).integers(-5000, 5001, size=(10 * rate, 12))


def path_of(ecg_id: int, rate: int) -> str:
    ending = {100: "lr", 500: "hr"}[rate]
    return f"records{rate}/{ecg_id // 1000 * 1000:05d}/{ecg_id:05d}_{ending}"


def write_signal(src, ecg_id, rate, *, steps=None, fs=None, names=PUBLISHED_NAMES, gain=1000.0):
    base = src / path_of(ecg_id, rate)
    base.parent.mkdir(parents=True, exist_ok=True)
    steps = microvolts(ecg_id, rate) if steps is None else steps
    channels = len(names)
    wfdb.wrsamp(
        base.name,
        fs=fs or rate,
        units=["mV"] * channels,
        sig_name=list(names),
        d_signal=np.asarray(steps, dtype=np.int64)[:, :channels],
        fmt=["16"] * channels,
        adc_gain=[gain] * channels,
        baseline=[0] * channels,
        write_dir=str(base.parent),
    )
    return base


def row_of(number, **changes):
    row = {
        "ecg_id": str(number),
        "patient_id": f"{1000 + number}.0",
        "age": "56.0",
        "sex": "1",
        "scp_codes": "{'NORM': 100.0, 'SR': 0.0}",
        "strat_fold": str(number % 10 + 1),
        "filename_lr": path_of(number, 100),
        "filename_hr": path_of(number, 500),
    }
    return {**row, **changes}


def write_table(src, rows):
    src.mkdir(parents=True, exist_ok=True)
    with (src / "ptbxl_database.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), restval="")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def src(tmp_path):
    """Four records at both rates; id 3 is missing, as ids are in PTB-XL."""
    folder = tmp_path / "ptb-xl"
    for ecg_id in (1, 2, 4, 1005):
        for rate in (100, 500):
            write_signal(folder, ecg_id, rate)
    write_table(folder, [row_of(ecg_id) for ecg_id in (1, 2, 4, 1005)])
    return folder


def build(src, **options):
    dest = src.parent / "store"
    summary = build_ptbxl(src, dest, jobs=options.pop("jobs", 1), overwrite=True, **options)
    return summary, EcgStore.open(dest)


@pytest.mark.parametrize("rate", [100, 500])
@pytest.mark.parametrize("jobs", [1, 2])
def test_signals_are_those_of_the_files_to_the_microvolt(src, rate, jobs):
    seen = []
    summary, store = build(src, rate=rate, jobs=jobs, progress=lambda done, total: seen.append((done, total)))
    assert store.index["record_id"].tolist() == ["1", "2", "4", "1005"]
    for row, ecg_id in enumerate((1, 2, 4, 1005)):
        np.testing.assert_array_equal(store.signals[row], microvolts(ecg_id, rate).T)
    assert (store.rate, store.samples, summary.records, summary.report) == (rate, 10 * rate, 4, ())
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_what_the_table_says_is_kept(src):
    write_table(
        src,
        [
            row_of(
                1,
                age="300",
                sex="0",
                strat_fold="9",
                scp_codes="{'IMI': 35.0, 'SR': 0.0, 'PRC(S)': 100}",
                label_quality="1",
            ),
            row_of(2, patient_id="", age="", sex="", label_quality=""),
        ],
    )
    summary, store = build(src)
    first, second = store.record(0), store.record(1)
    assert first.statements == {"IMI": 1.0, "SR": 1.0, "PRC(S)": 1.0}  # present whatever the likelihood
    assert first.likelihoods == {"IMI": 35.0, "SR": 0.0, "PRC(S)": 100.0}
    assert first.patient == Patient(patient_id="1001", age=300.0, sex="male")
    assert first.provenance.fold == 9 and first.provenance.source == "PTB-XL"
    assert not first.provenance.synthetic
    assert second.patient == Patient()
    assert store.index["label_quality"].tolist()[0] == 1 and store.index["label_quality"].isna()[1]
    assert summary.report == ()


def test_columns_beyond_the_necessary_may_be_absent(src):
    write_table(src, [{"ecg_id": "1", "scp_codes": "{'AFIB': 0.0}"}])
    _, store = build(src)
    back = store.record(0)
    assert (back.statements, back.patient, back.provenance.fold) == ({"AFIB": 1.0}, Patient(), None)
    np.testing.assert_array_equal(store.signals[0], microvolts(1, 100).T)


def test_only_the_folds_asked_for(src):
    _, store = build(src, folds=(2, 5))
    assert store.index["record_id"].tolist() == ["1", "4"]
    assert store.manifest.options["folds"] == "2,5"
    with pytest.raises(DataError, match="which has 2 3 5 6, got 10"):
        build(src, folds=[2, 10])


def damage_missing_dat(src):
    (src / f"{path_of(2, 100)}.dat").unlink()


def damage_truncated_dat(src):
    path = src / f"{path_of(2, 100)}.dat"
    path.write_bytes(path.read_bytes()[:12001])


def damage_missing_header(src):
    (src / f"{path_of(2, 100)}.hea").unlink()


def damage_garbage_header(src):
    (src / f"{path_of(2, 100)}.hea").write_bytes(b"\x00\xff no header \n" * 5)


def damage_rate(src):
    write_signal(src, 2, 100, fs=250)


def damage_length(src):
    write_signal(src, 2, 100, steps=microvolts(2, 100)[:900])


def damage_lead(src):
    write_signal(src, 2, 100, names=PUBLISHED_NAMES[:11])


def damage_nan(src):
    steps = microvolts(2, 100)
    steps[77, 3] = -32768  # the mark of a missing sample in format 16
    write_signal(src, 2, 100, steps=steps)


def damage_gain(src):
    path = src / f"{path_of(2, 100)}.hea"
    path.write_text(path.read_text().replace("1000.0(0)/mV", "0(0)/mV"))


def damage_range(src):
    # 10 steps a mV: values up to 500 mV, which int16 microvolts cannot hold
    write_signal(src, 2, 100, gain=10.0)


DAMAGES = {
    damage_missing_dat: "no such signal file",
    damage_truncated_dat: "got 12001",
    damage_missing_header: "no such WFDB header",
    damage_garbage_header: "expected a WFDB header",
    damage_rate: "expected 1000 samples at 100 Hz, got 1000 samples at 250 Hz",
    damage_length: "got 900 samples",
    damage_lead: "V6 missing",
    damage_nan: "aVR",
    damage_gain: "gain",
    damage_range: "expected values within",
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_damaged_record_is_left_out_and_reported_by_file_name(src, damage, message):
    damage(src)
    summary, store = build(src)
    assert store.index["record_id"].tolist() == ["1", "4", "1005"]
    (entry,) = summary.report
    assert (entry.record_id, entry.file, entry.action) == ("2", path_of(2, 100), "left out")
    assert message in entry.reason
    assert summary.count("left out") == 1 and store.manifest.report_counts == {"left out": 1}


@pytest.mark.parametrize(
    ("changes", "action", "message"),
    [
        ({"scp_codes": "{'NORM': 100.0"}, "left out", "scp_codes"),
        ({"scp_codes": "__import__('os').getcwd()"}, "left out", "scp_codes"),
        ({"scp_codes": "['NORM']"}, "left out", "scp_codes"),
        ({"scp_codes": "{'NORM': 'much'}"}, "left out", "scp_codes"),
        ({"strat_fold": "first"}, "left out", "strat_fold"),
        ({"strat_fold": "1.5"}, "left out", "whole number as strat_fold"),
        ({"ecg_id": "two"}, "left out", "ecg_id"),
        ({"ecg_id": "1"}, "left out", "1 occurs twice"),
        ({"scp_codes": "{'NORM': 100.0, 'XYZ': 0.0}"}, "noted", "XYZ"),
        ({"age": "old"}, "repaired", "age"),
        ({"age": "-5"}, "repaired", "age"),
        ({"sex": "7"}, "repaired", "sex"),
        ({"label_quality": "good"}, "repaired", "label_quality"),
    ],
)
def test_a_row_with_a_bad_cell_is_reported(src, changes, action, message):
    write_table(src, [row_of(1, label_quality=""), row_of(2, **{"label_quality": "", **changes})])
    summary, store = build(src)
    (entry,) = summary.report
    assert entry.action == action and message in entry.reason
    assert len(store) == (1 if action == "left out" else 2)
    if action != "left out":
        kept = store.record(1)
        assert kept.statements == {"NORM": 1.0, "SR": 1.0} or message == "XYZ"
        assert "XYZ" not in kept.statements and "NORM" in kept.statements


def test_a_row_without_a_readable_fold_is_reported_under_any_choice_of_folds(src):
    write_table(src, [row_of(1), row_of(2, strat_fold="?")])
    summary, store = build(src, folds=[2])
    assert store.index["record_id"].tolist() == ["1"]
    assert [entry.record_id for entry in summary.report] == ["2"]


def test_strict_stops_at_the_first_problem(src):
    damage_truncated_dat(src)
    with pytest.raises(DataError, match=r"record 2 .*00002_lr"):
        build(src, strict=True)
    assert not (src.parent / "store").exists()


def test_a_set_without_one_usable_record_is_an_error(src):
    for path in src.rglob("*.dat"):
        path.unlink()
    with pytest.raises(DataError, match=r"at least one usable record.*first problem.*00001_lr"):
        build(src)
    assert not (src.parent / "store").exists()


def test_failing_in_the_middle_keeps_an_existing_store(src):
    build(src)
    before = (src.parent / "store" / "manifest.json").read_bytes()

    def interrupt(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(src, progress=interrupt, jobs=2)
    assert (src.parent / "store" / "manifest.json").read_bytes() == before
    assert sorted(path.name for path in src.parent.iterdir()) == ["ptb-xl", "store"]


def test_wrong_folders_and_rates_say_what_to_do(src, tmp_path):
    with pytest.raises(DataError, match=r"without ptbxl_database\.csv"):
        build_ptbxl(tmp_path, tmp_path / "s")
    with pytest.raises(ConfigError, match="100 or 500"):
        build_ptbxl(src, tmp_path / "s", rate=250)
    (src / "records500").rename(src / "elsewhere")
    with pytest.raises(DataError, match="100 Hz is there, choose that rate"):
        build_ptbxl(src, tmp_path / "s", rate=500)
    write_table(src, [{"ecg_id": "1"}])
    with pytest.raises(DataError, match="scp_codes is missing"):
        build_ptbxl(src, tmp_path / "s")
    (src / "ptbxl_database.csv").write_text("ecg_id,scp_codes\n")
    with pytest.raises(DataError, match="got none"):
        build_ptbxl(src, tmp_path / "s")
    (src / "ptbxl_database.csv").write_text("")
    with pytest.raises(DataError, match="download it again"):
        build_ptbxl(src, tmp_path / "s")


def test_versions_are_told_by_name_list_or_number(tmp_path):
    named = tmp_path / "ptb-xl-a-large-publicly-available-electrocardiography-dataset-1.0.2"
    named.mkdir()
    assert detect_version(named, records=21837) == "1.0.2"
    plain = tmp_path / "ptbxl"
    plain.mkdir()
    assert [detect_version(plain, records=n) for n in (21837, 21799, 19601)] == ["1.0.1", "1.0.3", ""]
    listing = [f"records{rate}/{number}" for number in range(21799) for rate in (100, 500)]
    (plain / "RECORDS").write_text("\n".join(listing) + "\n")
    assert detect_version(plain, records=7) == "1.0.3"


def test_the_version_is_in_the_manifest_and_the_records(src):
    folder = src.rename(src.with_name("ptb-xl-1.0.3"))
    _, store = build(folder)
    assert (store.manifest.source, store.manifest.source_version) == ("PTB-XL", "1.0.3")
    assert store.record(0).provenance.source == "PTB-XL 1.0.3"


def test_sets_of_1_0_1_write_numbers_differently(src):
    write_table(src, [row_of(1, ecg_id="1.0", sex="1.0", strat_fold="3.0", patient_id="15709"), row_of(2)])
    summary, store = build(src)
    assert store.index["record_id"].tolist() == ["1", "2"] and summary.report == ()
    assert store.record(0).patient == Patient(patient_id="15709", age=56.0, sex="female")
    assert store.record(0).provenance.fold == 3


def test_real_and_synthetic_rows_do_not_mix(src):
    write_table(src, [row_of(1, synthetic="0"), row_of(2, synthetic="1")])
    with pytest.raises(DataError, match="keep real and synthetic records apart"):
        build(src)
