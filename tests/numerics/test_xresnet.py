"""XResNet1d: size, shapes, what features and logits are, how it starts, and the layers against plain Conv1d."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ecgforge.errors import ConfigError
from ecgforge.models.xresnet import BottleneckBlock, NormedConv, XResNet1d, XResNetConfig

SMALL = XResNetConfig(leads=2, labels=5, blocks=(2, 1), strides=(1, 2), stem=(4, 4, 8), width=4, expansion=2, head=6)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def parameters(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters())


def test_published_size() -> None:
    """0.96 M, counted by hand: stem, 16 bottlenecks with one pointwise shortcut, head; convolutions have no bias."""
    stem = 5 * (12 * 32 + 32 * 32 + 32 * 64) + 2 * (32 + 32 + 64)
    inside = 5 * 64 * 64 + 64 * 256 + 2 * (64 + 64 + 256)
    blocks = 16 * inside + 64 * 64 + 15 * 256 * 64 + (64 * 256 + 2 * 256)
    head = 2 * 512 + (512 * 128 + 128) + 2 * 128 + (128 * 71 + 71)
    assert parameters(XResNet1d(XResNetConfig())) == stem + blocks + head == 962_503
    assert parameters(XResNet1d(XResNetConfig(strides=(1, 2, 2, 2)))) == 962_503


def test_samples_left_by_the_stages() -> None:
    """A crop of 250: the stem leaves a quarter, then each stage divides by its stride, rounding up."""
    for strides, expected in [((1, 1, 1, 1), [63, 63, 63, 63]), ((1, 2, 2, 2), [63, 32, 16, 8])]:
        config = replace(SMALL, blocks=(1, 1, 1, 1), strides=strides)
        network, h = XResNet1d(config).eval(), torch.randn(1, 2, 1, 250)
        h, lengths = network.stem(h), []
        for block in network.stages:
            h = block(h)
            lengths.append(h.shape[-1])
        assert lengths == expected


@pytest.mark.parametrize("samples", [1, 2, 7, 63, 250, 1000])
def test_any_length(samples: int) -> None:
    network = XResNet1d(SMALL).eval()
    x = torch.randn(3, 2, samples)
    assert network(x).shape == (3, 5)
    assert network.features(x).shape == (3, 6)


def test_logits_are_linear_in_the_features_in_evaluation() -> None:
    network = XResNet1d(SMALL).eval()
    x = torch.randn(3, 2, 100)
    expected = network.features(x) @ network.output.weight.T + network.output.bias
    torch.testing.assert_close(network(x), expected)


def test_dropout_acts_in_training_only() -> None:
    network, x = XResNet1d(replace(SMALL, dropout=0.9)), torch.randn(8, 2, 100)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))
    still = XResNet1d(replace(SMALL, dropout=0.0)).train()
    assert torch.equal(still(x), still(x))


def test_records_are_independent_in_evaluation() -> None:
    network, x = XResNet1d(SMALL), torch.randn(5, 2, 100)
    network(x)  # running statistics that are not the start's
    network.eval()
    alone = torch.cat([network(record[None]) for record in x])
    torch.testing.assert_close(network(x), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("samples, stride", [(12, 1), (12, 2), (13, 2), (13, 3)])
@pytest.mark.parametrize("channels_in", [8, 6])
def test_a_block_starts_as_its_shortcut(samples: int, stride: int, channels_in: int) -> None:
    block = BottleneckBlock(channels_in, 4, 8, kernel=5, stride=stride)
    x = torch.randn(3, channels_in, 1, samples)
    y = block(x)
    assert y.shape == (3, 8, 1, -(-samples // stride))
    pooled = torch.stack([part.mean(dim=-1) for part in x.split(stride, dim=-1)], dim=-1)
    if channels_in == 8:
        torch.testing.assert_close(y, torch.relu(pooled))
    else:
        mixed = torch.einsum("oi,bixl->boxl", block.shortcut[1].conv.weight[:, :, 0, 0], pooled)
        mean, var = mixed.mean(dim=(0, 3), keepdim=True), mixed.var(dim=(0, 3), keepdim=True, unbiased=False)
        torch.testing.assert_close(y, torch.relu((mixed - mean) / (var + 1e-5).sqrt()), rtol=1e-4, atol=1e-5)


def test_the_zero_scale_learns() -> None:
    """At the start only the last norms of the paths have a gradient inside a block; after a step all have."""
    network = XResNet1d(SMALL)
    x, truth = torch.randn(8, 2, 100), torch.rand(8, 5).round()

    def gradients() -> tuple[Tensor, Tensor]:
        network.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(network(x), truth).backward()
        block = network.stages[0]
        return block.last.norm.weight.grad.abs().max(), block.first.conv.weight.grad.abs().max()

    last, first = gradients()
    assert last > 0 and first == 0
    with torch.no_grad():
        for value in network.parameters():
            value -= 0.1 * value.grad
    last, first = gradients()
    assert last > 0 and first > 0


@pytest.mark.parametrize("kernel, stride, samples", [(1, 1, 20), (5, 1, 20), (5, 2, 21), (3, 2, 20)])
def test_the_image_form_equals_conv1d(kernel: int, stride: int, samples: int) -> None:
    ours = NormedConv(6, 4, kernel=kernel, stride=stride)
    conv = nn.Conv1d(6, 4, kernel, stride=stride, padding=kernel // 2, bias=False)
    conv.weight.data = ours.conv.weight.data[:, :, 0]
    x = torch.randn(3, 6, samples)
    plain = nn.BatchNorm1d(4)(conv(x))
    image = x[:, :, None].contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours(image)[:, :, 0], plain, rtol=1e-4, atol=1e-5)


def test_convolutions_start_kaiming_normal() -> None:
    network = XResNet1d(XResNetConfig())
    conv = network.stages[5].middle.conv
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 5)) ** 0.5, rel=0.03)
    assert network.output.bias.abs().max() == 0


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"labels": 0}, "1 or more"),
        ({"blocks": (), "strides": ()}, "one or more stages"),
        ({"strides": (1, 2)}, "as many strides as stages"),
        ({"kernel": 4}, "odd kernel"),
        ({"dropout": 1.0}, "dropout < 1"),
    ],
)
def test_what_cannot_be_built_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(XResNetConfig(), **changes)
