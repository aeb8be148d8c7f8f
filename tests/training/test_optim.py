"""Learning rates written out; averaged weights against the weighted sum they stand for."""

import math

import pytest
import torch
from tiny_run import tiny_config
from torch import nn

from ecgforge.training.optim import AveragedWeights, learning_rate_at
from ecgforge.training.settings import Stage


def test_constant_learning_rate_from_the_first_step() -> None:
    config = tiny_config(learning_rate=3e-4)
    assert [learning_rate_at(step, config) for step in range(4)] == [3e-4] * 4


def test_warmup_is_linear_and_never_zero() -> None:
    config = tiny_config(learning_rate=1.0, warmup_steps=4, stages=(Stage(steps=8, samples=64),))
    rates = [learning_rate_at(step, config) for step in range(8)]
    assert rates == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]


def test_decay_is_linear_over_the_last_share_of_all_stages() -> None:
    stages = (Stage(steps=6, samples=32), Stage(steps=4, samples=64))
    config = tiny_config(learning_rate=2.0, decay_from=0.6, stages=stages)
    rates = [learning_rate_at(step, config) for step in range(10)]
    assert rates == pytest.approx([2.0] * 7 + [1.5, 1.0, 0.5])


def test_warmup_and_decay_multiply() -> None:
    stages = (Stage(steps=10, samples=64),)
    config = tiny_config(learning_rate=1.0, warmup_steps=5, decay_from=0.0, stages=stages)
    assert learning_rate_at(2, config) == pytest.approx(3 / 5 * 8 / 10)


def _averaged(decay: float, values: list[float]) -> tuple[nn.Module, AveragedWeights]:
    network = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(network.weight, values[0])
    average = AveragedWeights(network, decay)
    for step, value in enumerate(values[1:]):
        nn.init.constant_(network.weight, value)
        average.update(step)
    return network, average


@pytest.mark.parametrize("decay", [0.15, 0.5, 0.999])
def test_average_is_the_weighted_sum(decay: float) -> None:
    values = [7.0, 1.0, -2.0, 4.0, 0.5, 3.0]
    decays = [min(decay, (1 + step) / (10 + step)) for step in range(len(values) - 1)]
    # Value v came in at step v - 1 with weight 1 - decay and was shrunk by every decay after.
    weights = [math.prod(decays), *(1 - d for d in decays)]
    weights[1:] = [w * math.prod(decays[i + 1 :]) for i, w in enumerate(weights[1:])]
    assert sum(weights) == pytest.approx(1)
    _, average = _averaged(decay, values)
    expected = sum(w * v for w, v in zip(weights, values, strict=True))
    assert float(average.average["weight"]) == pytest.approx(expected, rel=1e-12)


def test_initial_weights_are_soon_forgotten() -> None:
    _, average = _averaged(0.999, [1000.0, *[1.0] * 30])
    assert float(average.average["weight"]) == pytest.approx(1, abs=0.01)


def test_no_averaging_keeps_the_live_weights() -> None:
    network, average = _averaged(0.0, [7.0, 0.1, 1 / 3])
    assert torch.equal(average.average["weight"], network.weight)


def test_weights_of_a_network_are_averaged_parameters_and_its_buffers() -> None:
    network = nn.BatchNorm1d(2)
    average = AveragedWeights(network, 0.9)
    network.running_mean.fill_(5.0)
    nn.init.constant_(network.weight, 3.0)
    state = average.weights_of(network)
    assert state.keys() == network.state_dict().keys()
    assert torch.equal(state["weight"], torch.ones(2)) and torch.equal(state["running_mean"], torch.full((2,), 5.0))


def test_a_saved_average_continues() -> None:
    network, average = _averaged(0.9, [7.0, 1.0, 2.0])
    other = AveragedWeights(network, 0.9)
    other.load({name: value.clone() for name, value in average.average.items()})
    for copy in (average, other):
        copy.update(2)
    assert torch.equal(average.average["weight"], other.average["weight"])
