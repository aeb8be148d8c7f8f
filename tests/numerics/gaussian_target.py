"""A correlated Gaussian target with its exact denoiser, and the exact law of what a sampler makes of it.

With an affine denoiser every sampler is affine in its start and its noise: applied to each of them alone, it shows the
mean and covariance of its samples without any drawing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ecgforge.diffusion.denoiser import Denoiser
from ecgforge.diffusion.schedule import NoiseLevel


@dataclass(frozen=True)
class Target:
    """x_0 ~ N(mean, covariance), flattened from `leads` x `samples`."""

    leads: int
    samples: int
    mean: Tensor
    covariance: Tensor

    @property
    def size(self) -> int:
        return self.leads * self.samples

    def denoise(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """E[x_0 | x] = mean + alpha S (alpha^2 S + sigma^2)^-1 (x - alpha mean)."""
        noisy = level.alpha**2 * self.covariance + level.sigma**2 * torch.eye(self.size)
        gain = level.alpha * torch.linalg.solve(noisy, self.covariance)
        return (self.mean + (x.reshape(-1, self.size) - level.alpha * self.mean) @ gain).reshape(x.shape)

    def given(self, matrix: Tensor, y: Tensor, *, deviation: float = 0.0) -> tuple[Tensor, Tensor]:
        """Mean and covariance given matrix @ x_0 + deviation * noise = y."""
        seen = matrix @ self.covariance @ matrix.T + deviation**2 * torch.eye(len(matrix))
        gain = torch.linalg.solve(seen, matrix @ self.covariance).T
        return self.mean + gain @ (y - matrix @ self.mean), self.covariance - gain @ matrix @ self.covariance


def correlated(leads: int, samples: int) -> Target:
    """Leads made of three sources and a little of their own; neighbours in time correlated by 0.9; unit variance."""
    generator = torch.Generator().manual_seed(3)
    mixing = torch.randn(leads, 3, generator=generator, dtype=torch.float64)
    across = mixing @ mixing.T + 0.1 * torch.eye(leads, dtype=torch.float64)
    scale = across.diag().sqrt()
    lag = (torch.arange(samples)[:, None] - torch.arange(samples)).abs().double()
    covariance = torch.kron(across / scale / scale[:, None], 0.9**lag)
    mean = 0.3 * torch.randn(leads * samples, generator=generator, dtype=torch.float64)
    return Target(leads, samples, mean, covariance)


def law_of(
    sampler: Callable[..., Tensor],
    denoise: Denoiser,
    levels: Sequence[NoiseLevel],
    *,
    shape: tuple[int, int],
    stochastic: bool = False,
) -> tuple[Tensor, Tensor]:
    """Exact mean and covariance of a sampler that starts from and adds standard normal noise; all must be affine."""
    size = shape[0] * shape[1]
    rows = (
        1 + (len(levels) if stochastic else 1) * size
    )  # nothing, then each number of the start and of every draw alone
    draws = 0

    def unit() -> Tensor:
        nonlocal draws
        block = torch.zeros(rows, size, dtype=torch.float64)
        block[1 + draws * size : 1 + (draws + 1) * size] = torch.eye(size, dtype=torch.float64)
        draws += 1
        return block.reshape(rows, *shape)

    sampled = sampler(denoise, unit(), levels, noise=unit).reshape(rows, size)
    response = sampled[1:] - sampled[0]
    return sampled[0], response.T @ response
