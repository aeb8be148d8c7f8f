"""Every registered denoising network keeps the promises of `network(x, level, condition) -> tensor`."""

import math
from dataclasses import is_dataclass, replace

import pytest
import torch
from tiny_run import TINY_NETWORK
from torch import Tensor, nn

from ecgforge import models
from ecgforge.errors import ConfigError
from ecgforge.models import DENOISERS, NETWORKS
from ecgforge.models.patch_s4 import PatchS4Config
from ecgforge.models.sssd import ResidualBlock, SssdConfig

# A small configuration of each; two blocks, so that one feeds another.
TINY = {
    "sssd": replace(TINY_NETWORK, layers=2),
    "patch-s4": PatchS4Config(
        length=64,
        labels=71,
        facts=(),
        patch=1,
        features=8,
        layers=2,
        condition_features=8,
        state_size=4,
        attention_every=2,
        head=4,
    ),
}

# What feeds nothing: the last block of SSSD-ECG passes its residual stream to no one, by the architecture's own fault;
# the rhythm model of PatchS4 is fitted by itself.
WITHOUT_GRADIENT = {"sssd": ("blocks.1.residual.",), "patch-s4": ("rhythm.",)}

each_network = pytest.mark.parametrize("kind", DENOISERS)


def fresh(kind: str, **changes: object) -> nn.Module:
    torch.manual_seed(0)
    return DENOISERS[kind](replace(TINY[kind], **changes))


def lively(kind: str, **changes: object) -> nn.Module:
    """A network in which nothing starts at zero."""
    network = fresh(kind, **changes)
    for value in network.parameters():
        if not value.any():
            nn.init.normal_(value, std=0.3)
    return network


# What else a network may be told.
FURTHER: dict[str, dict[str, Tensor]] = {"sssd": {}, "patch-s4": {"beats": torch.eye(3, 64)}}


def inputs(
    kind: str, *, batch: int = 3, samples: int | None = None, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    config = TINY[kind]
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, config.leads, samples or config.length, generator=generator, dtype=dtype)
    level = torch.arange(batch, dtype=dtype) * 60
    return x, level, torch.rand(batch, config.labels, generator=generator, dtype=dtype)


def test_every_network_is_tried_here_and_every_model_registered() -> None:
    assert TINY.keys() == DENOISERS.keys() == WITHOUT_GRADIENT.keys()
    for kind, network in NETWORKS.items():
        assert is_dataclass(network.config_class) and network.config_class().kind == kind
        assert getattr(models, network.__name__) is network


@each_network
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype_are_those_of_x(kind: str, dtype: torch.dtype) -> None:
    network = lively(kind).to(dtype)
    x, level, condition = inputs(kind, dtype=dtype)
    y = network(x, level, condition)
    assert y.shape == x.shape and y.dtype == dtype
    assert torch.isfinite(y).all() and float(y.detach().std()) > 0


@each_network
def test_double_precision_gives_nearly_the_same(kind: str) -> None:
    network = lively(kind)
    single = network(*inputs(kind))
    double = network.double()(*(value.double() for value in inputs(kind)))
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


@each_network
def test_a_record_does_not_see_its_companions(kind: str) -> None:
    network = lively(kind)
    x, level, condition = inputs(kind, batch=4)
    together = network(x, level, condition)
    for i in range(4):
        alone = network(x[i : i + 1], level[i : i + 1], condition[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)


@each_network
def test_level_and_condition_matter(kind: str) -> None:
    network = lively(kind)
    x, level, condition = inputs(kind)
    y = network(x, level, condition)
    assert not torch.allclose(network(x, level + 30, condition), y, atol=1e-3)
    assert not torch.allclose(network(x, level, condition.flip(0)), y, atol=1e-3)


@each_network
def test_output_starts_at_zero(kind: str) -> None:
    assert torch.count_nonzero(fresh(kind)(*inputs(kind))) == 0


@each_network
def test_gradients_are_finite_and_reach_every_parameter(kind: str) -> None:
    network = lively(kind)
    network(*inputs(kind), **FURTHER[kind]).square().mean().backward()
    reached = {name for name, value in network.named_parameters() if value.grad is not None}
    idle = {name for name, _ in network.named_parameters()} - reached
    assert all(name.startswith(WITHOUT_GRADIENT[kind]) for name in idle)
    assert bool(idle) == bool(WITHOUT_GRADIENT[kind])
    for name, value in network.named_parameters():
        if name in reached:
            assert value.grad is not None and torch.isfinite(value.grad).all(), name
            assert float(value.grad.abs().max()) > 0, name


@each_network
def test_a_zero_start_still_learns(kind: str) -> None:
    """With the last layer at zero only its own gradient is not zero; it must be."""
    network = fresh(kind)
    x, level, condition = inputs(kind)
    (network(x, level, condition) - x).square().mean().backward()
    assert network.output.weight.grad is not None and float(network.output.weight.grad.abs().max()) > 0


@each_network
def test_weights_survive_saving_and_loading(kind: str) -> None:
    network = lively(kind)
    expected = network(*inputs(kind))
    torch.manual_seed(77)
    other = DENOISERS[kind](TINY[kind])
    other(*inputs(kind))  # anything computed from the weights and kept must be forgotten on loading
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(*inputs(kind)), expected)


@each_network
@pytest.mark.parametrize("samples", [1, 2, 33, 63])
def test_shorter_records_work(kind: str, samples: int) -> None:
    y = lively(kind)(*inputs(kind, samples=samples))
    assert y.shape[-1] == samples and torch.isfinite(y).all()


@each_network
def test_longer_records_are_refused(kind: str) -> None:
    longer = TINY[kind].length + 1
    with pytest.raises(ConfigError, match=f"at most {longer - 1} samples.*got {longer}"):
        fresh(kind)(*inputs(kind, samples=longer))


@each_network
def test_graded_statements_interpolate_without_a_jump(kind: str) -> None:
    network = lively(kind).double()
    x, level, condition = inputs(kind, dtype=torch.float64)
    y = network(x, level, condition)
    shift = math.sqrt(float((network(x, level, condition + 1e-6) - y).detach().square().mean()))
    assert 0 < shift < 1e-3


def test_sssd_with_diagonal_kernels_takes_any_length() -> None:
    network = lively("sssd", kernel="s4d")
    assert network(*inputs("sssd", samples=100)).shape[-1] == 100


def test_sssd_of_the_paper_has_50_million_parameters() -> None:
    block = ResidualBlock(SssdConfig(length=2))  # the kernel's length changes no shape
    in_block = sum(parameter.numel() for parameter in block.parameters())
    # Everything else: input, step and statement embeddings, skip sum and output.
    rest = (8 * 256 + 256 + 256) + (128 * 512 + 512) + (512 * 512 + 512) + 71 * 128
    rest += (256 * 256 + 256 + 256) + (256 * 8 + 8)
    assert 36 * in_block + rest == pytest.approx(50.2e6, rel=2e-3)
