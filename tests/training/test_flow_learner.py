"""Training of our own denoiser: units, facts, resuming, and records made with it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import tiny_store

from ecgforge.checkpoints.native import Model, load_model
from ecgforge.data.simulate import simulate_record
from ecgforge.data.store import EcgStore, StoreWriter
from ecgforge.errors import ConfigError
from ecgforge.facts import FACTS, Facts
from ecgforge.generate import Generator
from ecgforge.models.patch_s4 import PatchS4Config
from ecgforge.models.rhythm import RhythmModel
from ecgforge.r_peaks import find_r_peaks, measure_facts
from ecgforge.record import Patient
from ecgforge.rng import record_stream
from ecgforge.sampling import Job, SamplingOptions
from ecgforge.training.flow import FlowLearner, batch_at, lead_scales
from ecgforge.training.loop import make_fabric, train
from ecgforge.training.records import TrainingData, select_data
from ecgforge.training.rhythm import Hearts, fit_rhythm, gather_intervals, measure_hearts
from ecgforge.training.settings import FlowTraining, Stage
from ecgforge.twin import copy_store

CONFIG = FlowTraining(
    name="tiny-flow",
    network=PatchS4Config(length=248, patch=4, features=8, layers=1, condition_features=8, state_size=4),
    stages=(Stage(steps=4, samples=248),),
    batch_size=4,
    learning_rate=1e-2,
    ema_decay=0.9,
    sample_minutes=0.0,
)


def learner_on(store: EcgStore, **changes: object) -> FlowLearner:
    torch.manual_seed(0)
    fabric = make_fabric(device="cpu", devices=1, precision="32-true")
    return FlowLearner(replace(CONFIG, **changes), store, fabric)


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> EcgStore:
    """Simulated records with known rates: sinus tachycardia and bradycardia."""
    path = tmp_path_factory.mktemp("hearts") / "store"
    with StoreWriter(path, rate=100, samples=1000, source="simulated", synthetic=True) as writer:
        for number in range(8):
            record = simulate_record("STACH" if number % 2 else "SBRAD", seed=0, index=number)
            patient = Patient(age=300.0 if number == 0 else 40.0 + number, sex="female" if number < 4 else None)
            provenance = replace(record.provenance, fold=1)
            writer.add(replace(record, record_id=str(number), patient=patient, provenance=provenance))
    return EcgStore.open(path)


def data_of(hearts: EcgStore) -> TrainingData:
    return select_data(hearts, replace(CONFIG, data=replace(CONFIG.data, folds=(1,))))


def test_facts_are_in_the_networks_units(hearts: EcgStore) -> None:
    facts = measure_hearts(data_of(hearts), FACTS).facts
    assert facts.shape == (8, 3)
    np.testing.assert_allclose(facts[:, 0], [0.9, *(0.4 + 0.01 * np.arange(1, 8))], rtol=1e-6)
    assert (facts[:4, 1] == 1).all() and np.isnan(facts[4:, 1]).all()
    assert (facts[1::2, 2] > 1).all() and (facts[::2, 2] < 0.6).all()  # above 100 and below 60 a minute


def test_beats_are_marked_where_they_are_and_unknown_where_too_few_were_found(hearts: EcgStore) -> None:
    measured = measure_hearts(data_of(hearts), FACTS)
    for number in range(8):
        assert np.array_equal(np.flatnonzero(measured.beats(number, 1000)), find_r_peaks(hearts.record(number)))
    few = Hearts(measured.facts, (np.array([10, 90]),))
    assert np.isnan(few.beats(0, 1000)).all()


def test_beats_are_cut_with_the_window(store: EcgStore) -> None:
    """Marks lie where the signal's peaks lie, in a window that begins anywhere."""
    learner = learner_on(store, beat_share=1.0)
    row = int(learner.data.signals_mv(np.arange(1))[0, 0].argmax())
    peaks = (np.array([10, row, 240]),) * len(learner.data)
    hearts = Hearts(learner._hearts.facts, tuple(np.unique(p) for p in peaks))
    for step in range(6):
        batch = batch_at(learner.data, learner.config, hearts, learner._scales_mv, step)
        whole = learner.data.signals_mv(np.arange(len(learner.data))) / learner._scales_mv
        for x, beats, name in zip(batch.x_0, batch.beats, batch.record_ids, strict=True):
            record = whole[[f"bumps-{i}" for i in range(24)].index(name)]
            starts = [s for s in range(record.shape[1] - 247) if np.allclose(record[:, s : s + 248], x, atol=1e-5)]
            marks = np.zeros(record.shape[1])
            marks[hearts.peaks[0]] = 1
            assert any(np.array_equal(marks[s : s + 248], beats) for s in starts)


