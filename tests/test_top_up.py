"""Rare statements are topped up to the number asked for, in the company they are found in, and marked."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from tiny_run import TINY_NETWORK

from ecgforge.checkpoints.native import Model, ModelConfig
from ecgforge.data.simulate import simulate_record
from ecgforge.data.store import EcgStore, StoreWriter
from ecgforge.diffusion.schedule import LinearSchedule
from ecgforge.errors import ConfigError, DataError, LabelError
from ecgforge.generate import Generator
from ecgforge.labels import LabelVocabulary, custom_vocabulary, vocabulary
from ecgforge.leads import MODEL_LEADS
from ecgforge.models.sssd import SssdEcg
from ecgforge.record import EcgRecord, Provenance
from ecgforge.sampling import SamplingOptions
from ecgforge.top_up import TopUp, plan_top_up, top_up, top_up_store

QUICK = SamplingOptions(steps=2)
SETS = ["NORM,SR"] * 8 + ["AFIB"] * 3 + ["IMI:0.5,SR", "IMI,AFIB"] + [""]  # of 14 records


def tiny_generator(labels: LabelVocabulary) -> Generator:
    """A tiny network with random weights: nothing like an ECG, but everything else is real."""
    torch.manual_seed(5)
    size = replace(TINY_NETWORK, labels=len(labels))
    network = SssdEcg(size)
    torch.nn.init.normal_(network.output.weight, std=0.3)
    config = ModelConfig(
        name="tiny",
        network=size,
        schedule=LinearSchedule(),
        label_set=labels.name,
        labels=labels.labels,
        leads=MODEL_LEADS,
        rate=100.0,
    )
    return Generator(Model(config=config, network=network))


@pytest.fixture(scope="module")
def generator() -> Generator:
    return tiny_generator(vocabulary("all"))


@pytest.fixture(scope="module")
def signals() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((len(SETS), 12, 64), dtype=np.float32)


def counted(statements: Sequence[dict[str, float]]) -> Counter[str]:
    return Counter(code for entry in statements for code in entry)


# ------------------------------------------------------------------------------------------------- plan


def test_the_plan_draws_from_the_records_that_have_a_statement_and_counts_its_company() -> None:
    sets = [{"NORM": 1.0, "SR": 1.0}] * 50 + [{"AFIB": 1.0}] * 30 + [{"IMI": 1.0, "SR": 1.0}] * 4
    taken = plan_top_up(sets, vocabulary=vocabulary("all"), minimum=60)
    # IMI brings SR along, from 54 to 110, so that only AFIB and NORM are left to draw for.
    assert len(taken) == 56 + 30 + 10
    assert set(taken[:56]) == {80, 81, 82, 83}
    assert set(taken[56:86]) <= set(range(50, 80)) and len(set(taken[56:86])) > 10
    assert set(taken[86:]) <= set(range(50))


def test_statements_found_together_are_added_in_proportion() -> None:
    sets = [{"IMI": 1.0, "SR": 1.0}] * 3 + [{"IMI": 1.0, "AFIB": 1.0}] + [{"AFIB": 1.0}] * 5 + [{"SR": 1.0}] * 5
    taken = plan_top_up(sets, vocabulary=vocabulary("all"), minimum=2004, seed=4)
    for_imi = taken[:2000]  # the rarest
    assert for_imi.max() == 3
    assert abs(np.mean(for_imi < 3) - 0.75) < 0.05  # 5 standard deviations


def test_enough_is_left_alone_and_none_stays_none() -> None:
    sets = [{"AFIB": 1.0}] * 3 + [{}]
    assert len(plan_top_up(sets, vocabulary=vocabulary("all"), minimum=3)) == 0
    assert len(plan_top_up([{}, {}], vocabulary=vocabulary("all"), minimum=3)) == 0
    assert len(plan_top_up([], vocabulary=vocabulary("all"), minimum=3)) == 0
    with pytest.raises(ConfigError, match="minimum of 1 or more"):
        plan_top_up(sets, vocabulary=vocabulary("all"), minimum=0)


def test_the_plan_follows_from_the_seed() -> None:
    sets = [{"AFIB": 1.0}] * 20
    plans = [plan_top_up(sets, vocabulary=vocabulary("all"), minimum=40, seed=seed).tolist() for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]


# ----------------------------------------------------------------------------------------------- arrays


def test_arrays_are_topped_up_to_the_minimum(generator: Generator, signals: np.ndarray) -> None:
    found = top_up(signals, SETS, generator=generator, minimum=5, seed=1, options=QUICK)
    added = len(found.signals) - len(signals)
    assert counted(found.statements[:14]) == {"NORM": 8, "SR": 9, "AFIB": 4, "IMI": 2}
    assert min(counted(found.statements).values()) >= 5
    assert 3 <= added <= 4  # IMI needs 3; each either brings AFIB along or leaves it one short
    np.testing.assert_array_equal(found.signals[:14], signals)
    assert found.signals.dtype == np.float32
    assert found.is_synthetic.tolist() == [False] * 14 + [True] * added
    real = [entry for entry in found.statements[:14] if entry]
    assert all(entry in real for entry in found.statements[14:])


def test_added_records_are_the_generators_own(generator: Generator, signals: np.ndarray) -> None:
    found = top_up(signals, SETS, generator=generator, minimum=6, seed=9, options=QUICK)
    made = generator.sample(found.statements[14:], seed=9, options=QUICK)
    np.testing.assert_array_equal(found.signals[14:], np.stack([record.signal for record in made]))
    again = top_up(signals, SETS, generator=generator, minimum=6, seed=9, options=QUICK)
    np.testing.assert_array_equal(found.signals, again.signals)
    assert found.statements == again.statements


def test_nothing_to_add_gives_back_what_was_given(generator: Generator, signals: np.ndarray) -> None:
    back, statements, is_synthetic = top_up(signals, SETS, generator=generator, minimum=2)
    np.testing.assert_array_equal(back, signals)
    assert statements[11] == {"IMI": 0.5, "SR": 1.0} and statements[13] == {}
    assert not is_synthetic.any()


def test_statements_the_model_does_not_know_are_left_out(signals: np.ndarray) -> None:
    generator = tiny_generator(custom_vocabulary([code for code in vocabulary("all").labels if code != "SR"]))
    found = top_up(signals[:2], ["IMI:0.5,SR", "SR"], generator=generator, minimum=3, options=QUICK)
    assert found.statements == [{"IMI": 0.5, "SR": 1.0}, {"SR": 1.0}, {"IMI": 0.5}, {"IMI": 0.5}]


def test_arrays_that_do_not_fit_are_refused(generator: Generator, signals: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"expected signals of shape \(13, 12, 64\).* got \(14, 12, 64\)"):
        top_up(signals, SETS[1:], generator=generator, minimum=3)
    with pytest.raises(DataError, match="resample to 100 Hz or cut them"):
        top_up(signals[:, :, 1:], SETS, generator=generator, minimum=3)
    with pytest.raises(LabelError, match="unknown ECG statement 'AFIBB'"):
        top_up(signals[:1], ["AFIBB"], generator=generator, minimum=3)
    with pytest.raises(LabelError, match="grades above 0 and at most 1"):
        top_up(signals[:1], [{"AFIB": 0.0}], generator=generator, minimum=3)


def test_a_duration_is_refused_before_anything_is_made(
    generator: Generator, signals: np.ndarray, store: EcgStore, tmp_path: Path
) -> None:
    longer = SamplingOptions(steps=2, duration=20)
    with pytest.raises(ConfigError, match="expected no duration"):
        top_up(signals, SETS, generator=generator, minimum=3, options=longer)
    with pytest.raises(ConfigError, match="expected no duration"):
        top_up_store(store, tmp_path / "added", generator=generator, minimum=3, options=longer)
    assert not (tmp_path / "added").exists()


def test_labels_that_are_classes_cannot_be_asked_for(signals: np.ndarray) -> None:
    superclasses = tiny_generator(vocabulary("superdiagnostic"))
    with pytest.raises(ConfigError, match="labels are statements, got the classes"):
        TopUp(superclasses, minimum=3).fit_resample(signals, np.ones((len(signals), 5)))


# ------------------------------------------------------------------------------------------------ stores


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EcgStore:
    path = tmp_path_factory.mktemp("real") / "store"
    sets = ["NORM,SR", "NORM,SR", "NORM,SR", "AFIB", "AFIB", "CLBBB,SR"]
    with StoreWriter(path, rate=100, samples=64, source="real", synthetic=False) as writer:
        for number, statements in enumerate(sets * 2):
            made = simulate_record(statements, seed=0, index=number, seconds=2)
            writer.add(
                EcgRecord(
                    signal=made.signal[:, :64],
                    rate=100,
                    record_id=f"r{number}",
                    statements=made.statements,
                    provenance=Provenance(fold=1 + number // 6),
                )
            )
    return EcgStore.open(path)


def test_a_store_gets_a_synthetic_one_beside_it(store: EcgStore, generator: Generator, tmp_path: Path) -> None:
    added = top_up_store(store, tmp_path / "more", generator=generator, minimum=3, folds=[2], seed=2, options=QUICK)
    assert added.manifest.synthetic and added.manifest.options == {"minimum": 3, "seed": 2}
    sources = added.index["source_file"].tolist()
    assert sources[:2] == ["r11", "r11"] and sources[2] in ("r9", "r10") and len(sources) == 3
    rows = {name: row for row, name in enumerate(store.index["record_id"])}
    for row, name in enumerate(sources):
        record, original = added.record(row), store.record(rows[name])
        assert record.statements == original.statements
        assert (record.provenance.synthetic, record.provenance.fold, record.provenance.index) == (True, 2, row)
    again = top_up_store(store, tmp_path / "again", generator=generator, minimum=3, folds=[2], seed=2, options=QUICK)
    np.testing.assert_array_equal(added.signals, again.signals)


def test_stores_that_do_not_fit_are_refused(store: EcgStore, generator: Generator, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="statements of fewer than 2 records .* got none"):
        top_up_store(store, tmp_path / "none", generator=generator, minimum=2)
    with pytest.raises(DataError, match="which has 1 2, got 3"):
        top_up_store(store, tmp_path / "none", generator=generator, minimum=2, folds=[3])
    with pytest.raises(DataError, match="exists"):
        top_up_store(store, store.path, generator=generator, minimum=9)
    assert not list(tmp_path.iterdir())


# --------------------------------------------------------------------------------------- label matrices


def test_label_matrices_are_resampled_in_scikit_learns_manner(generator: Generator, signals: np.ndarray) -> None:
    labels = generator.config.vocabulary
    X, Y = signals, np.zeros((14, 71), dtype=np.int64)
    Y[:8, labels.labels.index("NORM")] = 1
    Y[8:11, labels.labels.index("AFIB")] = 1
    sampler = clone(TopUp(generator, minimum=5, seed=3, options=QUICK))  # as its pipelines do
    assert sampler.generator is generator
    X2, Y2 = sampler.fit_resample(X, Y)
    assert (X2.shape, Y2.shape, Y2.dtype) == ((16, 12, 64), (16, 71), np.int64)
    np.testing.assert_array_equal(Y2[:14], Y)
    assert Y2.sum(axis=0)[[labels.labels.index("NORM"), labels.labels.index("AFIB")]].tolist() == [8, 5]
    assert sampler.is_synthetic_.sum() == 2
    plain = top_up(X, ["NORM"] * 8 + ["AFIB"] * 3 + [""] * 3, generator=generator, minimum=5, seed=3, options=QUICK)
    np.testing.assert_array_equal(X2, plain.signals)
    with pytest.raises(DataError, match=r"generator's labels 'all' \(71 labels.* got 3"):
        sampler.fit_resample(X, Y[:, :3])
