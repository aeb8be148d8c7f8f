"""The GAN networks where no reference array is needed: limits, conditioning, phase shuffle, second derivatives."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ecgforge.errors import ConfigError
from ecgforge.models.conditional_norm import ConditionalBatchNorm
from ecgforge.models.critic import Critic, CriticConfig, phase_shuffle
from ecgforge.models.pulse2pulse import Pulse2Pulse, Pulse2PulseConfig
from ecgforge.models.wavegan import WaveGan, WaveGanConfig

LABELS = 3
SMALL_WAVEGAN = WaveGanConfig(leads=2, length=250, labels=LABELS, width=5)
SMALL_PULSE2PULSE = Pulse2PulseConfig(leads=2, length=500, labels=LABELS, width=5)
SMALL_CRITIC = CriticConfig(leads=2, length=500, labels=LABELS, width=2)

each_generator = pytest.mark.parametrize("config", [SMALL_WAVEGAN, SMALL_PULSE2PULSE], ids=["wavegan", "pulse2pulse"])


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def build(config: Any) -> nn.Module:
    return {"wavegan": WaveGan, "pulse2pulse": Pulse2Pulse}[config.kind](config)


def noise_for(config: Any, records: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    noise = 2 * torch.rand(records, config.leads, config.length) - 1
    return noise, torch.zeros(records), torch.eye(LABELS)[torch.arange(records) % LABELS]


# ------------------------------------------------------------------------------------------ generators


@each_generator
def test_output_has_the_shape_of_the_noise_and_ignores_the_level(config: Any) -> None:
    network = build(config).eval()
    noise, level, condition = noise_for(config)
    output = network(noise, level, condition)
    assert output.shape == noise.shape
    assert torch.equal(output, network(noise, level + 7, condition))


@each_generator
def test_amplitude_limits_the_output_and_keeps_small_signals(config: Any) -> None:
    published, repaired = build(config), build(replace(config, amplitude=5.0))
    repaired.load_state_dict(published.state_dict())
    inputs = noise_for(config)
    plain, wide = published(*inputs), repaired(*inputs)
    assert plain.abs().max() <= 1
    assert 1 < wide.abs().max() <= 5
    # Both limit the same signal h: amplitude atanh(output / amplitude) is h.
    inside = plain.abs() < 0.99
    torch.testing.assert_close(torch.atanh(plain)[inside], 5 * torch.atanh(wide / 5)[inside], rtol=1e-3, atol=1e-4)


@each_generator
def test_statements_change_the_output_and_no_statement_gives_silence(config: Any) -> None:
    network = build(config).eval()
    noise, level, condition = noise_for(config)
    assert (network(noise, level, condition) - network(noise, level, condition.roll(1, 0))).abs().max() > 1e-3
    assert network(noise, level, torch.zeros_like(condition)).abs().max() == 0


@each_generator
def test_records_are_independent_in_evaluation(config: Any) -> None:
    network = build(config)
    noise, level, condition = noise_for(config)
    network(noise, level, condition)  # running statistics that are not the start's
    network.eval()
    together = network(noise, level, condition)
    alone = torch.cat([network(noise[i : i + 1], level[i : i + 1], condition[i : i + 1]) for i in range(len(noise))])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_wavegan_reads_its_rows_as_channels() -> None:
    """The reinterpretation that mixes leads: noise in the first lead reaches only the first half of the channels."""
    network = WaveGan(SMALL_WAVEGAN)
    seen = {}
    network.blocks[0].register_forward_pre_hook(lambda module, args: seen.update(h=args[0]))
    noise, level, condition = noise_for(SMALL_WAVEGAN)
    network(noise, level, condition)
    first = seen["h"].clone()
    noise[:, 0] = 0
    network(noise, level, condition)
    changed = (seen["h"] != first).flatten(2).any(dim=2).any(dim=0)
    assert first.shape == (len(noise), 25, 2)
    assert changed[:12].any() and not changed[13:].any()


def test_pulse2pulse_takes_other_lengths() -> None:
    config = replace(SMALL_PULSE2PULSE, length=1500)
    assert build(config)(*noise_for(config)).shape == (4, 2, 1500)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: WaveGanConfig(length=500), "expected length = 1000 with leads = 8"),
        (lambda: WaveGanConfig(leads=12), "expected length = 1500 with leads = 12"),
        (lambda: Pulse2PulseConfig(length=750), "multiple of 500"),
        (lambda: Pulse2PulseConfig(length=0), "multiple of 500"),
        (lambda: WaveGanConfig(width=4), "width of 5 or more"),
        (lambda: Pulse2PulseConfig(labels=0), "labels of 1 or more"),
        (lambda: WaveGanConfig(amplitude=0.0), "above 0 mV"),
        (lambda: CriticConfig(width=0), "width of 1 or more"),
        (lambda: CriticConfig(length=60), "long enough"),
        (lambda: CriticConfig(shuffle=15), "long enough"),
    ],
)
def test_what_cannot_be_built_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


# -------------------------------------------------------------------------------------- conditional norm


def test_conditional_norm_is_scale_and_shift_of_the_normalised() -> None:
    norm = ConditionalBatchNorm(2, 3)
    with torch.no_grad():
        norm.weight[:] = torch.tensor([[2.0, 2, 2, 1, 1, 1], [0.5, 0.5, 0.5, -3, -3, -3]])
    x = 4 + 3 * torch.randn(6, 3, 50)
    condition = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).repeat(2, 1)
    mean = x.mean(dim=(0, 2), keepdim=True)
    normal = (x - mean) / (x.var(dim=(0, 2), keepdim=True, unbiased=False) + 1e-5).sqrt()
    scale = torch.tensor([2.0, 0.5, 2.5]).repeat(2)[:, None, None]
    shift = torch.tensor([1.0, -3.0, -2.0]).repeat(2)[:, None, None]
    torch.testing.assert_close(norm(x, condition), scale * normal + shift)


def test_conditional_norm_starts_as_published() -> None:
    weight = ConditionalBatchNorm(71, 250).weight
    scale, shift = weight.chunk(2, dim=1)
    assert scale.mean().item() == pytest.approx(1, abs=1e-3)
    assert scale.std().item() == pytest.approx(0.02, rel=0.05)
    assert torch.equal(shift, torch.zeros(71, 250))


# ------------------------------------------------------------------------------------------------ critic


def test_phase_shuffle_shifts_and_reflects() -> None:
    x = torch.arange(5.0).expand(3, 1, 5)
    moved = phase_shuffle(x, torch.tensor([2, 0, -1]))[:, 0]
    assert moved.tolist() == [[2, 1, 0, 1, 2], [0, 1, 2, 3, 4], [1, 2, 3, 4, 3]]


def test_the_random_stream_decides_the_shuffle() -> None:
    critic = Critic(SMALL_CRITIC)
    x, condition = torch.randn(4, 2, 500), torch.zeros(4, LABELS)

    def score(seed: int) -> Tensor:
        return critic(x, condition, shuffle=torch.Generator().manual_seed(seed))

    assert torch.equal(score(1), score(1))
    assert not torch.equal(score(1), score(2))
    assert not torch.equal(score(1), critic(x, condition))
    still = Critic(replace(SMALL_CRITIC, shuffle=0))
    still.load_state_dict(critic.state_dict())
    assert torch.equal(still(x, condition, shuffle=torch.Generator()), critic(x, condition))


def test_every_shift_is_drawn_equally_often() -> None:
    drawn = Critic(SMALL_CRITIC)._draw_shifts(5000, torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn + 2)
    assert len(counts) == 5
    assert (counts - 1000).abs().max() < 150  # 5 standard deviations


def test_the_published_critic_does_not_see_the_statements() -> None:
    critic = Critic(SMALL_CRITIC)
    x = torch.randn(4, 2, 500)
    assert torch.equal(critic(x, torch.zeros(4, LABELS)), critic(x, torch.ones(4, LABELS)))


def test_the_repaired_critic_starts_as_the_published_one_and_sees_the_statements() -> None:
    published, repaired = Critic(SMALL_CRITIC), Critic(replace(SMALL_CRITIC, sees_statements=True))
    missing = repaired.load_state_dict(published.state_dict(), strict=False).missing_keys
    assert missing == ["statements"]
    x, condition = torch.randn(4, 2, 500), torch.eye(LABELS)[[0, 1, 2, 0]]
    assert torch.equal(repaired(x, condition), published(x, condition))
    repaired(x, condition).sum().backward()
    gradient = repaired.statements.grad
    assert gradient is not None and (gradient.abs().sum(dim=1) > 0).all()
    with torch.no_grad():
        repaired.statements.normal_()
    graded = repaired(x, 0.5 * condition) - published(x, condition)
    whole = repaired(x, condition) - published(x, condition)
    torch.testing.assert_close(graded, 0.5 * whole)
    assert whole.abs().min() > 1e-5


@pytest.mark.parametrize("sees_statements", [False, True])
def test_second_derivatives_of_the_critic(sees_statements: bool) -> None:
    """The gradient penalty's derivative by a weight equals its difference quotient."""
    critic = Critic(replace(SMALL_CRITIC, sees_statements=sees_statements)).double()
    x = torch.randn(2, 2, 500, dtype=torch.float64, requires_grad=True)
    condition = torch.eye(LABELS, dtype=torch.float64)[:2]
    if critic.statements is not None:
        nn.init.normal_(critic.statements)

    def penalty() -> Tensor:
        score = critic(x, condition, shuffle=torch.Generator().manual_seed(3))
        (slope,) = torch.autograd.grad(score.sum(), x, create_graph=True)
        return (slope.flatten(1).norm(dim=1) - 1).square().mean()

    weight = critic.convs[2].weight
    (gradient,) = torch.autograd.grad(penalty(), weight)
    direction, step = gradient / gradient.norm(), 1e-6
    with torch.no_grad():
        weight += step * direction
    above = penalty().item()
    with torch.no_grad():
        weight -= 2 * step * direction
    below = penalty().item()
    assert (above - below) / (2 * step) == pytest.approx(gradient.norm().item(), rel=1e-4)
