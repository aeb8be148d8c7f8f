"""Presets as shipped: they parse, say what they are, and the paper's has the paper's size."""

from dataclasses import replace

import pytest

from ecgforge.config import from_dict, to_dict
from ecgforge.errors import ConfigError
from ecgforge.models.sssd import SssdConfig, SssdEcg
from ecgforge.training.presets import PRESETS, preset
from ecgforge.training.settings import Stage


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_the_way_through_a_file(name: str) -> None:
    assert preset(name).name == name
    assert from_dict(type(preset(name)), to_dict(preset(name))) == preset(name)


def parameters(config: SssdConfig) -> int:
    return sum(value.numel() for value in SssdEcg(config).parameters())


def test_the_papers_preset_has_the_papers_parameters() -> None:
    """50,202,504 trainable parameters; every layer alike, so two depths tell all of them. Length does not count."""
    paper = replace(preset("sssd-ecg").network, length=16)
    one, two = parameters(replace(paper, layers=1)), parameters(replace(paper, layers=2))
    assert two - one == 1_383_168
    assert one + (paper.layers - 1) * (two - one) == 50_202_504


def test_the_papers_preset_has_the_papers_budget() -> None:
    config = preset("sssd-ecg")
    assert (config.schedule.T, config.schedule.beta_0, config.schedule.beta_T) == (200, 1e-4, 0.02)
    assert (config.learning_rate, config.total_steps, config.ema_decay) == (2e-4, 100_000, 0.0)
    assert config.data.folds == (1, 2, 3, 4, 5, 6, 7, 8)


def test_windows_follow_the_stages() -> None:
    config = replace(preset("sssd-ecg-small"), stages=(Stage(steps=2, samples=100), Stage(steps=3, samples=1000)))
    assert config.total_steps == 5
    assert [config.samples_at(step) for step in range(5)] == [100, 100, 1000, 1000, 1000]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": ()}, "one or more stages"),
        ({"stages": (Stage(steps=1, samples=1001),)}, "windows of 2 to 1000"),
        ({"learning_rate": 0.0}, "learning_rate > 0"),
        ({"decay_from": 1.5}, "decay_from"),
        ({"network": SssdConfig(leads=12)}, "network.leads = 8"),
    ],
)
def test_numbers_out_of_range_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(preset("sssd-ecg"), **changes)


def test_unknown_presets_are_refused() -> None:
    with pytest.raises(ConfigError, match="sssd-ecg, sssd-ecg-small"):
        preset("sssd")
