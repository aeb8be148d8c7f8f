"""A store as a torch Dataset, for training loops other than ours.

    dataset = EcgDataset(EcgStore.open("ptbxl100"), labels="superdiagnostic", folds=range(1, 9), window=2.5)
    loader = DataLoader(dataset, batch_size=64, shuffle=True, num_workers=4)
    for epoch in range(50):
        dataset.set_epoch(epoch)
        for signals, labels in loader: ...          # (B, C, L) mV, (B, K)

Workers open the store's files themselves. Several stores, such as a real and a synthetic one, are joined by torch's
ConcatDataset. The labels are those of the store: encode a model's own with `labels=classifier.config.vocabulary`.
"""

from collections.abc import Collection, Sequence

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.utils.data import Dataset

from ecgforge.data.store import EcgStore
from ecgforge.errors import DataError
from ecgforge.labels import LabelVocabulary, vocabulary
from ecgforge.leads import STANDARD_LEADS, canonical_lead
from ecgforge.rng import Purpose, record_stream


class EcgDataset(Dataset[tuple[Float32[Tensor, "C L"], Float32[Tensor, " K"]]]):
    """Signals and label vectors of a store's records.

    Item i is the signal (C, L) in mV and the label vector (K,), both float32: of the whole record, or of a window
    whose place follows from seed, epoch and i alone, whatever the order and the number of workers.

    Attributes:
        store: Where the signals are.
        rows: (N,) row of each item in the store.
        vocabulary: What the K labels mean.
        leads: What the C rows of a signal are.
        samples: Length L of a signal.
    """

    def __init__(
        self,
        store: EcgStore,
        *,
        labels: str | LabelVocabulary = "all",
        folds: Collection[int] | None = None,
        leads: Sequence[str] = STANDARD_LEADS,
        window: float | None = None,
        seed: int = 0,
    ) -> None:
        """Choose records and what is seen of them.

        Args:
            store: The records.
            labels: A label vocabulary, or the name of one of labels.LABEL_SETS.
            folds: Folds to take, None for all records.
            leads: The leads wanted, in order.
            window: Length of the piece to cut, s; None takes whole records.
            seed: Of the places of the windows.

        Raises:
            DataError: no such fold or lead, no record, or records shorter than the window.
            LabelError: no such label set, or the store names a statement that does not exist.
        """
        self.store = store
        self.vocabulary = vocabulary(labels) if isinstance(labels, str) else labels
        self.rows = store.rows(folds=folds)
        self.leads = tuple(canonical_lead(lead) for lead in leads)
        self.samples = _window_samples(store, window)
        self._lead_rows = [STANDARD_LEADS.index(lead) for lead in self.leads]
        self._labels = store.labels(self.vocabulary)[self.rows]
        self._seed = seed
        # Shared, so that workers that live on from epoch to epoch see it change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        if len(self.rows) == 0:
            raise DataError(f"expected one or more records in {store.path}, got none")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> tuple[Float32[Tensor, "C L"], Float32[Tensor, " K"]]:
        """Signal (C, L) in mV and label vector (K,).

        Raises:
            IndexError: there is no such item.
        """
        number = range(len(self))[item]
        whole = self.store.signals[self.rows[number]]
        start = self._window_start(number)
        steps = whole[self._lead_rows, start : start + self.samples]
        signal = torch.from_numpy(steps.astype(np.float32) / np.float32(1000))
        return signal, torch.from_numpy(self._labels[number].copy())

    def set_epoch(self, epoch: int) -> None:
        """Draw other windows from the next iteration on; call it before each epoch."""
        self._epoch.fill_(epoch)

    def _window_start(self, number: int) -> int:
        last = self.store.samples - self.samples
        if last == 0:
            return 0
        # One stream a record; within it one draw an epoch, so that all epochs differ.
        stream = record_stream(self._seed, number, purpose=Purpose.WINDOW)
        return int(stream.integers(last + 1, size=int(self._epoch) + 1)[-1])


def _window_samples(store: EcgStore, window: float | None) -> int:
    if window is None:
        return store.samples
    samples = round(window * store.rate)
    if not 0 < samples <= store.samples:
        raise DataError(
            f"expected a window above 0 s and of at most the {store.samples / store.rate:g} s of the records, "
            f"got {window:g} s"
        )
    return samples
