from collections import Counter

import numpy as np
import pytest

from ecgforge.data.checks import LeadFinding, LeadLawViolation, describe_store, verify_store
from ecgforge.data.store import EcgStore, StoreWriter
from ecgforge.leads import LIMB_LEADS, twelve_from_eight
from ecgforge.record import EcgRecord, Patient, Provenance

N, L = 70, 40


def lawful_signal(number: int) -> np.ndarray:
    """(12, L) mV that obeys the lead laws to the microvolt: I and aVF are multiples of 4 uV."""
    eight = 4 * np.random.default_rng(number).integers(-500, 501, size=(8, L)) / 1000
    return twelve_from_eight(eight)


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    """Three blocks of records, the last one short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ecgforge.data.checks._BLOCK", 32)
        yield


def build(path, change=lambda number, signal: None, **facts):
    with StoreWriter(path, rate=100, samples=L, source="test", records=N) as writer:
        for number in range(N):
            signal = lawful_signal(number)
            change(number, signal)
            writer.add(
                EcgRecord(
                    signal=signal.astype(np.float32),
                    rate=100.0,
                    record_id=f"r{number}",
                    statements={"NORM": 1.0, "SR": 1.0} if number % 2 else {"IMI": 0.5},
                    patient=Patient(
                        patient_id=facts.get("patient", f"p{number // 10}"),
                        age=(300.0, None, float(number % 80))[min(number, 2)],
                        sex=("male", "female", None)[number % 3],
                    ),
                    provenance=Provenance(fold=number // 10 % 10 + 1),
                ),
                label_quality=number % 3,
            )
    return EcgStore.open(path)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return build(tmp_path_factory.mktemp("sound") / "store")


def test_a_sound_store_has_no_findings(sound):
    seen = []
    verdict = verify_store(sound, progress=lambda done, total: seen.append((done, total)))
    assert verdict.usable and verdict.errors == () and verdict.warnings == () and verdict.records == N
    assert seen == [(32, N), (64, N), (N, N)]


def plant_faults(number, signal):
    if number == 33:
        signal[10] = 0.123  # V5 flat
    if number == 34:
        signal[2, 5] += 0.021  # III off by 21 uV
    if number == 35:
        signal[2, 5] += 0.020  # within tolerance
    if number == 69:
        signal[6, :3] = (32.767, -32.767, 32.767)  # V1 clipped


def test_planted_faults_are_found_by_record_and_lead(tmp_path):
    verdict = verify_store(build(tmp_path / "s", plant_faults, patient="one"))
    assert verdict.flat_leads == (LeadFinding("r33", "V5", L),)
    assert verdict.lead_law_violations == (LeadLawViolation("r34", 21.0),)
    assert verdict.clipped == (LeadFinding("r69", "V1", 3),)
    assert verdict.patients_in_several_folds == ("one",)
    assert verdict.usable and len(verdict.warnings) == 4
    assert verdict.warnings[0] == "flat leads: 1 (r33 V5)"
    assert verdict.warnings[1].endswith("by more than 20 uV: 1 (r34 by 21 uV)")


@pytest.mark.parametrize("lead", range(2, 6))
def test_each_lead_law_is_checked(tmp_path, lead):
    def break_it(number, signal):
        signal[lead, 0] += 0.5 if number == 3 else 0

    (violation,) = verify_store(build(tmp_path / "s", break_it)).lead_law_violations
    assert violation == LeadLawViolation("r3", 500.0), LIMB_LEADS[lead]


def test_a_flipped_bit_is_found_by_its_file(tmp_path):
    store = build(tmp_path / "s")
    path = tmp_path / "s" / "signals.npy"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    verdict = verify_store(EcgStore.open(store.path))
    assert verdict.checksum_mismatches == ("signals.npy",) and not verdict.usable


def test_a_report_that_came_later_is_found(tmp_path):
    store = build(tmp_path / "s")
    (tmp_path / "s" / "report.csv").write_text("record_id,file,action,reason\n")
    assert verify_store(store).checksum_mismatches == ("report.csv",)


def test_double_ids_foreign_statements_and_missing_samples_make_a_store_unusable(tmp_path):
    store = build(tmp_path / "s")
    index = tmp_path / "s" / "index.csv"
    text = index.read_text().replace("\nr68,", "\nr67,").replace('"NORM,SR"', '"NORM,XYZ"', 1)
    index.write_text(text)
    signals = np.lib.format.open_memmap(tmp_path / "s" / "signals.npy", mode="r+")
    signals[66, 9, 3] = -32768
    signals.flush()
    verdict = verify_store(EcgStore.open(store.path))
    assert verdict.duplicate_ids == ("r67",)
    assert verdict.unknown_labels == ("XYZ",)
    assert verdict.invalid_values == (LeadFinding("r66", "V4", 1),)
    assert set(verdict.checksum_mismatches) == {"index.csv", "signals.npy"}
    assert len(verdict.errors) == 4 and not verdict.usable


def test_description_counts_what_is_there(sound):
    found = describe_store(sound)
    assert (found.records, found.rate, found.seconds, found.patients) == (N, 100.0, L / 100, 7)
    assert found.folds == Counter(number // 10 % 10 + 1 for number in range(N))
    assert found.sexes == {"female": 23, "male": 24, "unknown": 23}
    assert (found.ages_90_or_older, found.ages_unknown) == (1, 1)
    ages = [number % 80 for number in range(2, N)]
    assert found.ages == tuple(np.quantile(ages, (0.25, 0.5, 0.75)))
    assert found.label_qualities == {0: 24, 1: 23, 2: 23}
    assert found.statements == {"IMI": 35, "NORM": 35, "SR": 35}
    assert found.label_sets["all"] == (3, 71) and found.label_sets["superdiagnostic"] == (2, 5)
    assert found.label_sets["rhythm"] == (1, 12) and found.label_sets["form"] == (0, 19)
    assert found.source == "test" and not found.synthetic and found.report == {}


def test_description_of_a_store_without_facts(tmp_path):
    with StoreWriter(tmp_path / "s", rate=100, samples=L, source="test", synthetic=True) as writer:
        signal = np.zeros((12, L), dtype=np.float32)
        writer.add(EcgRecord(signal=signal, rate=100.0, record_id="x", provenance=Provenance(synthetic=True)))
    found = describe_store(EcgStore.open(tmp_path / "s"))
    assert (found.ages, found.folds, found.patients, found.statements) == (None, {}, 0, {})
    assert found.synthetic and found.ages_unknown == 1
