"""Every registered sampler keeps the promises of `(denoise, x, levels, noise, progress) -> x_0`."""

import inspect
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ecgforge.diffusion import SAMPLERS, samplers
from ecgforge.diffusion.samplers import Noise
from ecgforge.diffusion.schedule import LinearSchedule, NoiseLevel

SCHEDULE = LinearSchedule()
each_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())

Sampler = Callable[..., Tensor]


def noise_of(x: Tensor, seed: int = 0) -> Noise:
    """Noise of each record from a stream of its own, whatever the batch."""
    streams = [torch.Generator().manual_seed(seed + i) for i in range(len(x))]
    return lambda: torch.stack([torch.randn(x.shape[1:], generator=g, dtype=x.dtype) for g in streams])


def shrink(x: Tensor, level: NoiseLevel) -> Tensor:
    """A denoiser that is not linear and treats records alike."""
    return torch.tanh(x * level.alpha / (level.alpha**2 + 4 * level.sigma**2))


def start(*, batch: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(batch, 8, 20, generator=torch.Generator().manual_seed(7), dtype=dtype)


def test_every_sampler_is_registered() -> None:
    public = {
        name: function
        for name, function in inspect.getmembers(samplers, inspect.isfunction)
        if not name.startswith("_") and list(inspect.signature(function).parameters)[:1] == ["denoise"]
    }
    assert set(public.values()) == set(SAMPLERS.values())


@each_sampler
def test_signature(sampler: Sampler) -> None:
    parameters = inspect.signature(sampler).parameters
    assert list(parameters)[:3] == ["denoise", "x", "levels"]
    keyword_only = [name for name, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    assert {"noise", "progress"} <= set(keyword_only)
    assert sampler.__doc__ is not None and "Source:" in sampler.__doc__


@each_sampler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_shape_and_dtype_are_kept(sampler: Sampler, dtype: torch.dtype, count: int) -> None:
    x = start(dtype=dtype)
    before = x.clone()
    x_0 = sampler(shrink, x, SCHEDULE.levels(count), noise=noise_of(x))
    assert x_0.shape == x.shape and x_0.dtype == dtype and torch.isfinite(x_0).all()
    assert torch.equal(x, before)


@each_sampler
def test_denoises_once_at_each_level_in_order(sampler: Sampler) -> None:
    visited: list[NoiseLevel] = []

    def denoise(x: Tensor, level: NoiseLevel) -> Tensor:
        visited.append(level)
        return shrink(x, level)

    levels = SCHEDULE.levels(9)
    sampler(denoise, start(), levels, noise=noise_of(start()))
    assert tuple(visited) == levels


@each_sampler
@pytest.mark.parametrize("count", [1, 6])
def test_progress_counts_to_the_total(sampler: Sampler, count: int) -> None:
    calls: list[tuple[int, int]] = []
    x = start()
    sampler(
        shrink,
        x,
        SCHEDULE.levels(count),
        noise=noise_of(x),
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(done, count) for done in range(1, count + 1)]


@each_sampler
def test_one_level_is_one_jump_to_the_estimate(sampler: Sampler) -> None:
    x, levels = start(dtype=torch.float64), SCHEDULE.levels(1)
    x_0 = sampler(shrink, x, levels, noise=noise_of(x))
    torch.testing.assert_close(x_0, shrink(x, levels[0]), rtol=1e-12, atol=1e-12)


@each_sampler
@pytest.mark.parametrize("count", [1, 5, None])
def test_a_known_signal_is_found_exactly(sampler: Sampler, count: int | None) -> None:
    """With all mass on one signal the denoiser always names it."""
    signal, x = start(dtype=torch.float64) + 1, start(dtype=torch.float64)
    x_0 = sampler(lambda x, level: signal, x, SCHEDULE.levels(count), noise=noise_of(x))
    torch.testing.assert_close(x_0, signal, rtol=1e-12, atol=1e-12)


@each_sampler
def test_a_record_does_not_see_its_companions(sampler: Sampler) -> None:
    x, levels = start(batch=4), SCHEDULE.levels(6)
    together = sampler(shrink, x, levels, noise=noise_of(x))
    for i in range(4):
        alone = sampler(shrink, x[i : i + 1], levels, noise=noise_of(x[i : i + 1], seed=i))
        torch.testing.assert_close(together[i : i + 1], alone)


@each_sampler
def test_the_same_noise_gives_the_same_sample(sampler: Sampler) -> None:
    x, levels = start(), SCHEDULE.levels(8)
    first, second = (sampler(shrink, x, levels, noise=noise_of(x)) for _ in range(2))
    assert torch.equal(first, second)
