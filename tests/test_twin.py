"""The synthetic twin of a data set: statements, folds, identity, resuming."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import wfdb
from tiny_run import TINY_NETWORK, tiny_config, tiny_store

from ecgforge import twin
from ecgforge.checkpoints.native import Model, ModelConfig, build_network, load_config, load_model, save_model
from ecgforge.data.simulate import simulate_record
from ecgforge.data.store import EcgStore, StoreWriter
from ecgforge.errors import ConfigError, DataError
from ecgforge.generate import Generator
from ecgforge.labels import vocabulary
from ecgforge.leads import MODEL_LEADS
from ecgforge.models.patch_s4 import PatchS4Config
from ecgforge.models.wavegan import WaveGanConfig
from ecgforge.sampling import SamplingOptions
from ecgforge.training.loop import train
from ecgforge.training.settings import Stage
from ecgforge.twin import copy_store, write_layout

OPTIONS = SamplingOptions(steps=2)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> EcgStore:
    return tiny_store(tmp_path_factory.mktemp("real"), records=20, samples=64)


@pytest.fixture(scope="module")
def model(real: EcgStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("model")
    train(tiny_config(network=replace(TINY_NETWORK, length=64), stages=(Stage(steps=1, samples=64),)), real, run)
    return run / "model"


def test_every_record_has_a_twin_with_its_statements_and_fold(real: EcgStore, model: Path, tmp_path: Path) -> None:
    copied = copy_store(real, tmp_path / "twin", model=model, options=OPTIONS)
    assert len(copied) == len(real) and copied.manifest.synthetic
    for row in range(len(real)):
        original, synthetic = real.record(row), copied.record(row)
        assert synthetic.statements == original.statements
        assert synthetic.provenance.fold == original.provenance.fold
        assert synthetic.provenance.synthetic and synthetic.provenance.index == row
        assert synthetic.record_id == f"twin-{original.record_id}"
        assert copied.index["source_file"].iloc[row] == original.record_id
    assert not list(tmp_path.glob("*.parts"))


def test_some_folds_are_part_of_the_whole(real: EcgStore, model: Path, tmp_path: Path) -> None:
    whole = copy_store(real, tmp_path / "whole", model=model, options=OPTIONS)
    part = copy_store(real, tmp_path / "part", model=model, folds=(2, 5), options=OPTIONS)
    rows = real.rows(folds=(2, 5))
    assert len(part) == len(rows)
    np.testing.assert_array_equal(part.signals, whole.signals[rows])


def test_twins_statements_are_as_sure_as_those_of_the_originals(real: EcgStore, model: Path, tmp_path: Path) -> None:
    qualities = [2, 0, None, 1, 2]
    with StoreWriter(tmp_path / "graded", rate=real.rate, samples=64, source="bumps", synthetic=True) as writer:
        for row, quality in enumerate(qualities):
            writer.add(real.record(row), label_quality=quality)
    copied = copy_store(EcgStore.open(tmp_path / "graded"), tmp_path / "twin", model=model, options=OPTIONS)
    assert [None if pd.isna(quality) else quality for quality in copied.index["label_quality"]] == qualities


def test_a_stopped_copy_goes_on(real: EcgStore, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = copy_store(real, tmp_path / "whole", model=model, options=OPTIONS)
    monkeypatch.setattr(twin, "_PART", 6)

    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 12:
            raise Stopped

    with pytest.raises(Stopped):
        copy_store(real, tmp_path / "copy", model=model, options=OPTIONS, progress=stop)
    assert not (tmp_path / "copy").exists()
    with pytest.raises(DataError, match="other seed"):
        copy_store(real, tmp_path / "copy", model=model, options=OPTIONS, seed=1)
    seen: list[int] = []
    resumed = copy_store(
        real, tmp_path / "copy", model=model, options=OPTIONS, progress=lambda done, total: seen.append(done)
    )
    assert seen == [18, 20]
    np.testing.assert_array_equal(resumed.signals, whole.signals)


def stop_after_the_first_part(real: EcgStore, dest: Path, **how: object) -> None:
    """Begin a copy, and stop it when its first part is written."""

    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        copy_store(real, dest, progress=stop, **how)  # type: ignore[arg-type]


def test_other_folds_with_as_many_records_are_another_copy(real: EcgStore, model: Path, tmp_path: Path) -> None:
    # Folds 1,2 and 1,3 of this store have six records each, the first of both in row 0.
    assert [len(real.rows(folds=folds)) for folds in ((1, 2), (1, 3))] == [6, 6]
    stop_after_the_first_part(real, tmp_path / "copy", model=model, folds=(1, 2), options=OPTIONS)
    with pytest.raises(DataError, match=r"parts of another copy \(other folds\)"):
        copy_store(real, tmp_path / "copy", model=model, folds=(1, 3), options=OPTIONS)
    resumed = copy_store(real, tmp_path / "copy", model=model, folds=(2, 1), options=OPTIONS)
    whole = copy_store(real, tmp_path / "whole", model=model, options=OPTIONS)
    np.testing.assert_array_equal(resumed.signals, whole.signals[real.rows(folds=(1, 2))])


def test_a_stopped_copy_with_a_guidance_interval_goes_on(real: EcgStore, model: Path, tmp_path: Path) -> None:
    options = replace(OPTIONS, guidance=1.0, guidance_interval=(0.3, 5.0))
    stop_after_the_first_part(real, tmp_path / "copy", model=model, options=options)
    assert len(copy_store(real, tmp_path / "copy", model=model, options=options)) == len(real)
    with pytest.raises(DataError, match=r"other guidance interval"):
        copy_store(real, tmp_path / "copy", model=model, options=replace(options, guidance_interval=(0.3, 4.0)))


def test_what_stands_there_is_not_overwritten(real: EcgStore, model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="exists"):
        copy_store(real, real.path, model=model, options=OPTIONS)
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="exists"):
        copy_store(real, tmp_path / "folder", model=model, options=OPTIONS)


def test_a_finished_twin_is_opened_by_the_call_that_made_it_only(real: EcgStore, model: Path, tmp_path: Path) -> None:
    made = copy_store(real, tmp_path / "twin", model=model, folds=(1, 2), options=OPTIONS)
    before = (made.path / "manifest.json").stat()
    again = copy_store(real, tmp_path / "twin", model=model, folds=(1, 2), options=replace(OPTIONS, batch_size=3))
    np.testing.assert_array_equal(again.signals, made.signals)
    assert (made.path / "manifest.json").stat() == before
    with pytest.raises(DataError, match=r"twin holds another copy \(other folds, seed\)"):
        copy_store(real, tmp_path / "twin", model=model, folds=(1, 3), options=OPTIONS, seed=1)


def test_nothing_cannot_be_copied(real: EcgStore, model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected records to copy"):
        copy_store(real, tmp_path / "twin", model=model, folds=(), options=OPTIONS)


def test_another_rate_is_refused(real: EcgStore, tmp_path: Path) -> None:
    other = EcgStore(real.path, replace(real.manifest, rate=500.0), real.index, real.signals)
    with pytest.raises(DataError, match="the model's 100 Hz, got 500 Hz"):
        copy_store(other, tmp_path / "twin")


def test_the_layout_reads_back_with_wfdb(real: EcgStore, model: Path, tmp_path: Path) -> None:
    copied = copy_store(real, tmp_path / "twin", model=model, folds=(1, 2), options=OPTIONS)
    write_layout(copied, tmp_path / "layout")
    signal = wfdb.rdrecord(str(tmp_path / "layout" / "records100" / "100000" / "100001_lr")).p_signal
    np.testing.assert_allclose(signal.T, copied.record(0).signal, atol=5e-4)
    table = (tmp_path / "layout" / "ptbxl_database.csv").read_text().splitlines()
    assert len(table) == 1 + len(copied)
    assert table[1].startswith("100001,") and table[1].endswith(",1")


def test_a_model_is_asked_for_the_facts_it_knows_only(tiny_patch_model: Path, tmp_path: Path) -> None:
    described = load_config(tiny_patch_model)
    assert isinstance(described.network, PatchS4Config)
    some = replace(described, network=replace(described.network, facts=("age", "heart_rate")))
    record = simulate_record("NORM,SR", seed=0, index=0)
    with StoreWriter(tmp_path / "person", rate=100, samples=1000, source="simulator", synthetic=True) as writer:
        writer.add(record)
    job = twin._job_of(EcgStore.open(tmp_path / "person"), 0, some)
    assert job.facts.known == ("age", "heart_rate") and job.facts.age == record.patient.age


def test_a_record_that_is_no_ecg_is_named(real: EcgStore, model: Path, tmp_path: Path) -> None:
    loaded = load_model(model)
    weights = {name: torch.full_like(value, torch.nan) for name, value in loaded.network.state_dict().items()}
    save_model(loaded.config, weights, tmp_path / "broken")
    with pytest.raises(DataError, match=r"the model failed at synthetic-0-00000: expected finite.*take another --seed"):
        copy_store(real, tmp_path / "copy", model=tmp_path / "broken", options=OPTIONS)


def test_a_gans_twin_has_no_sampler(real: EcgStore) -> None:
    network = WaveGanConfig(width=10)
    config = ModelConfig("gan", network, None, "all", vocabulary("all").labels, MODEL_LEADS, 100.0)
    generator = Generator(Model(config, build_network(network)))
    identity = twin._identity(real, generator, rows=np.arange(3), seed=0, options=SamplingOptions())
    assert identity["sampler"] is None
    with pytest.raises(ConfigError, match="expected no sampler"):
        generator.plan(SamplingOptions(sampler="dpmpp"))
