"""The denoiser inverts the forward process, and the loss weighs noise levels as it says."""

import pytest
import torch
from torch import Tensor

from ecgforge.diffusion.denoiser import eps_denoiser, eps_loss
from ecgforge.diffusion.schedule import LinearSchedule

SCHEDULE = LinearSchedule()
CONDITION = torch.zeros(3, 71)


@pytest.mark.parametrize("t", [0, 57, 199])
def test_a_network_that_knows_the_noise_gives_back_the_signal(t: int) -> None:
    torch.manual_seed(t)
    x_0, eps = torch.randn(2, 3, 8, 20, dtype=torch.float64)
    level = SCHEDULE.level(t)
    denoise = eps_denoiser(lambda x, step, condition: eps, CONDITION)
    torch.testing.assert_close(denoise(level.alpha * x_0 + level.sigma * eps, level), x_0)


def test_the_network_sees_the_step_and_the_condition() -> None:
    seen: list[Tensor] = []

    def network(x: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        seen.extend([step, condition])
        return torch.zeros_like(x)

    eps_denoiser(network, CONDITION)(torch.zeros(3, 8, 20), SCHEDULE.level(42))
    assert torch.equal(seen[0], torch.full((3,), 42.0))
    assert seen[1] is CONDITION


def test_loss_of_a_network_that_predicts_nothing() -> None:
    """Each record's loss is the mean square of its own noise; "balanced" multiplies by sigma / alpha of its step."""
    torch.manual_seed(0)
    x_0, eps = torch.randn(2, 3, 8, 20)
    step = torch.tensor([0.0, 100.0, 199.0])
    expected = eps.square().mean(dim=(1, 2))

    def losses(weight: str) -> Tensor:
        return eps_loss(lambda x, *_: torch.zeros_like(x), SCHEDULE, x_0, CONDITION, step=step, eps=eps, weight=weight)

    torch.testing.assert_close(losses("noise"), expected)
    levels = [SCHEDULE.level(int(t)) for t in step]
    ratio = torch.tensor([level.sigma / level.alpha for level in levels])
    assert ratio.tolist() == pytest.approx([0.0100005, 0.823, 2.562], rel=2e-3)
    torch.testing.assert_close(losses("balanced"), expected * ratio)


def test_the_noisy_signal_is_the_forward_process() -> None:
    """A network that returns its input shows what it was given: alpha x_0 + sigma eps."""
    x_0, eps = torch.ones(1, 8, 20), torch.full((1, 8, 20), 2.0)
    step = torch.tensor([150.0])
    level = SCHEDULE.level(150)
    loss = eps_loss(lambda x, *_: x, SCHEDULE, x_0, CONDITION[:1], step=step, eps=eps)
    assert float(loss) == pytest.approx((level.alpha + 2 * level.sigma - 2) ** 2, rel=1e-5)
