"""Classifier: load a statement classifier once, judge as many records as wanted.

A record is judged on crops of the length the classifier was trained on, and their probabilities are averaged
(arXiv 2301.08227, section III.D: 2.5 s crops, half overlapping, 7 of them in 10 s).
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ecgforge.checkpoints.native import Model, load_model
from ecgforge.data.store import EcgStore
from ecgforge.errors import CheckpointError, DataError
from ecgforge.leads import STANDARD_LEADS
from ecgforge.models.xresnet import XResNet1d

CROP_S = 2.5
_BATCH = 64  # records; changes memory, not the result

Progress = Callable[[int, int], None]


def crop_samples(rate: float) -> int:
    """Samples of a crop at a sampling rate (Hz)."""
    return round(CROP_S * rate)


def crop_starts(samples: int, *, crop: int) -> tuple[int, ...]:
    """Where the half-overlapping crops of a record begin; the last one ends with the record.

    Raises:
        DataError: the record is shorter than a crop.
    """
    if samples < crop:
        raise DataError(f"expected records of {crop} samples or more, got {samples}")
    regular = range(0, samples - crop + 1, max(1, crop // 2))
    return tuple(sorted({*regular, samples - crop}))


@torch.no_grad()
def crop_mean(
    network: XResNet1d, signals: Float[Tensor, "B C L"], *, crop: int, features: bool = False
) -> Float[Tensor, "B _"]:
    """Probabilities (B, K), or features (B, F), averaged over the crops; the network in evaluation mode."""
    network.eval()
    starts = crop_starts(signals.shape[-1], crop=crop)
    total: Tensor | float = 0.0
    for start in starts:
        window = signals[:, :, start : start + crop]
        total = total + (network.features(window) if features else torch.sigmoid(network(window)))
    if not isinstance(total, Tensor):
        raise DataError("expected one or more crops, got none")
    return total / len(starts)


class Classifier:
    """Judges which ECG statements hold for a record, and gives the features that fidelity is measured on."""

    def __init__(self, model: Model, *, device: str | torch.device = "cpu") -> None:
        if not isinstance(model.network, XResNet1d):
            raise CheckpointError(
                f"expected a statement classifier, got the {model.config.network.kind} model {model.config.name}; "
                "train one with `ecgforge train xresnet1d50`"
            )
        self.config = model.config
        self.device = torch.device(device)
        self._network = model.network.to(self.device).eval()
        self._lead_rows = [STANDARD_LEADS.index(lead) for lead in self.config.leads]

    @classmethod
    def load(cls, folder: str | Path, *, device: str | torch.device = "cpu") -> "Classifier":
        """Load a model folder.

        Raises:
            CheckpointError: the folder holds no classifier.
        """
        return cls(load_model(Path(folder)), device=device)

    def predict(
        self, store: EcgStore, rows: Sequence[int] | np.ndarray, *, progress: Progress | None = None
    ) -> Float[np.ndarray, "N K"]:
        """Probability of every statement for these rows of a store.

        Raises:
            DataError: the store has another sampling rate than the classifier's, or records shorter than a crop.
        """
        return np.concatenate(list(self._judge(store, rows, features=False, progress=progress)))

    def features(
        self, store: EcgStore, rows: Sequence[int] | np.ndarray, *, progress: Progress | None = None
    ) -> Float[np.ndarray, "N F"]:
        """Features before the last linear layer, averaged over the crops.

        Raises:
            DataError: as `predict`.
        """
        return np.concatenate(list(self._judge(store, rows, features=True, progress=progress)))

    def _judge(
        self, store: EcgStore, rows: Sequence[int] | np.ndarray, *, features: bool, progress: Progress | None
    ) -> Iterator[Float[np.ndarray, "B _"]]:
        if store.rate != self.config.rate:
            raise DataError(
                f"expected records at {self.config.rate:g} Hz, the classifier's rate, the store {store.path} has "
                f"{store.rate:g} Hz; build it at {self.config.rate:g} Hz"
            )
        crop = crop_samples(self.config.rate)
        rows = np.asarray(rows)
        for start in range(0, len(rows), _BATCH):
            signals = store.signals_mv(rows[start : start + _BATCH])[:, self._lead_rows]
            batch = torch.from_numpy(np.ascontiguousarray(signals)).to(self.device)
            yield crop_mean(self._network, batch, crop=crop, features=features).cpu().numpy()
            if progress:
                progress(min(start + _BATCH, len(rows)), len(rows))
