"""Noise schedules: which noise levels there are and how many of them a sampler visits.

A noisy record is x = alpha x_0 + sigma eps. A schedule makes levels; samplers see nothing else of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float

from ecgforge.errors import ConfigError

Spacing = Literal["log-snr", "time"]


@dataclass(frozen=True)
class NoiseLevel:
    """One noise level.

    Attributes:
        step: What the network is told: the diffusion step t; of the flow a quarter of log(noise over signal).
        alpha: Factor of the clean signal.
        sigma: Standard deviation of the noise (mV for signals in mV).
    """

    step: float
    alpha: float
    sigma: float

    @property
    def half_log_snr(self) -> float:
        """lambda = log(alpha / sigma), infinite where there is no noise."""
        return math.log(self.alpha / self.sigma) if self.sigma > 0 else math.inf


CLEAN = NoiseLevel(step=-1.0, alpha=1.0, sigma=0.0)


@dataclass(frozen=True)
class LinearSchedule:
    """beta_t linear from beta_0 to beta_T over T steps, alpha_bar_t = prod (1 - beta_s).

    Source: Ho et al. 2020 (arXiv 2006.11239); the defaults are SSSD-ECG's (arXiv 2301.08227, Table II).

    Raises:
        ConfigError: T below 2 or betas not in 0 < beta_0 <= beta_T < 1.
    """

    kind: Literal["linear"] = "linear"
    T: int = 200
    beta_0: float = 1e-4
    beta_T: float = 0.02

    def __post_init__(self) -> None:
        if self.T < 2 or not 0 < self.beta_0 <= self.beta_T < 1:
            raise ConfigError(
                "expected T >= 2 and 0 < beta_0 <= beta_T < 1, "
                f"got T = {self.T}, beta_0 = {self.beta_0}, beta_T = {self.beta_T}"
            )

    @cached_property
    def alpha_bar(self) -> Float[np.ndarray, " T"]:
        """(T,) float64: the share of signal variance left after step t."""
        return np.cumprod(1 - np.linspace(self.beta_0, self.beta_T, self.T))

    def level(self, step: int) -> NoiseLevel:
        """The noise level of step t, 0 to T - 1."""
        alpha_bar = float(self.alpha_bar[step])
        return NoiseLevel(step=float(step), alpha=math.sqrt(alpha_bar), sigma=math.sqrt(1 - alpha_bar))

    def levels(self, count: int | None = None, *, spacing: Spacing = "log-snr") -> tuple[NoiseLevel, ...]:
        """Levels from T - 1 down to 0 for a sampler; the clean signal comes after the last.

        Args:
            count: Network calls; None visits all T steps.
            spacing: "log-snr" places the steps uniformly in log(alpha / sigma), which few-step solvers like best;
                "time" uniformly in t. Steps are whole numbers, because the network saw only those in training.

        Raises:
            ConfigError: count is not from 1 to T.
        """
        if count is None:
            return tuple(self.level(step) for step in reversed(range(self.T)))
        if not 1 <= count <= self.T:
            raise ConfigError(f"expected 1 to {self.T} sampling steps for this model, got {count}")
        return tuple(self.level(step) for step in self._steps(count, spacing))

    def _steps(self, count: int, spacing: Spacing) -> Sequence[int]:
        if spacing == "time" or count == self.T:
            ideal = np.linspace(self.T - 1, 0, count)
        else:
            half_log_snr = 0.5 * np.log(self.alpha_bar / (1 - self.alpha_bar))
            targets = np.linspace(half_log_snr[-1], half_log_snr[0], count)
            ideal = np.interp(targets, half_log_snr[::-1], np.arange(self.T)[::-1])
        return _distinct(np.round(ideal).astype(int), largest=self.T - 1)

    def terminal_snr(self, signal_rms: float) -> float:
        """Signal-to-noise power ratio left at the last step for signals of this root mean square (mV).

        Sampling starts from pure noise; it is faithful only where this is far below 1.
        """
        alpha_bar = float(self.alpha_bar[-1])
        return alpha_bar * signal_rms**2 / (1 - alpha_bar)


def _distinct(steps: Float[np.ndarray, " n"] | np.ndarray, *, largest: int) -> list[int]:
    """The same number of steps, strictly falling: where rounding made two equal, neighbours move up or down."""
    rising = [int(step) for step in steps[::-1]]
    for i in range(1, len(rising)):
        rising[i] = max(rising[i], rising[i - 1] + 1)
    rising[-1] = min(rising[-1], largest)
    for i in reversed(range(len(rising) - 1)):
        rising[i] = min(rising[i], rising[i + 1] - 1)
    return rising[::-1]
