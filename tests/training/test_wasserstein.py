"""WGAN-GP: what an update does, in closed form where there is one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_run import tiny_gan, tiny_store
from torch import nn

from ecgforge.checkpoints.native import load_model
from ecgforge.data.store import EcgStore
from ecgforge.errors import ConfigError
from ecgforge.generate import Generator
from ecgforge.models.critic import CriticConfig
from ecgforge.models.wavegan import WaveGanConfig
from ecgforge.sampling import SamplingOptions
from ecgforge.training.loop import make_fabric, train
from ecgforge.training.settings import DataConfig, Stage
from ecgforge.training.wasserstein import WassersteinLearner, batch_at


def learner_on(store: EcgStore, **changes: object) -> WassersteinLearner:
    torch.manual_seed(0)
    return WassersteinLearner(tiny_gan(**changes), store, make_fabric(device="cpu", devices=1, precision="32-true"))


class LinearCritic(nn.Module):
    """<w, x> with |w| = norm: its slope is w everywhere."""

    def __init__(self, norm: float) -> None:
        super().__init__()
        weight = torch.randn(2 * 250, generator=torch.Generator().manual_seed(1))
        self.weight = nn.Parameter(norm * weight / weight.norm())

    def forward(
        self, x: torch.Tensor, condition: torch.Tensor, *, shuffle: torch.Generator | None = None
    ) -> torch.Tensor:
        return x.flatten(1) @ self.weight


@pytest.mark.parametrize(("norm", "penalty"), [(1.0, 0.0), (3.0, 4.0), (0.5, 0.25)])
def test_penalty_of_a_linear_critic_is_its_slope_less_one_squared(store: EcgStore, norm: float, penalty: float) -> None:
    learner = learner_on(store)
    learner._judge = LinearCritic(norm)  # type: ignore[assignment]  # a critic whose slope is known
    batch = batch_at(learner.data, learner.config, 0)
    found = learner._penalty(batch, torch.zeros_like(batch.real), torch.Generator())
    torch.testing.assert_close(found, torch.full((4,), penalty), rtol=1e-4, atol=1e-5)


def test_a_batch_follows_from_its_number_alone(store: EcgStore) -> None:
    learner = learner_on(store)
    batch, again = batch_at(learner.data, learner.config, 3), batch_at(learner.data, learner.config, 3)
    other = batch_at(learner.data, learner.config, 4)
    for name in ("real", "noise", "mix", "second_noise"):
        assert torch.equal(getattr(batch, name), getattr(again, name))
        assert not torch.equal(getattr(batch, name), getattr(other, name))
    assert not torch.equal(batch.noise, batch.second_noise)
    assert batch.noise.abs().max() <= 1 and batch.noise.std() == pytest.approx(1 / 3**0.5, abs=0.02)


def test_critic_sees_critic_steps_batches_a_step(store: EcgStore) -> None:
    learner = learner_on(store)
    for step in range(3):
        learner.take_step(step)
    counts = {
        name: int(next(iter(optimizer.state_dict()["state"].values()))["step"])
        for name, optimizer in (("critic", learner.critic_optimizer), ("generator", learner.generator_optimizer))
    }
    assert counts == {"critic": 6, "generator": 3}


def test_updates_leave_the_other_network_alone(store: EcgStore) -> None:
    learner = learner_on(store)
    batch = batch_at(learner.data, learner.config, 0)
    critic = {name: value.clone() for name, value in learner.critic.named_parameters()}
    generator = {name: value.clone() for name, value in learner.generator.named_parameters()}
    learner._update_critic(batch, torch.Generator(), step=0)
    assert all(torch.equal(value, generator[name]) for name, value in learner.generator.named_parameters())
    assert any(not torch.equal(value, critic[name]) for name, value in learner.critic.named_parameters())
    critic = {name: value.clone() for name, value in learner.critic.named_parameters()}
    learner._update_generator(batch, torch.Generator(), step=0)
    assert all(torch.equal(value, critic[name]) for name, value in learner.critic.named_parameters())
    assert any(not torch.equal(value, generator[name]) for name, value in learner.generator.named_parameters())


def test_two_steps_are_one_and_one_resumed(store: EcgStore) -> None:
    whole, first = learner_on(store), learner_on(store)
    losses = [whole.take_step(0), whole.take_step(1)]
    parts = [first.take_step(0)]
    second = learner_on(store, seed=0)
    second.load_state(first.state())
    parts.append(second.take_step(1))
    assert parts == losses
    for (name, value), (_, expected) in zip(second.named_parameters(), whole.named_parameters(), strict=True):
        assert torch.equal(value, expected), name


def test_a_critic_that_sees_statements_learns_from_them(store: EcgStore) -> None:
    learner = learner_on(store, critic=replace(tiny_gan().critic, sees_statements=True))
    learner.take_step(0)
    assert learner.critic.statements is not None and learner.critic.statements.abs().max() > 0


def test_the_critic_learns_to_tell_apart(store: EcgStore) -> None:
    learner = learner_on(store, learning_rate=2e-3, critic_steps=20)
    first, last = learner.take_step(0), learner.take_step(1)
    assert last > first + 0.01  # its estimate of the distance grows while the generator hardly moves


def test_a_trained_gan_generates_through_the_same_generator(tmp_path: Path) -> None:
    config = tiny_gan(
        network=WaveGanConfig(width=25),
        critic=CriticConfig(width=1),
        data=DataConfig(),
        stages=(Stage(steps=1, samples=1000),),
        critic_steps=1,
    )
    train(config, tiny_store(tmp_path, records=8, samples=1000), tmp_path, device="cpu")
    assert load_model(tmp_path / "model").config.schedule is None
    generator = Generator.load(tmp_path / "model")
    alone = generator.sample("AFIB", n=3, seed=5)
    together = generator.sample("AFIB", n=3, seed=5, options=SamplingOptions(batch_size=2))
    for one, other in zip(alone, together, strict=True):
        assert (one.signal == other.signal).all() and one.signal.shape == (12, 1000)
    assert (alone[0].signal != alone[1].signal).any()
    with pytest.raises(ConfigError, match="one call"):
        generator.sample("AFIB", options=SamplingOptions(steps=20))
    with pytest.raises(ConfigError, match="statement tables"):
        generator.sample("AFIB", options=SamplingOptions(guidance=2.0))


def test_windows_and_critic_must_fit(store: EcgStore) -> None:
    with pytest.raises(ConfigError, match="windows of 250 samples"):
        tiny_gan(stages=(Stage(steps=1, samples=200),))
    with pytest.raises(ConfigError, match="critic"):
        tiny_gan(critic=CriticConfig())


def test_a_generator_begins_with_the_weights_it_starts_from(store: EcgStore, tmp_path: Path) -> None:
    train(tiny_gan(), store, tmp_path / "first")
    first = load_model(tmp_path / "first" / "model")
    run = train(tiny_gan(seed=1, learning_rate=1e-30), store, tmp_path / "second", start=first)
    assert isinstance(run.learner, WassersteinLearner)
    then, now = dict(first.network.named_parameters()), dict(run.learner.generator.named_parameters())
    assert [name for name in then if not torch.equal(then[name], now[name])] == []
