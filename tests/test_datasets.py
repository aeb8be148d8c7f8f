"""A store as a torch Dataset: what comes out is what is in the store, at any number of workers."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import tiny_store
from torch.utils.data import ConcatDataset, DataLoader

from ecgforge.data.store import EcgStore
from ecgforge.datasets import EcgDataset
from ecgforge.errors import DataError, LabelError
from ecgforge.labels import custom_vocabulary
from ecgforge.leads import MODEL_LEADS, STANDARD_LEADS


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EcgStore:
    return tiny_store(tmp_path_factory.mktemp("tiny"))  # 24 records of 2.5 s at 100 Hz, folds 1 to 8 in turn


def batches(dataset: EcgDataset, *, workers: int = 0, context: str | None = None) -> torch.Tensor:
    loader = DataLoader(dataset, batch_size=5, num_workers=workers, multiprocessing_context=context)
    return torch.cat([signals for signals, _ in loader])


def test_items_are_signals_in_mv_and_label_vectors(store: EcgStore) -> None:
    dataset = EcgDataset(store, labels=custom_vocabulary(["SR", "AFIB"]), leads=("V2", "I"))
    assert len(dataset) == 24
    signal, labels = dataset[3]
    assert (signal.dtype, signal.shape, labels.dtype) == (torch.float32, (2, 250), torch.float32)
    np.testing.assert_array_equal(signal.numpy(), store.record(3).in_leads(("V2", "I")))
    assert labels.tolist() == [1, 0] and dataset[4][1].tolist() == [0, 1]


def test_the_standard_label_sets_go_by_name(store: EcgStore) -> None:
    for name, size in (("all", 71), ("superdiagnostic", 5), ("rhythm", 12)):
        dataset = EcgDataset(store, labels=name, leads=MODEL_LEADS)
        stacked = torch.stack([labels for _, labels in dataset])
        np.testing.assert_array_equal(stacked.numpy(), store.labels(dataset.vocabulary))
        assert stacked.shape == (24, size)


def test_folds_choose_the_records(store: EcgStore) -> None:
    dataset = EcgDataset(store, folds={2, 5})
    assert dataset.rows.tolist() == [1, 4, 9, 12, 17, 20]
    np.testing.assert_array_equal(dataset[4][0].numpy(), store.record(17).signal)


def test_items_end_where_the_records_do(store: EcgStore) -> None:
    dataset = EcgDataset(store, folds={1})
    assert torch.equal(dataset[-1][0], dataset[2][0])
    assert len(list(dataset)) == 3
    with pytest.raises(IndexError):
        dataset[3]


def test_windows_are_pieces_of_their_record_and_move_with_the_epoch(store: EcgStore) -> None:
    dataset = EcgDataset(store, window=0.5, seed=3)
    starts = []
    for epoch in range(40):
        dataset.set_epoch(epoch)
        piece = dataset[7][0].numpy()
        assert piece.shape == (12, 50)
        whole = np.lib.stride_tricks.sliding_window_view(store.record(7).signal, 50, axis=1)
        found = np.flatnonzero((whole == piece[:, None]).all(axis=(0, 2)))
        assert len(found) >= 1
        starts.append(int(found[0]))
    assert len(set(starts)) > 25  # of 201 places
    assert max(starts) - min(starts) > 150
    dataset.set_epoch(0)
    assert torch.equal(dataset[7][0], EcgDataset(store, window=0.5, seed=3)[7][0])
    assert not torch.equal(dataset[7][0], EcgDataset(store, window=0.5, seed=4)[7][0])


def test_workers_give_the_same_batches(store: EcgStore) -> None:
    dataset = EcgDataset(store, window=1.0)
    alone = batches(dataset)
    assert alone.shape == (24, 12, 100)
    assert torch.equal(batches(dataset, workers=2, context="fork"), alone)


def test_workers_that_live_on_see_the_next_epoch(store: EcgStore) -> None:
    dataset = EcgDataset(store, window=1.0)
    loader = DataLoader(dataset, batch_size=24, num_workers=1, persistent_workers=True, multiprocessing_context="fork")
    for epoch in range(3):
        dataset.set_epoch(epoch)
        (signals, _), *rest = loader
        assert not rest
        assert torch.equal(signals, torch.stack([signal for signal, _ in dataset]))


def test_a_pickled_data_set_opens_the_store_again(store: EcgStore) -> None:
    dataset = EcgDataset(store, window=1.0, seed=5)
    dataset.set_epoch(2)
    pickled = pickle.dumps(dataset)
    assert len(pickled) < store.signals.nbytes / 4  # no signals travel
    back = pickle.loads(pickled)
    assert isinstance(back.store.signals, np.memmap)
    assert torch.equal(back[9][0], dataset[9][0])


def test_a_real_and_a_synthetic_store_are_joined_by_torch(store: EcgStore, tmp_path: Path) -> None:
    more = tiny_store(tmp_path, records=4)
    joined = ConcatDataset([EcgDataset(store), EcgDataset(more)])
    assert len(joined) == 28
    np.testing.assert_array_equal(joined[25][0].numpy(), more.record(1).signal)


def test_what_does_not_fit_is_refused(store: EcgStore) -> None:
    with pytest.raises(DataError, match="which has 1 2 3 4 5 6 7 8, got 9"):
        EcgDataset(store, folds=[9])
    with pytest.raises(DataError, match="one or more records"):
        EcgDataset(store, folds=[])
    with pytest.raises(DataError, match=r"at most the 2.5 s of the records, got 3 s"):
        EcgDataset(store, window=3.0)
    with pytest.raises(DataError, match="got 0 s"):
        EcgDataset(store, window=0.0)
    with pytest.raises(DataError, match="got 'V9'"):
        EcgDataset(store, leads=(*STANDARD_LEADS, "V9"))
    with pytest.raises(LabelError, match="did you mean rhythm"):
        EcgDataset(store, labels="rythm")
