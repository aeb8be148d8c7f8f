"""One training step of the diffusion model, as a pure function of (configuration, data, step number).

Nothing here remembers anything: which records, windows, diffusion steps and noise belong to step s follows from
the seed and s alone. That makes resuming exact, and several devices together draw what one device would.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ecgforge.data.store import EcgStore
from ecgforge.errors import DataError
from ecgforge.labels import vocabulary
from ecgforge.leads import STANDARD_LEADS
from ecgforge.rng import record_stream
from ecgforge.training.presets import TrainingConfig

_ORDER, _EXAMPLE = 1, 2  # purposes of the random streams; 0 belongs to sampling


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The records a run learns from.

    Attributes:
        store: Where the signals are.
        rows: Their rows in the store.
        condition: (rows, K) label vectors.
        lead_rows: Positions of the network's leads among the store's.
    """

    store: EcgStore
    rows: np.ndarray
    condition: np.ndarray
    lead_rows: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)


def select_data(store: EcgStore, config: TrainingConfig) -> TrainingData:
    """The part of a store a configuration asks for.

    Raises:
        DataError: the store's records do not fit the network, or no record is left.
    """
    if store.samples < config.network.length:
        raise DataError(
            f"expected records of {config.network.length} samples (network.length), the store has {store.samples}; "
            "build the store with longer records or --set network.length"
        )
    labels = vocabulary(config.data.label_set)
    if len(labels) != config.network.labels:
        raise DataError(
            f"expected network.labels = {len(labels)} for the label set {labels.describe()}, "
            f"got {config.network.labels}; --set network.labels={len(labels)}"
        )
    unknown = [lead for lead in config.data.leads if lead not in STANDARD_LEADS]
    if unknown:
        raise DataError(f"expected data.leads out of {' '.join(STANDARD_LEADS)}, got {' '.join(unknown)}")
    rows = store.rows(folds=config.data.folds, min_label_quality=config.data.min_label_quality)
    if len(rows) < config.batch_size:
        raise DataError(
            f"expected at least one batch of {config.batch_size} records in folds {config.data.folds}, "
            f"got {len(rows)}; choose other folds or a smaller batch_size"
        )
    return TrainingData(
        store=store,
        rows=rows,
        condition=store.labels(labels)[rows],
        lead_rows=tuple(STANDARD_LEADS.index(lead) for lead in config.data.leads),
    )


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs of the loss.

    Attributes:
        x_0: (B, C, L) mV.
        condition: (B, K).
        step: (B,) diffusion steps.
        eps: (B, C, L) standard normal noise.
        record_ids: For messages.
    """

    x_0: Float[Tensor, "B C L"]
    condition: Float[Tensor, "B K"]
    step: Float[Tensor, "B"]
    eps: Float[Tensor, "B C L"]
    record_ids: tuple[str, ...]


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    return record_stream(seed, epoch, purpose=_ORDER).permutation(size)


def batch_at(data: TrainingData, config: TrainingConfig, step: int, *, rank: int = 0, ranks: int = 1) -> Batch:
    """The share of device `rank` of the batch of training step `step`.

    Each epoch visits every record once, in an order of its own; example e of the run has its own random stream.
    """
    samples = config.samples_at(step)
    examples = step * config.batch_size + np.arange(rank, config.batch_size, ranks)
    picks = np.array([_epoch_order(config.seed, e // len(data), len(data))[e % len(data)] for e in examples.tolist()])
    signals = data.store.signals_mv(data.rows[picks])[:, data.lead_rows]
    windows, steps, noises = [], [], []
    for signal, example in zip(signals, examples.tolist(), strict=True):
        stream = record_stream(config.seed, example, purpose=_EXAMPLE)
        start = int(stream.integers(signal.shape[-1] - samples + 1))
        windows.append(signal[:, start : start + samples])
        steps.append(float(stream.integers(config.schedule.T)))
        noises.append(stream.standard_normal((len(signal), samples), dtype=np.float32))
    return Batch(
        x_0=torch.from_numpy(np.stack(windows)),
        condition=torch.from_numpy(data.condition[picks]),
        step=torch.tensor(steps),
        eps=torch.from_numpy(np.stack(noises)),
        record_ids=tuple(data.store.index["record_id"].iloc[data.rows[picks]].astype(str)),
    )
