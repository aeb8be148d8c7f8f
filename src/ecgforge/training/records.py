"""Which records a training run sees, when, and which piece of each.

Nothing here remembers anything: which records and windows belong to batch number b follows from the seed and b
alone. That makes resuming exact, and several devices together draw what one device would.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float, Int

from ecgforge.data.store import EcgStore
from ecgforge.errors import DataError
from ecgforge.labels import LabelVocabulary, custom_vocabulary, vocabulary
from ecgforge.leads import STANDARD_LEADS
from ecgforge.rng import Purpose, record_stream
from ecgforge.training.settings import DataConfig, TrainingConfig


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The records a run learns from.

    Attributes:
        stores: Where the signals are; one store, or a real and a synthetic one.
        which: Number of the store of each record.
        rows: Row of each record in its store.
        labels: What the columns of `condition` mean.
        condition: (N, K) label vectors.
        lead_rows: Positions of the network's leads among the stores'.
    """

    stores: tuple[EcgStore, ...]
    which: Int[np.ndarray, " N"]
    rows: Int[np.ndarray, " N"]
    labels: LabelVocabulary
    condition: Float[np.ndarray, "N K"]
    lead_rows: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def signals_mv(self, picks: Int[np.ndarray, " B"]) -> Float[np.ndarray, "B C L"]:
        """Whole records in the network's leads."""
        samples = min(store.samples for store in self.stores)
        signals = np.empty((len(picks), len(self.lead_rows), samples), dtype=np.float32)
        for number, store in enumerate(self.stores):
            mine = self.which[picks] == number
            signals[mine] = store.signals_mv(self.rows[picks[mine]])[:, self.lead_rows, :samples]
        return signals

    @cached_property
    def picks_by_statement(self) -> tuple[Int[np.ndarray, " _"], ...]:
        """For each statement that occurs, the records that have it."""
        columns = (np.flatnonzero(column > 0) for column in self.condition.T)
        return tuple(picks for picks in columns if len(picks))

    def record_ids(self, picks: Int[np.ndarray, " B"]) -> tuple[str, ...]:
        """Names of records, for messages."""
        return tuple(
            str(self.stores[number].index["record_id"].iloc[row])
            for number, row in zip(self.which[picks].tolist(), self.rows[picks].tolist(), strict=True)
        )

    def joined(self, other: "TrainingData") -> "TrainingData":
        """These records and then the other ones, as one data set.

        Raises:
            DataError: the sampling rates differ.
        """
        rates = {store.rate for store in (*self.stores, *other.stores)}
        if len(rates) > 1:
            raise DataError(f"expected stores of one sampling rate, got {' and '.join(f'{r:g}' for r in rates)} Hz")
        return replace(
            self,
            stores=self.stores + other.stores,
            which=np.concatenate([self.which, other.which + len(self.stores)]),
            rows=np.concatenate([self.rows, other.rows]),
            condition=np.concatenate([self.condition, other.condition]),
        )


def label_vocabulary(config: DataConfig) -> LabelVocabulary:
    """The statements of a run's condition.

    Raises:
        LabelError: a statement or label set does not exist.
    """
    return custom_vocabulary(config.statements) if config.statements else vocabulary(config.label_set)


def select_data(store: EcgStore, config: TrainingConfig, *, folds: tuple[int, ...] | None = None) -> TrainingData:
    """The part of a store a configuration asks for.

    Args:
        store: All records.
        config: The run.
        folds: Other folds than the run learns from, e.g. for validation.

    Raises:
        DataError: the store's records do not fit the network, or no record is left.
        LabelError: a statement or label set does not exist.
    """
    if store.samples < config.longest_window:
        raise DataError(
            f"expected records of {config.longest_window} samples or more, the store has {store.samples}; "
            "build the store with longer records or --set network.length and stages"
        )
    labels = label_vocabulary(config.data)
    if len(labels) != config.network.labels:
        raise DataError(
            f"expected network.labels = {len(labels)} for the label set {labels.describe()}, "
            f"got {config.network.labels}; --set network.labels={len(labels)}"
        )
    unknown = [lead for lead in config.data.leads if lead not in STANDARD_LEADS]
    if unknown:
        raise DataError(f"expected data.leads out of {' '.join(STANDARD_LEADS)}, got {' '.join(unknown)}")
    rows = store.rows(folds=folds or config.data.folds, min_label_quality=config.data.min_label_quality)
    needed = config.batch_size if folds is None else 1
    if len(rows) < needed:
        raise DataError(
            f"expected at least {needed} records in folds {folds or config.data.folds}, "
            f"got {len(rows)}; choose other folds or a smaller batch_size"
        )
    return TrainingData(
        stores=(store,),
        which=np.zeros(len(rows), dtype=np.int64),
        rows=rows,
        labels=labels,
        condition=store.labels(labels)[rows],
        lead_rows=tuple(STANDARD_LEADS.index(lead) for lead in config.data.leads),
    )


def examples_of(config: TrainingConfig, batch: int, *, rank: int, ranks: int) -> Int[np.ndarray, " B"]:
    """Numbers, within the run, of the examples of a batch that belong to one of `ranks` devices."""
    return batch * config.batch_size + np.arange(rank, config.batch_size, ranks)


def picks_of(data: TrainingData, config: TrainingConfig, examples: Int[np.ndarray, " B"]) -> Int[np.ndarray, " B"]:
    """Which record each example is: every epoch visits every record once, in an order of its own.

    Examples that are drawn by statement (see DataConfig.rare_share) take the place of others.
    """
    size, share = len(data), config.data.rare_share
    picks = [_epoch_order(config.seed, number // size, size)[number % size] for number in examples.tolist()]
    for place, number in enumerate(examples.tolist() if share and data.picks_by_statement else []):
        stream = record_stream(config.seed, number, purpose=Purpose.RARE_STATEMENT)
        if stream.random() < share:
            having = data.picks_by_statement[stream.integers(len(data.picks_by_statement))]
            picks[place] = having[stream.integers(len(having))]
    return np.array(picks)


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, size: int) -> Int[np.ndarray, " N"]:
    return record_stream(seed, epoch, purpose=Purpose.ORDER).permutation(size)


def example_stream(config: TrainingConfig, example: int) -> np.random.Generator:
    """The random stream of one example, from which its window and noise are drawn."""
    return record_stream(config.seed, example, purpose=Purpose.EXAMPLE)


def cut_window(
    signal: Float[np.ndarray, "C L"], samples: int, stream: np.random.Generator
) -> Float[np.ndarray, "C window"]:
    """A piece of the record, every start as likely."""
    start = int(stream.integers(signal.shape[-1] - samples + 1))
    return signal[:, start : start + samples]
