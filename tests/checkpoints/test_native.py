"""The model folder: what is written is what is read, and damage is noticed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_run import TINY_NETWORK

from ecgforge import config as configuration
from ecgforge.checkpoints.native import ModelConfig, halve_weights, load_config, load_model, save_model
from ecgforge.diffusion.flow import FlowSchedule
from ecgforge.diffusion.schedule import LinearSchedule
from ecgforge.errors import CheckpointError, ConfigError
from ecgforge.labels import vocabulary
from ecgforge.leads import MODEL_LEADS
from ecgforge.models.patch_s4 import PatchS4, PatchS4Config
from ecgforge.models.sssd import SssdEcg


@pytest.fixture
def saved(tmp_path: Path) -> tuple[ModelConfig, SssdEcg, Path]:
    torch.manual_seed(1)
    config = ModelConfig(
        name="tiny",
        network=TINY_NETWORK,
        schedule=LinearSchedule(T=50),
        label_set="all",
        labels=vocabulary("all").labels,
        leads=MODEL_LEADS,
        rate=100.0,
    )
    network = SssdEcg(TINY_NETWORK)
    return save_model(config, network.state_dict(), tmp_path / "model"), network, tmp_path / "model"


def test_a_model_comes_back_bit_by_bit(saved: tuple[ModelConfig, SssdEcg, Path]) -> None:
    config, network, folder = saved
    model = load_model(folder)
    assert model.config == config
    assert model.config.vocabulary == vocabulary("all")
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in model.network.state_dict().items())
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_halved_weights_give_nearly_the_same_network(tmp_path: Path, saved: tuple[ModelConfig, SssdEcg, Path]) -> None:
    described, _, _ = saved
    network_config = PatchS4Config(length=200, features=64, layers=2, attention_every=2)
    torch.manual_seed(0)
    network = PatchS4(network_config)
    for parameter in network.parameters():  # the gates start at zero and would hide the rest
        torch.nn.init.normal_(parameter, std=0.1)
    config = replace(described, network=network_config, schedule=FlowSchedule())
    halves = halve_weights(network.state_dict())
    save_model(config, halves, tmp_path / "half")
    model = load_model(tmp_path / "half")
    assert halves["blocks.0.mix.weight"].dtype == torch.float16
    assert halves["blocks.0.time.kernel.C"].dtype == halves["blocks.0.mix.bias"].dtype == torch.float32
    assert {value.dtype for value in model.network.state_dict().values()} == {torch.float32}
    x, level, condition = torch.randn(2, 8, 200), torch.zeros(2), torch.rand(2, 74)
    with torch.no_grad():
        ours, theirs = model.network(x, level, condition), network(x, level, condition)
    assert 0 < (ours - theirs).norm() / theirs.norm() < 2e-3


def test_loading_leaves_the_callers_random_state_alone(saved: tuple[ModelConfig, SssdEcg, Path]) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    load_model(saved[2])
    assert torch.equal(torch.rand(3), expected)


def test_damage_is_noticed(saved: tuple[ModelConfig, SssdEcg, Path], tmp_path: Path) -> None:
    _, _, folder = saved
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        load_model(folder)
    weights.unlink()
    with pytest.raises(CheckpointError, match="copy the whole model folder"):
        load_model(folder)
    with pytest.raises(CheckpointError, match=r"found no .*nowhere"):
        load_model(tmp_path / "nowhere")


def test_weights_of_another_network_are_refused(saved: tuple[ModelConfig, SssdEcg, Path], tmp_path: Path) -> None:
    config, network, _ = saved
    wider = replace(config, network=replace(TINY_NETWORK, skip_channels=TINY_NETWORK.skip_channels + 1))
    save_model(wider, network.state_dict(), tmp_path / "wider")
    with pytest.raises(CheckpointError, match=r"instead of"):
        load_model(tmp_path / "wider")


def test_unknown_versions_and_keys_are_refused(saved: tuple[ModelConfig, SssdEcg, Path]) -> None:
    config, _, folder = saved
    settings = configuration.to_dict(config)
    configuration.write_json(settings | {"format_version": 99}, folder / "config.json")
    with pytest.raises(CheckpointError, match="expected model format 1, got 99"):
        load_config(folder)
    configuration.write_json(settings | {"colour": "red"}, folder / "config.json")
    with pytest.raises(ConfigError, match="colour"):
        load_config(folder)
