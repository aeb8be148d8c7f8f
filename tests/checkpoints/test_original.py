"""Published checkpoints in and out: exact weights, no code executed, clear refusals."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ecgforge.checkpoints.native import load_model
from ecgforge.checkpoints.original import (
    export_checkpoint,
    import_checkpoint,
    network_from_original,
    original_from_network,
    read_checkpoint,
)
from ecgforge.errors import CheckpointError
from ecgforge.models.sssd import SssdConfig, SssdEcg

Parity = Callable[[str], dict[str, np.ndarray]]

TINY = SssdConfig(
    length=50,
    layers=2,
    residual_channels=6,
    skip_channels=5,
    step_features=8,
    step_hidden=12,
    step_out=10,
    label_features=7,
    state_size=4,
)


def original_weights(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {
        key.removeprefix("weight/"): torch.from_numpy(value)
        for key, value in arrays.items()
        if key.startswith("weight/")
    }


@pytest.mark.parametrize("name", ["sssd_ecg_a", "sssd_ecg_b", "sssd_ecg_c"])
def test_published_weights_come_back_as_they_were(parity: Parity, name: str) -> None:
    weights = original_weights(parity(name))
    back = original_from_network(network_from_original(weights, cauchy="full"))
    assert set(back) == set(weights)
    for key, value in weights.items():
        assert back[key].shape == value.shape, key
        # The last node is where z would be infinite: rounding decides what float32 gives there.
        nodes = slice(0, -2) if key.endswith((".z", ".omega")) else slice(None)
        torch.testing.assert_close(back[key][nodes], value[nodes], rtol=1e-3, atol=2e-4, msg=key)


@pytest.mark.parametrize("name", ["sssd_ecg_a", "sssd_ecg_c"])
def test_size_is_read_off_the_shapes(parity: Parity, name: str) -> None:
    arrays = parity(name)
    wanted = json.loads(arrays["config"].item())
    config = network_from_original(original_weights(arrays), cauchy="half").config
    assert config.length == wanted["s4_lmax"]
    assert config.state_size == wanted["s4_d_state"]
    assert config.layers == wanted["num_res_layers"]
    assert config.labels == wanted["label_embed_classes"]
    assert config.cauchy == "half"


@pytest.mark.parametrize("length", [50, 51])
def test_export_then_import_gives_the_same_outputs(tmp_path: Path, length: int) -> None:
    torch.manual_seed(0)
    network = SssdEcg(SssdConfig(**{**TINY.__dict__, "length": length}))
    torch.nn.init.normal_(network.output.weight)
    export_checkpoint(network, tmp_path / "0.pkl")
    config = import_checkpoint(tmp_path / "0.pkl", tmp_path / "model", cauchy="full")
    model = load_model(tmp_path / "model")
    assert (config.network.length, config.label_set) == (length, "all")
    x, level, condition = torch.randn(2, 8, length), torch.tensor([3.0, 150.0]), torch.rand(2, 71)
    with torch.no_grad():
        torch.testing.assert_close(model.network(x, level, condition), network(x, level, condition))


def test_new_weight_norm_naming_is_read_as_well(parity: Parity) -> None:
    weights = original_weights(parity("sssd_ecg_b"))
    renamed = {
        key.replace("weight_g", "parametrizations.weight.original0").replace(
            "weight_v", "parametrizations.weight.original1"
        ): value
        for key, value in weights.items()
    }
    old = network_from_original(weights, cauchy="full").state_dict()
    new = network_from_original(renamed, cauchy="full").state_dict()
    assert all(torch.equal(old[key], new[key]) for key in old)


class _Malicious:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (open, (self.path, "w"))


def test_pickled_code_is_refused_and_not_executed(tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    torch.save({"model_state_dict": _Malicious(trap)}, tmp_path / "zip.pkl")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"model_state_dict": _Malicious(trap)}))
    for name in ("zip.pkl", "plain.pkl"):
        with pytest.raises(CheckpointError, match="without executing code"):
            read_checkpoint(tmp_path / name)
    assert not trap.exists()


def test_other_files_are_refused_with_a_reason(tmp_path: Path, parity: Parity) -> None:
    with pytest.raises(CheckpointError, match="found no file"):
        read_checkpoint(tmp_path / "100000.pkl")
    torch.save({"model_state_dict": {"a": 1}}, tmp_path / "numbers.pkl")
    with pytest.raises(CheckpointError, match="model_state_dict"):
        read_checkpoint(tmp_path / "numbers.pkl")
    with pytest.raises(CheckpointError, match="SSSD-ECG-nle"):
        network_from_original(original_weights(parity("sssd_ecg_nle_as_released_5_labels")), cauchy="full")
    with pytest.raises(CheckpointError, match="missing"):
        network_from_original({"a": torch.zeros(1)}, cauchy="full")


def test_a_network_the_original_does_not_know_is_refused() -> None:
    config = SssdConfig(length=20, layers=1, residual_channels=2, skip_channels=2, state_size=4, kernel="s4d")
    with pytest.raises(CheckpointError, match="got 's4d'"):
        original_from_network(SssdEcg(config))


def test_trained_state_matrices_are_refused(parity: Parity) -> None:
    weights = original_weights(parity("sssd_ecg_b"))
    key = "residual_layer.residual_blocks.0.S41.s4_layer.kernel.kernel.w"
    changed = weights[key].clone()
    changed[0, 0, 0] -= 1.0
    with pytest.raises(CheckpointError, match="equal for all features"):
        network_from_original(weights | {key: changed}, cauchy="full")
    key = key[:-1] + "Q"
    with pytest.raises(CheckpointError, match="conjugate of P"):
        network_from_original(weights | {key: weights[key] + 1.0}, cauchy="full")