def test_intervals_and_what_was_before_them() -> None:
    peaks = (np.array([5, 105, 185]), np.array([7, 90]), np.arange(0, 1000, 100))
    intervals = gather_intervals(Hearts(np.zeros((3, 0), dtype=np.float32), peaks), rate=100)
    np.testing.assert_allclose(intervals.seconds, [1.0, 0.8, *[1.0] * 9])
    assert intervals.record.tolist() == [0, 0, *[2] * 9]
    assert intervals.past[0].isnan().all()
    np.testing.assert_allclose(intervals.past[1].numpy(), [np.nan] * 7 + [1.0])
    np.testing.assert_allclose(intervals.past[10].numpy(), [1.0] * 8)


def test_the_rhythm_model_learns_what_a_statement_means(hearts: EcgStore) -> None:
    """Fast and slow hearts, told apart by their statement."""
    data = data_of(hearts)
    measured = measure_hearts(data, FACTS)
    torch.manual_seed(0)
    model = RhythmModel(len(data.labels) + len(FACTS))
    repeated = replace(
        data,
        which=np.tile(data.which, 200),
        rows=np.tile(data.rows, 200),
        condition=np.tile(data.condition, (200, 1)),
    )
    many = Hearts(np.tile(measured.facts, (200, 1)), measured.peaks * 200)
    likelihood = fit_rhythm(model, repeated, many, CONFIG)
    assert likelihood > 0.5
    assert not any(parameter.requires_grad for parameter in model.parameters())
    for number in range(2):
        told = np.concatenate([data.condition[number], np.full(3, np.nan, dtype=np.float32)])
        beats = model.draw_beats(told, seconds=60, stream=record_stream(0, number))
        assert np.median(np.diff(beats)) < 0.6 if number else np.median(np.diff(beats)) > 1.0


def test_leads_have_unit_variance_in_training(store: EcgStore, tmp_path: Path) -> None:
    learner = learner_on(store)
    scales = lead_scales(learner.data)
    whole = learner.data.signals_mv(np.arange(len(learner.data))) / scales
    np.testing.assert_allclose(np.square(whole).mean(axis=(0, 2)), 1, rtol=1e-3)
    # In batches of 64 the last record of 65 counts as much as any other.
    many = tiny_store(tmp_path, records=65)
    data = select_data(many, CONFIG)
    every = np.sqrt(np.square(data.signals_mv(np.arange(65))).mean(axis=(0, 2)))
    np.testing.assert_allclose(lead_scales(data)[:, 0], every, rtol=1e-5)
    batch = batch_at(learner.data, learner.config, learner._hearts, learner._scales_mv, 0)
    record = learner.data.signals_mv(np.arange(len(learner.data)))
    row = [f"bumps-{i}" for i in range(24)].index(batch.record_ids[0])
    ratio = batch.x_0[0].numpy() * scales
    starts = [np.allclose(record[row][:, s : s + 248], ratio, atol=1e-5) for s in range(3)]
    assert any(starts)


def test_statements_and_facts_are_hidden_at_the_stated_rates(store: EcgStore) -> None:
    learner = learner_on(store, batch_size=24, unknown_share=0.4, fact_share=0.25, beat_share=0.3)
    peaks = np.array([40, 120, 200])
    hearts = Hearts(np.ones((len(learner.data), 3), dtype=np.float32), (peaks,) * len(learner.data))
    batches = [batch_at(learner.data, learner.config, hearts, learner._scales_mv, step) for step in range(40)]
    condition = torch.cat([batch.condition for batch in batches])
    assert condition.shape == (960, 74)
    told = float((~condition[:, 71:].isnan()).float().mean())
    assert told == pytest.approx(0.25, abs=0.03)
    hidden = condition[:, :71].isnan()
    assert float(hidden.all(dim=1).float().mean()) == pytest.approx(0.2, abs=0.04)  # half of the 40 %
    assert float(hidden.any(dim=1).float().mean()) == pytest.approx(0.4, abs=0.05)
    beats = torch.cat([batch.beats for batch in batches])
    assert torch.equal(beats.isnan().any(dim=1), beats.isnan().all(dim=1))
    assert float(beats.isnan().all(dim=1).float().mean()) == pytest.approx(0.7, abs=0.04)
    assert set(beats.nan_to_num(0).sum(dim=1).tolist()) == {0.0, 3.0}


