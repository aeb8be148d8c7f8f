"""The two studies: what they train and sample, on which records, what they keep, and the curve they draw."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file
from tiny_run import TINY_NETWORK, tiny_classifier, tiny_config, tiny_gan, tiny_store

from ecgforge import twin
from ecgforge.checkpoints.native import load_config
from ecgforge.classify import Classifier
from ecgforge.data.store import EcgStore, StoreWriter
from ecgforge.errors import CheckpointError, ConfigError, DataError, LabelError
from ecgforge.evaluation.augmentation import real_part, rows_having, study_augmentation, with_first
from ecgforge.evaluation.convergence import learning_the_same, study_convergence, training_to
from ecgforge.evaluation.curves import Curve, CurvePoint, draw_curve, write_curve
from ecgforge.evaluation.protocols import Protocol, train_classifier
from ecgforge.evaluation.studies import PATHOLOGY_MEASURES, Study
from ecgforge.leads import STANDARD_LEADS
from ecgforge.sampling import SamplingOptions
from ecgforge.training.loop import train
from ecgforge.training.settings import DataConfig, Stage

SAMPLES = 250
NETWORK = replace(TINY_NETWORK, length=SAMPLES)
RECIPE = tiny_classifier(
    data=DataConfig(folds=(1, 2, 3, 4), leads=STANDARD_LEADS),
    validation_folds=(7,),
    stages=(Stage(steps=2, samples=250),),
)
PROTOCOL = Protocol(classifier=RECIPE, test_folds=(8,), seeds=(0, 1))
OPTIONS = SamplingOptions(steps=1)
UNSEEN = DataConfig(folds=(1, 2, 3, 4, 5, 6, 7))  # of a generator: without the fold that is tested on
TRAINED = 24  # records of folds 1 to 4, half of them with AFIB


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> EcgStore:
    """48 records; in each of the folds 1 to 8 three with AFIB and three without."""
    folder = tmp_path_factory.mktemp("real")
    bumps = tiny_store(folder, records=48, samples=SAMPLES)
    with StoreWriter(folder / "both", rate=bumps.rate, samples=SAMPLES, source="bumps", synthetic=True) as writer:
        for number in range(len(bumps)):
            statements = {"NORM": 1.0, "SR": 1.0} if number // 8 % 2 else {"AFIB": 1.0, f"{1 + number % 3}AVB": 1.0}
            writer.add(replace(bumps.record(number), statements=statements))
    return EcgStore.open(folder / "both")


@pytest.fixture(scope="module")
def model(real: EcgStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("model")
    train(tiny_config(network=NETWORK, stages=(Stage(steps=1, samples=SAMPLES),)), real, run)
    return run / "model"


def study_of(real: EcgStore, folder: Path, said: list[str] | None = None, **changes: object) -> Study:
    """A study that notes what is trained and sampled."""
    noted = said if said is not None else []
    study = Study(
        real,
        folder,
        PROTOCOL,
        options=OPTIONS,
        device="cpu",
        report=lambda what, _: noted.append(what),
        progress=lambda what, done, total: noted.append(f"{what} {done}/{total}"),
    )
    return replace(study, **changes)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------- added synthetic positives


@pytest.fixture(scope="module")
def augmented(real: EcgStore, model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Curve, list[str]]:
    folder, said = tmp_path_factory.mktemp("augmented"), list[str]()
    curve = study_augmentation(study_of(real, folder, said), statement="AFIB", counts=(3, 0), model=model)
    return folder, curve, said


def test_each_count_and_seed_is_a_point(augmented: tuple[Path, Curve, list[str]]) -> None:
    folder, curve, said = augmented
    assert (curve.x_name, curve.measures) == ("synthetic AFIB added", PATHOLOGY_MEASURES)
    assert [(point.x, point.seed) for point in curve.points] == [(0, 0), (0, 1), (3, 0), (3, 1)]
    assert ((curve.values() >= 0) & (curve.values() <= 1)).all()
    assert curve.note == f"{TRAINED} real records, {TRAINED // 2} with AFIB"
    assert said == [
        "synthetic AFIB 3/3",
        *(f"classifier with {count} synthetic AFIB, seed {seed}" for count in (0, 3) for seed in (0, 1)),
    ]
    learned_from = load_config(folder / "classifiers" / "added-00003-1" / "model").trained_on
    assert learned_from.startswith("bumps and 3 records of ecgforge model tiny ")


def test_without_synthetic_records_it_is_the_real_classifier(
    real: EcgStore, augmented: tuple[Path, Curve, list[str]], tmp_path: Path
) -> None:
    folder, _, _ = augmented
    ours = load_config(folder / "classifiers" / "added-00000-1" / "model")
    train_classifier(real, tmp_path, recipe=RECIPE, seed=1, device="cpu")
    assert ours.weights_sha256 == load_config(tmp_path / "model").weights_sha256
    assert ours.weights_sha256 != load_config(folder / "classifiers" / "added-00003-1" / "model").weights_sha256


def test_synthetic_records_copy_the_statements_of_different_training_records(
    real: EcgStore, augmented: tuple[Path, Curve, list[str]]
) -> None:
    positives = EcgStore.open(augmented[0] / "positives-00003")
    originals = [name.split("-of-")[1] for name in positives.index["source_file"]]
    assert len(set(originals)) == 3
    rows = [list(real.index["record_id"]).index(name) for name in originals]
    assert [positives.record(k).statements for k in range(3)] == [real.record(row).statements for row in rows]
    assert all("AFIB" in real.record(row).statements for row in rows)
    assert set(real.index["fold"].iloc[rows]) <= set(RECIPE.data.folds)


def test_further_counts_begin_with_the_same_records(
    real: EcgStore, model: Path, augmented: tuple[Path, Curve, list[str]]
) -> None:
    folder, before, _ = augmented
    said: list[str] = []
    count = TRAINED // 2 + 2  # every record with AFIB is copied once before the first is copied again
    study = study_of(real, folder, said)
    curve = study_augmentation(study, statement="AFIB", counts=(0, 3, count), model=model)
    assert [point for point in curve.points if point.x in (0, 3)] == list(before.points)
    assert {what for what in said if "classifier" in what} == {
        f"classifier with {count} synthetic AFIB, seed {seed}" for seed in (0, 1)
    }
    fewer, more = (EcgStore.open(folder / f"positives-{size:05d}") for size in (3, count))
    np.testing.assert_array_equal(fewer.signals, more.signals[:3])
    learned = real_part(real, RECIPE, records=None)
    assert with_first(learned, fewer, 3).manifest.sha256 == with_first(learned, more, 3).manifest.sha256
    originals = [name.split("-of-")[1] for name in more.index["source_file"]]
    assert len(set(originals)) == TRAINED // 2 and originals[:2] == originals[-2:]
    assert len({more.signals[row].tobytes() for row in range(count)}) == count  # other noise every time


def test_what_is_finished_is_used(real: EcgStore, model: Path, augmented: tuple[Path, Curve, list[str]]) -> None:
    folder, before, _ = augmented
    said: list[str] = []
    again = study_augmentation(study_of(real, folder, said), statement="AFIB", counts=(0, 3), model=model)
    assert said == [] and again == before


def test_synthetic_records_made_otherwise_are_refused(
    real: EcgStore, model: Path, augmented: tuple[Path, Curve, list[str]], tmp_path: Path
) -> None:
    study = study_of(real, augmented[0])
    with pytest.raises(DataError, match=r"positives-00003 holds another copy \(other steps\)"):
        study_augmentation(replace(study, options=SamplingOptions(steps=2)), statement="AFIB", counts=(3,), model=model)
    larger_batch = replace(study, options=replace(OPTIONS, batch_size=2))  # the same records
    study_augmentation(larger_batch, statement="AFIB", counts=(3,), model=model)
    with pytest.raises(DataError, match=r"other original signals"):
        study_augmentation(study, statement="NORM", counts=(3,), model=model)
    train(tiny_config(network=NETWORK, seed=1, stages=(Stage(steps=1, samples=SAMPLES),)), real, tmp_path)
    with pytest.raises(DataError, match=r"other model\)"):
        study_augmentation(study, statement="AFIB", counts=(3,), model=tmp_path / "model")


def test_a_stopped_sampling_goes_on(
    real: EcgStore,
    model: Path,
    augmented: tuple[Path, Curve, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(twin, "_PART", 1)

    class Stopped(Exception):
        pass

    def stop(what: str, done: int, total: int) -> None:
        if done == 2:
            raise Stopped

    with pytest.raises(Stopped):
        study_augmentation(study_of(real, tmp_path, progress=stop), statement="AFIB", counts=(3,), model=model)
    said: list[str] = []
    study_augmentation(study_of(real, tmp_path, said), statement="AFIB", counts=(3,), model=model)
    assert said[0] == "synthetic AFIB 3/3"
    resumed, whole = (EcgStore.open(folder / "positives-00003") for folder in (tmp_path, augmented[0]))
    np.testing.assert_array_equal(resumed.signals, whole.signals)


def test_the_threshold_comes_from_the_validation_folds(
    real: EcgStore, augmented: tuple[Path, Curve, list[str]]
) -> None:
    folder, curve, _ = augmented
    classifier = Classifier.load(folder / "classifiers" / "added-00003-0" / "model")
    column = classifier.config.labels.index("AFIB")
    rows = {fold: real.rows(folds=(fold,)) for fold in (7, 8)}
    scores = {fold: classifier.predict(real, rows[fold])[:, column] for fold in rows}
    has = {fold: np.array(["AFIB" in real.index["statements"].iloc[row] for row in rows[fold]]) for fold in rows}

    def g_mean(fold: int, threshold: float) -> float:
        called = scores[fold] >= threshold
        return float(np.sqrt(called[has[fold]].mean() * (~called)[~has[fold]].mean()))

    best = max(sorted(scores[7], reverse=True), key=lambda threshold: g_mean(7, threshold))
    assert dict(zip(PATHOLOGY_MEASURES, curve.points[2].values, strict=True))["G-mean"] == g_mean(8, best)


def test_fewer_real_records(real: EcgStore, model: Path, tmp_path: Path) -> None:
    few, more, every = (real_part(real, RECIPE, records=records) for records in (12, 18, None))
    names = [set(part.index["record_id"]) for part in (few, more, every)]
    assert names[0] < names[1] < names[2]
    assert [len(part) for part in (few, more, every)] == [12 + 6, 18 + 6, 24 + 6]
    assert [len(part.rows(folds=(7,))) for part in (few, more, every)] == [6, 6, 6]
    for row in range(len(few)):
        original = list(real.index["record_id"]).index(few.index["record_id"].iloc[row])
        np.testing.assert_array_equal(few.signals[row], real.signals[original])
    assert len(rows_having(every, "AFIB", RECIPE)) == 12
    study = replace(study_of(real, tmp_path), protocol=replace(PROTOCOL, seeds=(0,)))
    curve = study_augmentation(study, statement="AFIB", counts=(0, 1), real_records=12, model=model)
    assert curve.note == f"12 real records, {len(rows_having(few, 'AFIB', RECIPE))} with AFIB"
    for records in (0, 25):
        with pytest.raises(ConfigError, match=f"expected 1 to 24 real records to learn from, got {records}"):
            real_part(real, RECIPE, records=records)


def test_wrong_wishes_for_augmentation(real: EcgStore, model: Path, tmp_path: Path) -> None:
    study = study_of(real, tmp_path / "none")
    for counts in ((), (0, -1)):
        with pytest.raises(ConfigError, match="0 or more, got"):
            study_augmentation(study, statement="AFIB", counts=counts, model=model)
    with pytest.raises(LabelError, match="'FLUTTER'; did you mean AFLT"):
        study_augmentation(study, statement="FLUTTER", counts=(1,), model=model)
    rhythms = replace(RECIPE, data=replace(RECIPE.data, label_set="rhythm"))
    with pytest.raises(ConfigError, match="that the classifiers learn, got CRBBB; .*'rhythm'"):
        of_rhythms = replace(study, protocol=replace(PROTOCOL, classifier=rhythms))
        study_augmentation(of_rhythms, statement="crbbb", counts=(1,), model=model)
    with pytest.raises(DataError, match=r"with and without PACE in folds 7 of .*, got 0 with it of 6"):
        study_augmentation(study, statement="PACE", counts=(1,), model=model)
    with pytest.raises(DataError, match=r"expected records of 1000 samples at 100 Hz, as .* has 250"):
        study_augmentation(study, statement="AFIB", counts=(1,), model=None)
    only_norm = tiny_config(
        network=replace(NETWORK, labels=1), data=DataConfig(statements=("NORM",)), stages=(Stage(1, SAMPLES),)
    )
    train(only_norm, real, tmp_path / "norm")
    with pytest.raises(ConfigError, match="knows AFIB, tiny does not"):
        study_augmentation(study, statement="AFIB", counts=(1,), model=tmp_path / "norm" / "model")
    assert not study.folder.exists()


# ---------------------------------------------------------------------------- quality and viewed samples


def test_convergence_of_one_generator(real: EcgStore, tmp_path: Path) -> None:
    config = tiny_config(network=NETWORK, data=UNSEEN, decay_from=0.5, stages=(Stage(9, 64), Stage(1, SAMPLES)))
    said: list[str] = []
    study = study_of(real, tmp_path / "study", said)
    curve = study_convergence(study, config=config, budgets=(17, 4))
    assert curve.measures == ("macro AUROC",) and curve.note.startswith("tiny, train synthetic, test real, 71")
    assert [(point.x, point.seed) for point in curve.points] == [(4, 0), (4, 1), (16, 0), (16, 1)]
    assert said == [
        "generator",
        *(
            what
            for viewed in (4, 16)
            for what in (
                f"copy after {viewed} viewed samples 30/30",
                *(f"classifier after {viewed} viewed samples, seed {seed}" for seed in (0, 1)),
            )
        ),
    ]
    # What was kept on the way is what a training of that budget gives.
    short = training_to((4,), config)
    assert short.stages == (Stage(1, SAMPLES),)
    train(short, real, tmp_path / "short", device="cpu")
    kept = load_file(study.folder / "generator" / "kept" / "0000001" / "model.safetensors")
    alone = load_file(tmp_path / "short" / "model" / "model.safetensors")
    assert all(bool((kept[key] == alone[key]).all()) for key in alone)

    said.clear()
    assert study_convergence(study, config=config, budgets=(17, 4)) == curve and said == []
    with pytest.raises(DataError, match=r"kept after 8 viewed samples .* other budgets"):
        study_convergence(study, config=config, budgets=(8, 17))
    with pytest.raises(DataError, match=r"viewed-00000004 .*other steps"):
        study_convergence(replace(study, options=SamplingOptions(steps=2)), config=config, budgets=(17, 4))
    with pytest.raises(CheckpointError, match="another run"):
        study_convergence(study, config=replace(config, learning_rate=1.0), budgets=(17, 4))
    longer = study_convergence(study, config=config, budgets=(4, 16, 20))
    assert longer.points[:-2] == curve.points and longer.x == (4, 16, 20)
    assert said[0] == "generator" and not any("16 viewed" in what for what in said)


def test_a_generator_of_one_pathology_is_judged_by_it(real: EcgStore, tmp_path: Path) -> None:
    network = replace(NETWORK, statements="nle-as-described", labels=1)
    config = tiny_config(network=network, data=replace(UNSEEN, statements=("AFIB",)), stages=(Stage(1, SAMPLES),))
    study = replace(study_of(real, tmp_path), protocol=replace(PROTOCOL, seeds=(3,)))
    curve = study_convergence(study, config=config, budgets=(4,))
    assert curve.measures == PATHOLOGY_MEASURES and len(curve.points) == 1
    judge = load_config(tmp_path / "classifiers" / "viewed-00000004-3" / "model")
    assert judge.labels == ("AFIB",) and judge.trained_on.startswith("ecgforge model tiny ")
    assert learning_the_same(RECIPE, tiny_config()) == RECIPE


def test_budgets_are_whole_steps() -> None:
    assert training_to((10, 9, 17), tiny_config()).keep_models_at == (2, 4)
    gan = training_to((8, 31), tiny_gan())  # two batches of four for the critic in each step
    assert (gan.keep_models_at, gan.total_steps) == ((1, 3), 3)
    for budgets in ((3,), ()):
        with pytest.raises(ConfigError, match="budgets of 4 viewed samples"):
            training_to(budgets, tiny_config())
    with pytest.raises(ConfigError, match="got the classifier tiny-classifier"):
        training_to((8,), RECIPE)


def test_wrong_data_are_told_before_the_training(real: EcgStore, tmp_path: Path) -> None:
    study = study_of(real, tmp_path / "none")
    with pytest.raises(DataError, match=r"network.labels = 71"):
        study_convergence(study, config=tiny_config(network=replace(NETWORK, labels=3), data=UNSEEN), budgets=(4,))
    with pytest.raises(DataError, match="got 9"):
        elsewhere = replace(study, protocol=replace(PROTOCOL, test_folds=(9,)))
        study_convergence(elsewhere, config=tiny_config(network=NETWORK), budgets=(4,))
    with pytest.raises(ConfigError, match=r"not seen the test folds, got \[8\]"):
        study_convergence(study, config=tiny_config(network=NETWORK), budgets=(4,))
    assert not study.folder.exists()


# ------------------------------------------------------------------------------------------------ curves

POINTS = tuple(CurvePoint(x, seed, (0.5 + x / 1000 + seed / 100, 0.25)) for x in (300, 0, 100) for seed in (1, 0))
CURVE = Curve("added", ("AUROC", "F1"), POINTS, "note")


def test_a_curve_knows_its_grid() -> None:
    assert (CURVE.x, CURVE.seeds) == ((0, 100, 300), (0, 1))
    np.testing.assert_allclose(CURVE.values()[:, :, 0], [[0.5, 0.51], [0.6, 0.61], [0.8, 0.81]])
    assert CURVE.summary()[1] == "added 100: AUROC 0.6050 (0.6000 to 0.6100), F1 0.2500 (0.2500 to 0.2500)"
    alone = Curve("added", ("AUROC",), (CurvePoint(30_000, 0, (0.5,)),))
    assert alone.summary() == ("added 30,000: AUROC 0.5000",)
    for points in (POINTS[1:], ()):
        with pytest.raises(DataError, match="one point for every x and seed"):
            Curve("added", ("AUROC", "F1"), points)


def test_a_curve_is_written_point_by_point(tmp_path: Path) -> None:
    table = pd.read_csv(write_curve(CURVE, tmp_path / "new" / "curve.csv"))
    assert list(table.columns) == ["added", "seed", "AUROC", "F1"] and len(table) == 6
    assert table.loc[(table["added"] == 300) & (table["seed"] == 1), "AUROC"].item() == pytest.approx(0.81)


def test_a_curve_is_drawn_with_its_spread() -> None:
    figure = draw_curve(CURVE)
    auroc, f1 = figure.axes
    assert (auroc.get_ylabel(), f1.get_ylabel(), auroc.get_xlabel()) == ("AUROC", "F1", "added")
    *thin, mean = auroc.get_lines()
    np.testing.assert_allclose(np.asarray(mean.get_ydata(), dtype=float), [0.505, 0.605, 0.805])
    np.testing.assert_allclose(np.asarray(thin[1].get_ydata(), dtype=float), [0.51, 0.61, 0.81])
    band = auroc.collections[0].get_paths()[0].get_extents()
    np.testing.assert_allclose([band.y0, band.y1], [0.5, 0.81])
    assert [label.get_text() for label in auroc.get_xticklabels()] == ["0", "100", "300"]
