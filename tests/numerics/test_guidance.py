"""Guidance is affine in its two denoisers, and outside its interval there is only one of them."""

import pytest
import torch
from torch import Tensor

from ecgforge.diffusion.flow import level_at
from ecgforge.diffusion.guidance import guide
from ecgforge.diffusion.schedule import NoiseLevel
from ecgforge.errors import ConfigError

X = torch.linspace(-1, 1, 6).reshape(1, 2, 3)


def told(x: Tensor, level: NoiseLevel) -> Tensor:
    return 2 * x


def untold(x: Tensor, level: NoiseLevel) -> Tensor:
    return x + 1


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_the_guided_estimate_is_the_papers(weight: float) -> None:
    guided = guide(told, untold, weight=weight)(X, level_at(1.0))
    torch.testing.assert_close(guided, (1 - weight) * (X + 1) + weight * 2 * X)


def test_outside_the_interval_only_one_call_is_made() -> None:
    calls: list[str] = []

    def first(x: Tensor, level: NoiseLevel) -> Tensor:
        calls.append("told")
        return told(x, level)

    def second(x: Tensor, level: NoiseLevel) -> Tensor:
        calls.append("untold")
        return untold(x, level)

    guided = guide(first, second, weight=3.0, interval=(0.25, 4.0))
    everywhere = guide(told, untold, weight=3.0)
    for ratio, inside in ((100.0, False), (4.5, False), (3.9, True), (1.0, True), (0.26, True), (0.2, False)):
        calls.clear()
        level = level_at(ratio)
        assert torch.equal(guided(X, level), everywhere(X, level) if inside else told(X, level))
        assert sorted(calls) == (["told", "untold"] if inside else ["told"])


@pytest.mark.parametrize("interval", [(2.0, 1.0), (1.0, 1.0), (-1.0, 1.0)])
def test_an_empty_interval_is_refused(interval: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="0 <= low < high"):
        guide(told, untold, weight=2.0, interval=interval)