def test_two_steps_and_two_resumed_are_four(store: EcgStore) -> None:
    whole, first = learner_on(store), learner_on(store)
    losses = [whole.take_step(step) for step in range(4)]
    parts = [first.take_step(step) for step in range(2)]
    second = learner_on(store)
    second.load_state(first.state())
    parts += [second.take_step(step) for step in range(2, 4)]
    assert parts == losses
    _, ours = second.model(steps_done=4)
    _, theirs = whole.model(steps_done=4)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_loss_starts_at_one_and_falls(store: EcgStore) -> None:
    """The network starts at zero; the velocity has unit variance whatever the level."""
    learner = learner_on(store, batch_size=16, stages=(Stage(steps=60, samples=248),))
    losses = [learner.take_step(step) for step in range(60)]
    assert np.mean(losses[:2]) == pytest.approx(1.0, abs=0.2)
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:2])


def test_records_come_out_in_millivolts_and_guidance_works(tmp_path: Path) -> None:
    config = replace(CONFIG, network=replace(CONFIG.network, length=1000), stages=(Stage(steps=2, samples=1000),))
    train(config, tiny_store(tmp_path, records=8, samples=1000), tmp_path, device="cpu")
    generator = Generator.load(tmp_path / "model")
    assert len(generator.config.scales_mv) == 8
    few = SamplingOptions(sampler="dpmpp", steps=3)
    alone = generator.sample("AFIB", n=3, seed=1, options=few)
    together = generator.sample("AFIB", n=3, seed=1, options=replace(few, batch_size=2))
    assert all((a.signal == b.signal).all() for a, b in zip(alone, together, strict=True))
    guided = generator.sample("AFIB", seed=1, options=replace(few, guidance=2.0))
    assert (guided[0].signal != alone[0].signal).any()


def test_facts_change_the_record_and_are_kept_with_it(tmp_path: Path) -> None:
    config = replace(CONFIG, network=replace(CONFIG.network, length=1000), stages=(Stage(steps=2, samples=1000),))
    store = tiny_store(tmp_path, records=8, samples=1000)
    train(config, store, tmp_path, device="cpu")
    generator = Generator.load(tmp_path / "model")
    few = SamplingOptions(steps=3)
    plain, asked = (generator.sample("AFIB", facts=f, options=few)[0] for f in (Facts(), Facts(age=50, heart_rate=120)))
    assert (plain.signal != asked.signal).any()
    assert (plain.patient.age, asked.patient.age, asked.patient.sex) == (None, 50, None)
    twin = copy_store(store, tmp_path / "twin", model=tmp_path / "model", options=few)
    again = generator.sample_each(
        [Job(3, twin.record(3).statements, measure_facts(store.record(3)))], seed=0, options=few
    )
    np.testing.assert_allclose(twin.record(3).signal, next(again).signal, atol=5.1e-4)
    assert twin.record(3).patient.sex == store.record(3).patient.sex


def test_windows_are_whole_patches() -> None:
    with pytest.raises(ConfigError, match="whole patches of 4, got 246"):
        replace(CONFIG, stages=(Stage(steps=1, samples=246),))


def test_a_started_run_keeps_the_units_of_its_start(hearts: EcgStore, tmp_path: Path) -> None:
    """Other records have other standard deviations; the weights are for the old ones."""
    config = replace(CONFIG, data=replace(CONFIG.data, folds=(1,)))
    train(config, hearts, tmp_path / "first")
    first = load_model(tmp_path / "first" / "model")
    doubled = Model(
        replace(first.config, scales_mv=tuple(2 * scale for scale in first.config.scales_mv)), first.network
    )
    train(replace(config, seed=1), hearts, tmp_path / "second", start=doubled)
    assert load_model(tmp_path / "second" / "model").config.scales_mv == doubled.config.scales_mv
