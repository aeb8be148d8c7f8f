"""The length of the weights' average, chosen after training.

A run keeps models whose weights are exponential averages of one fixed length (optim.AveragedWeights). Their differences
tell the mean weights between two of them, so that sums of kept models come near averages of other shapes, those
that are as long as a given share of the training.

Source: Karras et al. 2024 (arXiv 2312.02696), section 3 and appendix C: power-function averages and their
reconstruction by least squares; here from exponential averages, over single steps instead of in closed form.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ecgforge import config as configuration
from ecgforge.checkpoints.native import ModelConfig, load_model
from ecgforge.errors import CheckpointError, ConfigError
from ecgforge.training.optim import average_decay

LONGEST = 0.28  # shares above have no power function with an exponent of 0 or more


@dataclass(frozen=True, eq=False)
class Average:
    """Weights averaged after training.

    Attributes:
        config: Description of the model.
        weights: Its network's state.
        misfit: Relative distance (L2 norm) between the average's profile over the steps and the one asked for.
    """

    config: ModelConfig
    weights: dict[str, Tensor]
    misfit: float


def average_kept(run: Path, *, length: float) -> Average:
    """The average of a run's weights as of its last kept model, as long as a share of the training up to there.

    Args:
        run: Folder of a training with `keep_every`.
        length: Standard deviation of the average's profile as a share of the steps, above 0 and up to 0.28
            (sigma_rel of the source).

    Raises:
        ConfigError: the length is out of range.
        CheckpointError: the folder is not that of a training, its models are no averages, or it kept fewer than two.
    """
    exponent = power_of_length(length)
    decay = _decay_of(run)
    kept = {int(folder.name): folder for folder in sorted((run / "kept").glob("[0-9]*"))}
    if len(kept) < 2:
        raise CheckpointError(
            f"expected two or more models in {run / 'kept'}, got {len(kept)}; train with --set keep_every=500"
        )
    steps = max(kept)
    profiles = np.stack([average_profile(step, decay, steps=steps) for step in kept])
    wanted = power_profile(exponent, steps=steps)
    shares = np.linalg.lstsq(profiles.T, wanted, rcond=None)[0]
    shares /= shares.sum()
    misfit = float(np.linalg.norm(shares @ profiles - wanted) / np.linalg.norm(wanted))
    config, weights = _sum_models(list(kept.values()), shares)
    described = replace(config, trained_on=f"{config.trained_on}, weights averaged with a length of {length:g}")
    return Average(described, weights, misfit)


def power_of_length(length: float) -> float:
    """The exponent gamma of the profile t^gamma whose standard deviation is this share of the training.

    The positive root of gamma^3 + 7 gamma^2 + (16 - length^-2) gamma + 12 - length^-2 (appendix C.1).

    Raises:
        ConfigError: the length is not above 0 and at most 0.28.
    """
    if not 0 < length <= LONGEST:
        raise ConfigError(f"expected a length above 0 and up to {LONGEST} of the training, got {length:g}")
    return float(np.roots([1, 7, 16 - length**-2, 12 - length**-2]).real.max())


def power_profile(exponent: float, *, steps: int) -> Float[np.ndarray, " T"]:
    """Weight of the parameters after each step in the average as of the last: proportional to t^exponent."""
    profile = (np.arange(1, steps + 1) / steps) ** exponent
    return profile / profile.sum()


def average_profile(step: int, decay: float, *, steps: int) -> Float[np.ndarray, " T"]:
    """Weight of the parameters after each of `steps` steps in AveragedWeights as of step `step`."""
    decays = np.array([average_decay(past, decay) for past in range(step)])
    later = np.append(np.cumprod(decays[:0:-1])[::-1], 1.0)  # what the steps after each one leave of it
    return np.pad((1 - decays) * later, (0, steps - step))


def _decay_of(run: Path) -> float:
    path = run / "config.json"
    if not path.is_file():
        raise CheckpointError(f"expected the folder of a training, got {run}, which has no {path.name}")
    decay = configuration.load_json(path).get("ema_decay")
    if not isinstance(decay, float) or not decay:
        raise CheckpointError(f"expected a run that averages its weights (ema_decay), got {decay} in {run}")
    return decay


def _sum_models(folders: list[Path], shares: Float[np.ndarray, " N"]) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Weighted sum, in float64; what is no floating-point number is the last model's."""
    last = load_model(folders[-1])
    total = {
        name: torch.zeros_like(value, dtype=torch.float64)
        for name, value in last.network.state_dict().items()
        if value.is_floating_point()
    }
    for folder, share in zip(folders, shares.tolist(), strict=True):
        state = load_model(folder).network.state_dict()
        for name, value in total.items():
            value.add_(state[name], alpha=share)
    whole = last.network.state_dict()
    return last.config, {name: total[name].to(value) if name in total else value for name, value in whole.items()}
