"""A training step is a pure function: epochs, shares of devices, windows and their random streams."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import RECORDS, TINY_NETWORK, tiny_config, tiny_store

from ecgforge.data.store import EcgStore
from ecgforge.errors import ConfigError, DataError
from ecgforge.labels import vocabulary
from ecgforge.leads import MODEL_LEADS, STANDARD_LEADS
from ecgforge.training.diffusion import Batch, DiffusionLearner, batch_at
from ecgforge.training.loop import make_fabric
from ecgforge.training.records import picks_of, select_data
from ecgforge.training.settings import DataConfig, Stage

FIELDS = ("x_0", "condition", "step", "eps")


def equal(a: Batch, b: Batch) -> bool:
    return a.record_ids == b.record_ids and all(torch.equal(getattr(a, f), getattr(b, f)) for f in FIELDS)


@pytest.mark.parametrize("batch_size", [4, 5, 24])
def test_each_epoch_visits_every_record_once(store: EcgStore, batch_size: int) -> None:
    config = tiny_config(batch_size=batch_size)
    data = select_data(store, config)
    steps = -(-3 * RECORDS // batch_size)
    seen = [name for step in range(steps) for name in batch_at(data, config, step).record_ids]
    epochs = [seen[start : start + RECORDS] for start in range(0, 3 * RECORDS, RECORDS)]
    for epoch in epochs:
        assert sorted(epoch) == sorted(store.index["record_id"])
    assert epochs[0] != epochs[1] != epochs[2]


def test_rare_statements_are_drawn_as_often_as_common_ones(store: EcgStore) -> None:
    """AFIB in one record of 24, SR in all others: half by statement gives AFIB a quarter and half of 1/24."""
    share = 0.5
    config = tiny_config(batch_size=24, data=DataConfig(rare_share=share))
    condition = np.zeros((RECORDS, 71), dtype=np.float32)
    condition[:, vocabulary("all").labels.index("SR")] = 1
    condition[5] = 0
    condition[5, vocabulary("all").labels.index("AFIB")] = 1
    data = replace(select_data(store, config), condition=condition)
    picks = picks_of(data, config, np.arange(4000))
    assert np.mean(picks == 5) == pytest.approx(share / 2 + (1 - share) / RECORDS, abs=0.02)
    assert np.array_equal(picks[100:110], picks_of(data, config, np.arange(100, 110)))
    others = np.bincount(picks, minlength=RECORDS)[np.arange(RECORDS) != 5]
    assert others.min() > 0.6 * others.mean()


def test_a_share_is_no_more_than_all() -> None:
    with pytest.raises(ConfigError, match=r"rare_share from 0 to 1, got 1.5"):
        DataConfig(rare_share=1.5)


@pytest.mark.parametrize("ranks", [2, 4])
def test_devices_share_the_batch_of_one(store: EcgStore, ranks: int) -> None:
    config = tiny_config(batch_size=8)
    data = select_data(store, config)
    for step in (0, 5):
        whole = batch_at(data, config, step)
        for rank in range(ranks):
            share = batch_at(data, config, step, rank=rank, ranks=ranks)
            assert share.record_ids == whole.record_ids[rank::ranks]
            for field in FIELDS:
                assert torch.equal(getattr(share, field), getattr(whole, field)[rank::ranks])


def test_a_step_follows_from_seed_and_number_alone(store: EcgStore) -> None:
    config = tiny_config()
    data = select_data(store, config)
    seventh = batch_at(data, config, 7)
    torch.manual_seed(99)
    batch_at(data, config, 3)
    again = select_data(EcgStore.open(store.path), config)
    assert equal(batch_at(again, config, 7), seventh)
    assert not equal(batch_at(data, config, 8), seventh)
    assert not equal(batch_at(data, replace(config, seed=1), 7), seventh)


def test_windows_are_pieces_of_the_records_in_the_networks_leads(store: EcgStore) -> None:
    config = tiny_config(batch_size=12)
    data = select_data(store, config)
    rows = {name: row for row, name in enumerate(store.index["record_id"])}
    starts = set()
    for step in range(4):
        batch = batch_at(data, config, step)
        assert batch.x_0.shape == batch.eps.shape == (12, 8, 64)
        for window, name in zip(batch.x_0.numpy(), batch.record_ids, strict=True):
            record = store.record(rows[name]).in_leads(MODEL_LEADS)
            pieces = np.lib.stride_tricks.sliding_window_view(record, 64, axis=1)
            found = np.flatnonzero((pieces == window[:, None]).all(axis=(0, 2)))
            assert len(found) >= 1, name
            starts.add(int(found[0]))
    assert len(starts) > 20  # of 187 places


def test_first_and_last_sample_are_in_reach(store: EcgStore) -> None:
    network = replace(TINY_NETWORK, length=250)
    config = tiny_config(network=network, stages=(Stage(steps=40, samples=249),), batch_size=8)
    data = select_data(store, config)
    rows = {name: row for row, name in enumerate(store.index["record_id"])}
    at_start = at_end = 0
    for step in range(4):
        batch = batch_at(data, config, step)
        for window, name in zip(batch.x_0.numpy(), batch.record_ids, strict=True):
            record = store.record(rows[name]).in_leads(MODEL_LEADS)
            at_start += np.array_equal(window, record[:, :249])
            at_end += np.array_equal(window, record[:, 1:])
    assert at_start > 0 and at_end > 0 and at_start + at_end == 32


def test_window_length_follows_the_stages(store: EcgStore) -> None:
    config = tiny_config(stages=(Stage(steps=2, samples=16), Stage(steps=2, samples=64)))
    data = select_data(store, config)
    lengths = [batch_at(data, config, step).x_0.shape[-1] for step in range(4)]
    assert lengths == [16, 16, 64, 64]


def test_conditions_are_the_statements_of_the_records(store: EcgStore) -> None:
    config = tiny_config(batch_size=24)
    labels = vocabulary("all")
    batch = batch_at(select_data(store, config), config, 0)
    for vector, name in zip(batch.condition.numpy(), batch.record_ids, strict=True):
        number = int(name.removeprefix("bumps-"))
        assert set(labels.decode(vector)) == ({"NORM", "SR"} if number % 2 else {"AFIB"})


def test_diffusion_steps_and_noise_have_the_right_distribution(store: EcgStore) -> None:
    config = tiny_config(batch_size=24)
    data = select_data(store, config)
    batches = [batch_at(data, config, step) for step in range(40)]
    steps = torch.cat([batch.step for batch in batches])
    assert set(steps.tolist()) <= set(range(200)) and steps.min() == 0 and steps.max() == 199
    # Mean of 960 uniform draws: standard error 57.7 / sqrt(960) = 1.9.
    assert abs(float(steps.mean()) - 99.5) < 6
    noise = torch.cat([batch.eps for batch in batches])
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert float(noise.std()) == pytest.approx(1, abs=0.01)


def test_other_folds_and_leads(store: EcgStore) -> None:
    data_config = DataConfig(folds=(2, 3), leads=("V2", "II"))
    config = tiny_config(data=data_config, network=replace(TINY_NETWORK, leads=2))
    data = select_data(store, config)
    assert sorted(store.index["fold"].iloc[data.rows].unique()) == [2, 3]
    assert data.lead_rows == (STANDARD_LEADS.index("V2"), STANDARD_LEADS.index("II"))
    assert batch_at(data, config, 0).x_0.shape == (4, 2, 64)


def test_a_store_of_short_records_is_refused(tmp_path: Path) -> None:
    short = tiny_store(tmp_path, records=8, samples=63)
    with pytest.raises(DataError, match=r"records of 64 samples .*the store has 63"):
        select_data(short, tiny_config())


def test_a_wrong_number_of_labels_is_refused(store: EcgStore) -> None:
    with pytest.raises(DataError, match=r"network.labels = 71 .*got 70"):
        select_data(store, tiny_config(network=replace(TINY_NETWORK, labels=70)))
    with pytest.raises(DataError, match="network.labels=5"):
        select_data(store, tiny_config(data=DataConfig(label_set="superdiagnostic")))


def test_fewer_records_than_a_batch_are_refused(store: EcgStore) -> None:
    with pytest.raises(DataError, match="at least 4 records.*got 3"):
        select_data(store, tiny_config(data=DataConfig(folds=(5,))))


def test_an_unknown_lead_is_refused(store: EcgStore) -> None:
    config = tiny_config(data=DataConfig(leads=("I", "V7")), network=replace(TINY_NETWORK, leads=2))
    with pytest.raises(DataError, match="got V7"):
        select_data(store, config)


def test_gradient_checkpointing_trains_the_same_network(store: EcgStore) -> None:
    fabric = make_fabric(device="cpu", devices=1, precision="32-true")
    losses, weights = [], []
    for chosen in (False, True):
        torch.manual_seed(0)
        learner = DiffusionLearner(tiny_config(gradient_checkpointing=chosen), store, fabric)
        assert learner.network.gradient_checkpointing is chosen
        losses.append([learner.take_step(step) for step in range(3)])
        weights.append(torch.cat([value.detach().flatten() for _, value in learner.named_parameters()]))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)
