"""The model folder: `model.safetensors` (weights) and `config.json` (everything needed to use them).

The configuration names the network, schedule, statements, leads and rate, so that a model can be used without
the code that trained it and a mismatch is noticed. It holds the checksum of the weights and is written last.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ecgforge import config as configuration
from ecgforge.diffusion.flow import FlowSchedule
from ecgforge.diffusion.schedule import LinearSchedule
from ecgforge.errors import CheckpointError
from ecgforge.labels import LabelVocabulary
from ecgforge.models import NETWORKS, NetworkConfig

FORMAT_VERSION = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

_WORTH_HALVING = 4096  # numbers


@dataclass(frozen=True)
class ModelConfig:
    """What a model is.

    Attributes:
        name: Of the preset or checkpoint it came from.
        network: Kind and size of the network.
        schedule: Noise levels it was trained on; None for networks that know none (a GAN's generator, a classifier).
        label_set: Name of the label vocabulary.
        labels: Its K labels, in the order of the condition vector.
        leads: C leads in the order of the network's channels.
        rate: Samples per second (Hz).
        scales_mv: What one unit is in each lead, for networks that see signals of unit variance; empty where they
            see millivolts.
        trained_on: Data set, folds and budget in words; shown to users.
        format_version: Of this folder's layout.
        created_by: Program and version.
        weights_sha256: Checksum of the weights file.
    """

    name: str
    network: NetworkConfig
    schedule: LinearSchedule | FlowSchedule | None
    label_set: str
    labels: tuple[str, ...]
    leads: tuple[str, ...]
    rate: float
    scales_mv: tuple[float, ...] = ()
    trained_on: str = ""
    format_version: int = FORMAT_VERSION
    created_by: str = f"ecgforge {metadata.version('ecgforge')}"
    weights_sha256: str = ""

    @property
    def vocabulary(self) -> LabelVocabulary:
        """The statements this model can be asked for."""
        return LabelVocabulary(name=self.label_set, labels=self.labels)


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its configuration."""

    config: ModelConfig
    network: nn.Module


def build_network(config: NetworkConfig) -> nn.Module:
    """A fresh network of this configuration."""
    return NETWORKS[config.kind](config)


def save_model(config: ModelConfig, weights: Mapping[str, Tensor], folder: Path) -> ModelConfig:
    """Write a model folder; a mixture of an old model and a new one never passes for whole.

    The checksum is written last: whoever reads between the two files, or after a kill there, is told that they do not
    belong together; the training that wrote them mends that with its next checkpoint.

    Returns:
        The configuration as written, with the checksum of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{WEIGHTS_FILE}.tmp"
    unfinished.write_bytes(save({key: value.detach().cpu().contiguous() for key, value in weights.items()}))
    settings = configuration.to_dict(config) | {"weights_sha256": _sha256(unfinished)}
    unfinished.replace(folder / WEIGHTS_FILE)
    configuration.write_json(settings, folder / CONFIG_FILE)
    return configuration.from_dict(ModelConfig, settings)


def halve_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Large matrices in half precision, the rest as it is: half the size, for shipping; load_model widens them again.

    S4 kernels stay whole, as their parameters pass through exponentials, and so does anything below 4,096 numbers,
    where there is nothing to save.
    """

    def halved(name: str, value: Tensor) -> Tensor:
        keep = ".kernel." in name or value.numel() < _WORTH_HALVING or value.dtype != torch.float32
        return value if keep else value.half()

    return {name: halved(name, value) for name, value in weights.items()}


def load_config(folder: Path) -> ModelConfig:
    """Read a model's configuration.

    Raises:
        CheckpointError: not a model folder, or one of a newer layout.
        ConfigError: its configuration is damaged, or has settings that this version does not know.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise CheckpointError(
            f"expected a model folder with {CONFIG_FILE} and {WEIGHTS_FILE}, found no {path}; "
            "`ecgforge train` leaves one in RUN/model, `ecgforge import-original` makes one from a published checkpoint"
        )
    settings = configuration.load_json(path)
    version = settings.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: expected model format {FORMAT_VERSION}, got {version}; update ecgforge or export the model again"
        )
    return configuration.from_dict(ModelConfig, settings, where=str(path))


def load_model(folder: Path) -> Model:
    """Read a model folder, check it and build the network in evaluation mode.

    Raises:
        CheckpointError: weights missing, damaged or of another network.
        ConfigError: as load_config.
    """
    config = load_config(folder)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise CheckpointError(f"expected the weights {path}; copy the whole model folder")
    if _sha256(path) != config.weights_sha256:
        raise CheckpointError(
            f"{path} is not the file its {CONFIG_FILE} was written for (SHA-256 differs); copy or download it "
            "again, or in the folder of a training let the training go on"
        )
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error
    with torch.random.fork_rng(devices=[]):  # initial weights are overwritten; the caller's draws stay untouched
        network = build_network(config.network)
    load_weights(network, weights, source=str(path))
    return Model(config=config, network=network.eval().requires_grad_(False))


def load_weights(network: nn.Module, weights: Mapping[str, Any], *, source: str) -> None:
    """Put weights into a network, every key and shape checked.

    Raises:
        CheckpointError: keys or shapes differ; the message names the first.
    """
    expected = network.state_dict()
    missing = [key for key in expected if key not in weights]
    surplus = [key for key in weights if key not in expected]
    shapes = [
        f"{key}: {tuple(weights[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in weights and weights[key].shape != expected[key].shape
    ]
    if missing or surplus or shapes:
        first = [*(f"{key} missing" for key in missing), *(f"{key} unknown" for key in surplus), *shapes]
        raise CheckpointError(
            f"{source} does not fit the network of its configuration: {'; '.join(first[:3])} ({len(first)} in all)"
        )
    network.load_state_dict(dict(weights))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
