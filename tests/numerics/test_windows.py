"""Records longer than the network: blended windows against the denoiser of the whole record."""

import itertools
import math

import pytest
import torch
from gaussian_target import Target, law_of
from torch import Tensor

from ecgforge.diffusion.flow import FlowSchedule, level_at
from ecgforge.diffusion.samplers import unipc
from ecgforge.diffusion.schedule import NoiseLevel
from ecgforge.diffusion.windows import window_starts, window_weights, windowed
from ecgforge.errors import ConfigError

LEVEL = level_at(0.7)


@pytest.mark.parametrize("total", [64, 65, 100, 112, 113, 500])
@pytest.mark.parametrize("overlap", [0, 1, 16, 40, 63])
def test_windows_cover_the_record_and_their_weights_sum_to_one(total: int, overlap: int) -> None:
    starts = window_starts(total, length=64, overlap=overlap)
    assert starts[0] == 0 and starts[-1] == total - 64
    assert all(0 < b - a <= 64 - overlap for a, b in itertools.pairwise(starts))
    weights = window_weights(total, length=64, overlap=overlap)
    assert weights.shape == (len(starts), 64) and (weights > 0).all()
    sums = torch.zeros(total, dtype=torch.float64)
    for start, row in zip(starts, weights, strict=True):
        sums[start : start + 64] += row
    torch.testing.assert_close(sums, torch.ones(total, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_weights_are_raised_cosines_where_two_windows_meet() -> None:
    weights = window_weights(112, length=64, overlap=16)
    assert (weights[0, :48] == 1).all() and (weights[1, 16:] == 1).all()
    expected = torch.tensor([math.sin(math.pi / 2 * (i + 0.5) / 16) ** 2 for i in range(16)], dtype=torch.float64)
    torch.testing.assert_close(weights[1, :16], expected)


@pytest.mark.parametrize("total", [64, 90, 200])
def test_a_denoiser_of_single_samples_is_not_changed(total: int) -> None:
    def pointwise(x: Tensor, level: NoiseLevel) -> Tensor:
        return torch.tanh(level.alpha * x)

    x = torch.randn(2, 3, total, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    got = windowed(lambda start: pointwise, length=64, overlap=20)(x, LEVEL)
    torch.testing.assert_close(got, pointwise(x, LEVEL), rtol=1e-12, atol=1e-12)


def test_one_window_is_the_plain_denoiser() -> None:
    def mixing(x: Tensor, level: NoiseLevel) -> Tensor:
        return x.cumsum(2) * level.alpha

    x = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(windowed(lambda start: mixing, length=64, overlap=20)(x, LEVEL), mixing(x, LEVEL))


def autoregressive(samples: int) -> Target:
    """Stationary, x_t = 0.95 x_(t-1) + noise, unit variance."""
    lag = (torch.arange(samples)[:, None] - torch.arange(samples)).abs().double()
    return Target(1, samples, torch.zeros(samples, dtype=torch.float64), 0.95**lag)


def test_seams_are_as_smooth_as_the_rest() -> None:
    """Exact variance of the second difference, at samples where windows overlap and elsewhere."""
    length, overlap, total = 64, 16, 130
    denoise = windowed(lambda start: autoregressive(length).denoise, length=length, overlap=overlap)
    mean, covariance = law_of(unipc, denoise, FlowSchedule().levels(20), shape=(1, total))
    assert mean.abs().max() < 1e-12

    second_difference = torch.eye(total, dtype=torch.float64).diff(n=2, dim=0)
    roughness = (second_difference @ covariance @ second_difference.T).diag()
    overlaps = (window_weights(total, length=length, overlap=overlap) > 0).sum(0) > 1
    seam = torch.stack([overlaps[i : i + 3].any() for i in range(total - 2)])
    elsewhere = roughness[~seam].mean()
    assert seam.sum() > 30 and (~seam).sum() > 30
    assert ((roughness / elsewhere - 1).abs() < 0.01).all()
    assert ((covariance.diag().sqrt() - 1).abs() < 0.03).all()

    # The same without overlap: a tenfold jump, so that the measure sees seams.
    _, cut = law_of(
        unipc,
        windowed(lambda start: autoregressive(length).denoise, length=length, overlap=0),
        FlowSchedule().levels(20),
        shape=(1, 2 * length),
    )
    jump = second_difference[: 2 * length - 2, : 2 * length]
    assert (jump @ cut @ jump.T).diag().max() > 10 * elsewhere


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(ConfigError, match="overlap from 0 to 63"):
        windowed(lambda start: lambda x, level: x, length=64, overlap=64)
    with pytest.raises(ConfigError, match="64 samples or more, got 50"):
        windowed(lambda start: lambda x, level: x, length=64, overlap=8)(torch.zeros(1, 8, 50), LEVEL)
