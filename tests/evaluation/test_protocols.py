"""Train here, test there: which cells there are, on which records, and the report made of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_run import tiny_classifier, tiny_store

from ecgforge.data.simulate import simulate_record
from ecgforge.data.store import EcgStore, StoreWriter
from ecgforge.errors import ConfigError, DataError, LabelError
from ecgforge.evaluation.assessment import Assessment, assess
from ecgforge.evaluation.protocols import Protocol, rows_tested, run_protocol, training_folder
from ecgforge.evaluation.report import write_report

RECIPE = tiny_classifier(validation_folds=(7,))
PROTOCOL = Protocol(classifier=RECIPE, test_folds=(8,), pathologies=("AFIB",), resamples=20)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[EcgStore, EcgStore]:
    """A real and a synthetic data set, both simulated; every statement in every fold."""
    return tuple(  # type: ignore[return-value]
        _simulated(tmp_path_factory.mktemp(name) / "store", seed=seed) for name, seed in (("real", 1), ("twin", 2))
    )


def _simulated(path: Path, *, seed: int) -> EcgStore:
    with StoreWriter(path, rate=100, samples=1000, source="simulated", synthetic=True) as writer:
        for number in range(96):
            statements = "NORM,SR" if number % 16 < 8 else "AFIB"
            record = simulate_record(statements, seed=seed, index=number)
            provenance = replace(record.provenance, fold=1 + number % 8)
            writer.add(replace(record, provenance=provenance, record_id=str(number)))
    return EcgStore.open(path)


@pytest.fixture(scope="module")
def assessment(stores: tuple[EcgStore, EcgStore], tmp_path_factory: pytest.TempPathFactory) -> Assessment:
    real, twin = stores
    folder = tmp_path_factory.mktemp("report")
    return assess(
        real, {"twin": twin}, folder, protocol=replace(PROTOCOL, augment=True), physiology_records=4, device="cpu"
    )


def test_every_cell_of_the_square_is_there(assessment: Assessment) -> None:
    pairs = [(cell.trained_on, cell.tested_on) for cell in assessment.cells]
    assert pairs == [("real", "real"), ("twin", "real"), ("real", "twin"), ("twin", "twin"), ("real+twin", "real")]
    for cell in assessment.cells:
        assert 0 <= cell.macro.low <= cell.macro.estimate <= cell.macro.high <= 1
        assert cell.detail.records == 12
        compared = cell.tested_on == "real" and cell.trained_on != "real"
        assert (cell.against_real is not None) == compared
    ceiling, other = assessment.cells[:2]
    assert other.against_real is not None
    assert other.against_real.estimate == pytest.approx(other.macro.estimate - ceiling.macro.estimate)


def test_a_data_set_judged_against_itself_is_the_ceiling(stores: tuple[EcgStore, EcgStore], tmp_path: Path) -> None:
    real, _ = stores
    cells = run_protocol(real, {"same": real}, tmp_path, protocol=PROTOCOL, device="cpu")
    assert len({cell.macro for cell in cells}) == 1
    assert cells[1].against_real is not None and cells[1].against_real.estimate == 0


def test_finished_classifiers_are_not_trained_again(stores: tuple[EcgStore, EcgStore], tmp_path: Path) -> None:
    real, twin = stores
    reported: list[str] = []
    first = run_protocol(
        real, {"twin": twin}, tmp_path, protocol=PROTOCOL, device="cpu", report=lambda what, _: reported.append(what)
    )
    assert set(reported) == {"real, seed 0", "twin, seed 0"}
    reported.clear()
    again = run_protocol(
        real, {"twin": twin}, tmp_path, protocol=PROTOCOL, device="cpu", report=lambda what, _: reported.append(what)
    )
    assert reported == [] and [cell.macro for cell in again] == [cell.macro for cell in first]
    assert (training_folder(tmp_path, "twin", 0) / "model" / "config.json").is_file()


def test_seeds_are_averaged(stores: tuple[EcgStore, EcgStore], tmp_path: Path) -> None:
    real, _ = stores
    (cell,) = run_protocol(real, {}, tmp_path, protocol=replace(PROTOCOL, seeds=(0, 1)), device="cpu")
    assert len(cell.seeds) == 2
    assert cell.macro.estimate == pytest.approx(np.mean(cell.seeds))


def test_pathologies_are_scored_at_every_seed(stores: tuple[EcgStore, EcgStore], tmp_path: Path) -> None:
    real, _ = stores
    (cell,) = run_protocol(real, {}, tmp_path, protocol=replace(PROTOCOL, seeds=(0, 1)), device="cpu")
    ((code, by_seed),) = cell.pathologies
    assert code == "AFIB" and len(by_seed) == 2
    detail = next(entry for entry in cell.detail.statements if entry.label == "AFIB")
    assert by_seed[0].auroc == pytest.approx(detail.auroc)


def test_pathologies_are_those_of_the_paper_that_are_learned() -> None:
    assert replace(PROTOCOL, pathologies=("afib", "Crbbb")).scored_pathologies == ("AFIB", "CRBBB")
    assert replace(PROTOCOL, pathologies=None).scored_pathologies == ("AFIB", "CRBBB", "1AVB", "PVC")
    rhythms = replace(RECIPE, data=replace(RECIPE.data, label_set="rhythm"))
    assert replace(PROTOCOL, classifier=rhythms, pathologies=None).scored_pathologies == ("AFIB",)


def test_the_report_says_it_in_three_files(assessment: Assessment, tmp_path: Path) -> None:
    write_report(assessment, tmp_path, command="ecgforge evaluate <x>")
    results = json.loads((tmp_path / "results.json").read_text())
    assert [cell["trained_on"] for cell in results["cells"]][-1] == "real+twin"
    assert results["cells"][0]["macro"]["estimate"] == assessment.cells[0].macro.estimate
    absent = [entry for entry in results["cells"][0]["detail"]["statements"] if entry["label"] == "WPW"]
    assert absent[0]["auroc"] is None and absent[0]["positives"] == 0
    text = (tmp_path / "report.md").read_text()
    assert f"{assessment.cells[0].macro.estimate:.4f}" in text and "| twin | real |" in text and "WPW" in text
    page = (tmp_path / "report.html").read_text()
    assert "ecgforge evaluate &lt;x&gt;" in page and "data:image/png;base64," in page
    assert "http://" not in page and "https://" not in page  # self-contained
    assert (tmp_path / "beats.png").read_bytes().startswith(b"\x89PNG")
    assert "Of 4 real and 4 synthetic test records" in text and "100%, 100%" in text
    assert "test records with NORM and SR alone" in text and "half as often" in text
    (entry,) = assessment.likeness
    assert f"| twin | {entry.spectra.mean_difference_db:.2f} | {entry.spectra.floor_db:.2f} |" in text
    assert np.shape(results["likeness"][0]["correlations"]["synthetic"]) == (12, 12)


def test_the_yardstick_alone_has_a_report(stores: tuple[EcgStore, EcgStore], tmp_path: Path) -> None:
    real, _ = stores
    found = assess(real, {}, tmp_path, protocol=PROTOCOL, physiology_records=4, device="cpu")
    write_report(found, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert [(cell["trained_on"], cell["tested_on"]) for cell in results["cells"]] == [("real", "real")]
    assert f"| real | real | 3 | {found.cells[0].macro.estimate:.4f}" in (tmp_path / "report.md").read_text()


def test_likeness_of_a_second_draw_is_near_the_floor(assessment: Assessment) -> None:
    (entry,) = assessment.likeness
    rate = next(item for item in entry.physiology if item.quantity.name == "heart_rate")
    assert rate.real.measurable == rate.synthetic.measurable == 1
    assert 0 < entry.fidelity.frechet < 3 * assessment.floor.frechet


def test_too_few_test_records_are_told_before_anything_is_trained(tmp_path: Path) -> None:
    store = tiny_store(tmp_path)
    with pytest.raises(DataError, match="more than 5 test records in the data set real, got 3"):
        assess(store, {}, tmp_path / "report", protocol=PROTOCOL)
    assert not (tmp_path / "report").exists()


def test_what_cannot_be_judged_is_told_before_anything_is_trained(
    stores: tuple[EcgStore, EcgStore], tmp_path: Path
) -> None:
    real, twin = stores
    with pytest.raises(LabelError, match="AFIBB"):
        replace(PROTOCOL, pathologies=("AFIBB",))
    rhythms = replace(RECIPE, data=replace(RECIPE.data, label_set="rhythm"))
    with pytest.raises(ConfigError, match="pathologies that the classifiers learn, got CRBBB; .*'rhythm'"):
        replace(PROTOCOL, classifier=rhythms, pathologies=("AFIB", "CRBBB"))
    with pytest.raises(ConfigError, match="at most 9 synthetic data sets"):
        assess(real, {str(number): twin for number in range(10)}, tmp_path / "report", protocol=PROTOCOL)
    faster = tmp_path / "faster"
    with StoreWriter(faster, rate=500, samples=5000, source="simulated", synthetic=True) as writer:
        for number in range(8):
            record = simulate_record("SR", seed=0, index=number, rate=500)
            writer.add(replace(record, provenance=replace(record.provenance, fold=1 + number), record_id=str(number)))
    with pytest.raises(DataError, match="faster at 100 Hz, as the real one, got 500 Hz"):
        assess(real, {"faster": EcgStore.open(faster)}, tmp_path / "report", protocol=PROTOCOL)
    small = tmp_path / "small"
    with StoreWriter(small, rate=100, samples=1000, source="simulated", synthetic=True) as writer:
        for row in [*range(6), *np.flatnonzero(real.index["fold"].isin((7, 8)))]:
            writer.add(real.record(int(row)))
    with pytest.raises(DataError, match=f"{RECIPE.batch_size}"):
        assess(real, {"small": EcgStore.open(small)}, tmp_path / "report", protocol=PROTOCOL)
    assert not (tmp_path / "report").exists()


def test_folds_that_are_learned_from_are_not_tested_on(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="apart from the folds"):
        replace(PROTOCOL, test_folds=(6,))
    with pytest.raises(ConfigError, match="different seeds"):
        replace(PROTOCOL, seeds=())
    store = tiny_store(tmp_path)
    with pytest.raises(DataError, match="expected folds of .* got 9"):
        rows_tested(store, replace(PROTOCOL, test_folds=(9,)))
    with pytest.raises(ConfigError, match="other than 'real'"):
        run_protocol(store, {"real": store}, tmp_path, protocol=PROTOCOL)
