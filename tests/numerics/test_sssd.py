"""The network at another length and rate, and its gradients with and without gradient checkpointing."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ecgforge.errors import ConfigError
from ecgforge.models.sssd import SssdConfig, SssdEcg

CONFIG = SssdConfig(
    length=60,
    layers=3,
    labels=5,
    residual_channels=8,
    skip_channels=8,
    step_features=8,
    step_hidden=8,
    step_out=8,
    label_features=4,
    state_size=8,
)


def network(config: SssdConfig = CONFIG) -> SssdEcg:
    torch.manual_seed(0)
    made = SssdEcg(config)
    nn.init.normal_(made.output.weight)
    return made


def inputs(length: int = CONFIG.length, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, CONFIG.leads, length, dtype=dtype, generator=generator)
    condition = torch.rand(3, CONFIG.labels, dtype=dtype, generator=generator)
    return x, torch.tensor([0.0, 60.0, 199.0], dtype=dtype), condition


# ------------------------------------------------------------------------------------ gradient checkpointing


def gradients(made: SssdEcg, *, saved: list[int]) -> dict[str, Tensor]:
    """Of a loss, and the numbers autograd kept for it outside of recomputed blocks."""
    made.zero_grad()

    def count(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = made(*inputs()).square().mean()
    loss.backward()
    # The last block's residual convolution feeds nothing.
    return {name: value.grad.clone() for name, value in made.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("kernel", ["s4", "s4d"])
def test_gradients_with_checkpointing_are_the_same_from_less_memory(kernel: Any) -> None:
    made = network(replace(CONFIG, kernel=kernel))
    plain_saved: list[int] = []
    saved: list[int] = []
    plain = gradients(made, saved=plain_saved)
    made.gradient_checkpointing = True
    checkpointed = gradients(made, saved=saved)
    assert plain.keys() == checkpointed.keys() and len(plain) > 50
    for name, value in plain.items():
        torch.testing.assert_close(checkpointed[name], value, rtol=1e-6, atol=1e-7, msg=name)
    assert sum(saved) < 0.2 * sum(plain_saved)


@torch.no_grad()
def test_checkpointing_does_not_touch_sampling() -> None:
    made = network()
    before = made(*inputs())
    made.gradient_checkpointing = True
    assert torch.equal(made(*inputs()), before)


# -------------------------------------------------------------------------------- other lengths, other rates


@pytest.mark.parametrize("kernel", ["s4", "s4d"])
@torch.no_grad()
def test_longer_network_is_the_same_on_records_of_the_old_length(kernel: Any) -> None:
    made = network(replace(CONFIG, kernel=kernel)).double()
    longer = made.resampled(150)
    given = inputs(dtype=torch.float64)
    torch.testing.assert_close(longer(*given), made(*given), rtol=1e-6, atol=1e-7)
    assert longer.config == replace(made.config, length=150)
    assert longer(*inputs(150, dtype=torch.float64)).shape == (3, CONFIG.leads, 150)
    assert torch.isfinite(longer(*inputs(150, dtype=torch.float64))).all()


@torch.no_grad()
def test_resampled_network_is_a_copy_and_can_be_loaded() -> None:
    made = network()
    weights = copy.deepcopy(made.state_dict())
    faster = made.resampled(300, rate_ratio=5)
    for name, value in made.state_dict().items():
        assert torch.equal(value, weights[name]), name
    for name, value in faster.state_dict().items():
        changed = name.endswith(("kernel.C", "kernel.log_dt"))
        assert torch.equal(value, weights[name]) != changed, name
    loaded = SssdEcg(faster.config)
    loaded.load_state_dict(faster.state_dict())
    assert torch.equal(loaded(*inputs(300)), faster(*inputs(300)))


def test_senseless_lengths_and_ratios_are_refused() -> None:
    made = network()
    with pytest.raises(ConfigError, match=r"rate_ratio above 0, got -1"):
        made.resampled(60, rate_ratio=-1)
    with pytest.raises(ConfigError, match=r"length = 0"):
        made.resampled(0)
