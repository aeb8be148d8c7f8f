"""Averages chosen after training: profiles in closed form, and real runs added up step by step."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import tiny_config, tiny_gan
from torch import Tensor, nn

from ecgforge.checkpoints.native import load_model
from ecgforge.data.store import EcgStore
from ecgforge.errors import CheckpointError, ConfigError
from ecgforge.training.averaging import (
    average_kept,
    average_profile,
    power_of_length,
    power_profile,
)
from ecgforge.training.loop import Run, make_fabric, train
from ecgforge.training.optim import AveragedWeights
from ecgforge.training.settings import Stage, TrainingConfig

STEPS, EVERY = 60, 5


@pytest.mark.parametrize("length", [0.01, 0.05, 0.1, 0.2, 0.28])
def test_length_is_the_standard_deviation_of_the_profile(length: float) -> None:
    steps = 200_000
    profile, share = power_profile(power_of_length(length), steps=steps), np.arange(1, steps + 1) / steps
    assert profile.sum() == pytest.approx(1)
    mean = profile @ share
    assert np.sqrt(profile @ (share - mean) ** 2) == pytest.approx(length, rel=1e-3)


@pytest.mark.parametrize(("length", "exponent"), [(0.05, 16.97), (0.10, 6.94)])
def test_exponents_of_the_paper(length: float, exponent: float) -> None:
    assert power_of_length(length) == pytest.approx(exponent, abs=0.005)


@pytest.mark.parametrize("length", [0.0, -0.1, 0.29, float("nan")])
def test_other_lengths_are_refused(length: float) -> None:
    with pytest.raises(ConfigError, match=r"length above 0 and up to 0\.28"):
        power_of_length(length)


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.9995])
def test_profile_is_what_averaged_weights_do(decay: float) -> None:
    """A parameter that is 1 after one step alone has as its average that step's weight."""
    network = nn.Linear(STEPS, 1, bias=False)
    nn.init.zeros_(network.weight)
    average = AveragedWeights(network, decay)
    for step in range(40):
        with torch.no_grad():
            network.weight.copy_(nn.functional.one_hot(torch.tensor([step]), STEPS))
        average.update(step)
    expected = average_profile(40, decay, steps=STEPS)
    np.testing.assert_allclose(average.average["weight"][0].numpy(), expected, atol=1e-6)
    assert expected[40:].max() == 0


def config_that_keeps(**changes: object) -> TrainingConfig:
    return tiny_config(stages=(Stage(steps=STEPS, samples=64),), keep_every=EVERY, ema_decay=0.8, **changes)


def weights_after_every_step(config: TrainingConfig, store: EcgStore, folder: Path) -> list[dict[str, Tensor]]:
    run = Run(config, store, folder, make_fabric(device="cpu", devices=1, precision="32-true"))
    history = []
    for _ in range(config.total_steps):
        run.take_step()
        history.append({name: value.detach().clone() for name, value in run.learner.named_parameters()})
    return history


@pytest.fixture(scope="module")
def trained(store: EcgStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("averaging") / "run"
    train(config_that_keeps(), store, folder, device="cpu")
    return folder


def test_kept_models_are_those_of_every_so_many_steps(trained: Path) -> None:
    assert sorted(int(path.name) for path in (trained / "kept").iterdir()) == list(range(EVERY, STEPS + 1, EVERY))


@pytest.mark.parametrize("length", [0.1, 0.2])
def test_average_is_that_of_the_weights_after_every_step(
    trained: Path, store: EcgStore, tmp_path: Path, length: float
) -> None:
    """Up to the misfit that it tells: nearer to the wanted average by far than the last weights are."""
    history = weights_after_every_step(config_that_keeps(), store, tmp_path)
    profile = power_profile(power_of_length(length), steps=STEPS)
    found = average_kept(trained, length=length)
    missed = spread = 0.0
    for name, last in history[-1].items():
        wanted = sum(weights[name].double() * share for weights, share in zip(history, profile, strict=True))
        missed += float((found.weights[name].double() - wanted).square().sum())
        spread += float((last.double() - wanted).square().sum())
    assert found.misfit < 0.3
    assert missed**0.5 < 0.05 * spread**0.5


def test_average_of_equal_models_is_the_model(store: EcgStore, tmp_path: Path) -> None:
    """The first steps of a warm-up this slow change no weight that float32 can tell."""
    train(config_that_keeps(learning_rate=1e-30), store, tmp_path, device="cpu")
    found, model = average_kept(tmp_path, length=0.15), load_model(tmp_path / "model")
    for name, value in model.network.state_dict().items():
        assert found.weights[name].dtype == value.dtype
        torch.testing.assert_close(found.weights[name], value, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_averaged_is_refused(store: EcgStore, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"folder of a training, got .*nowhere"):
        average_kept(tmp_path / "nowhere", length=0.1)
    train(tiny_gan(), store, tmp_path / "gan", device="cpu")
    with pytest.raises(CheckpointError, match="averages its weights"):
        average_kept(tmp_path / "gan", length=0.1)
    train(tiny_config(), store, tmp_path / "run", device="cpu")
    with pytest.raises(CheckpointError, match="two or more models .* keep_every"):
        average_kept(tmp_path / "run", length=0.1)
