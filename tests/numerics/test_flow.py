"""The trigonometric flow: levels, the exact prior, and what a perfect network would give."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from ecgforge.diffusion import SAMPLERS
from ecgforge.diffusion.flow import FlowSchedule, flow_denoiser, flow_loss, level_at
from ecgforge.diffusion.schedule import NoiseLevel
from ecgforge.errors import ConfigError

NOTHING = torch.zeros(1, 1)


def test_levels_keep_the_variance_and_meet_the_ends() -> None:
    levels = FlowSchedule(smallest=0.02, largest=80.0).levels(20)
    ratios = [level.sigma / level.alpha for level in levels]
    assert ratios[0] == pytest.approx(80.0) and ratios[-1] == pytest.approx(0.02)
    assert all(a > b for a, b in itertools.pairwise(ratios))
    for level in levels:
        assert level.alpha**2 + level.sigma**2 == pytest.approx(1)
        assert level.step == pytest.approx(math.log(level.sigma / level.alpha) / 4)


def exact_velocity(deviation: float) -> object:
    """Velocity of signals from N(0, deviation^2): E[v | x] is linear in x."""

    def network(x: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        t = torch.atan((4 * level).exp())[:, None, None]
        variance = (deviation * t.cos()) ** 2 + t.sin() ** 2
        return (1 - deviation**2) * t.cos() * t.sin() / variance * x

    return network


@pytest.mark.parametrize("deviation", [0.2, 1.0, 2.0])
@pytest.mark.parametrize("sampler", ["ddim", "dpmpp"])
def test_samplers_give_the_gaussian_its_spread(sampler: str, deviation: float) -> None:
    """The flow of a Gaussian scales; sampled from the true prior its factor is the deviation."""
    levels = FlowSchedule(largest=1000.0, smallest=1e-4).levels(400)
    x = torch.randn(4, 2, 50, generator=torch.Generator().manual_seed(0)).double()
    denoise = flow_denoiser(exact_velocity(deviation), NOTHING)  # type: ignore[arg-type]
    sampled = SAMPLERS[sampler](denoise, x, levels, noise=lambda: x)
    factor = sampled / x
    assert float(factor.std()) < 1e-6
    assert float(factor.mean()) == pytest.approx(deviation, rel=0.02)


def test_the_exact_network_has_the_least_loss() -> None:
    """E|v - E[v|x]|^2 = deviation^2 / (deviation^2 cos^2 + sin^2): closed form for a Gaussian."""
    deviation, ratio = 0.5, 0.7
    generator = torch.Generator().manual_seed(1)
    x_0 = deviation * torch.randn(200, 8, 250, generator=generator)
    eps = torch.randn(200, 8, 250, generator=generator)
    ratios = torch.full((200,), ratio)
    loss = flow_loss(exact_velocity(deviation), x_0, torch.zeros(200, 1), ratio=ratios, eps=eps).mean()  # type: ignore[arg-type]
    t = math.atan(ratio)
    expected = deviation**2 / ((deviation * math.cos(t)) ** 2 + math.sin(t) ** 2)
    assert float(loss) == pytest.approx(expected, rel=0.01)


def test_denoiser_inverts_what_the_loss_asks_for() -> None:
    level = level_at(0.3)
    x_0, eps = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    x = level.alpha * x_0 + level.sigma * eps
    velocity = level.alpha * eps - level.sigma * x_0
    found = flow_denoiser(lambda *_: velocity, NOTHING)(x, level)
    torch.testing.assert_close(found, x_0, rtol=1e-5, atol=1e-6)


def test_levels_of_training_have_the_stated_distribution() -> None:
    import numpy as np

    schedule = FlowSchedule(mean=-0.5, deviation=1.2)
    stream = np.random.default_rng(0)
    logs = np.log([schedule.draw_ratio(stream) for _ in range(4000)])
    assert logs.mean() == pytest.approx(-0.5, abs=0.08) and logs.std() == pytest.approx(1.2, abs=0.06)


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="smallest < largest"):
        FlowSchedule(smallest=1.0, largest=0.5)
    with pytest.raises(ConfigError, match="1 to 1000 sampling steps"):
        FlowSchedule().levels(0)


def test_a_single_step_is_the_denoisers_guess() -> None:
    (level,) = FlowSchedule().levels(1)
    assert isinstance(level, NoiseLevel) and level.sigma / level.alpha == pytest.approx(100.0)
