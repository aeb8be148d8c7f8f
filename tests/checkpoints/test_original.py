"""Published checkpoints in and out: exact weights, no code executed, clear refusals."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ecgforge.checkpoints.native import Model, ModelConfig, load_model
from ecgforge.checkpoints.original import (
    export_checkpoint,
    import_checkpoint,
    network_from_original,
    original_from_network,
    read_checkpoint,
)
from ecgforge.diffusion.schedule import LinearSchedule
from ecgforge.errors import CheckpointError, LabelError
from ecgforge.leads import MODEL_LEADS, NLE_LEADS
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


def model_of(config: SssdConfig, *, leads: tuple[str, ...] = MODEL_LEADS) -> Model:
    """A network of random weights, none of them zero for being a start value, with what it says about itself."""
    torch.manual_seed(0)
    network = SssdEcg(config)
    torch.nn.init.normal_(network.output.weight)
    torch.nn.init.normal_(network.output.bias)
    labels = tuple(f"label {i}" for i in range(config.labels))
    described = ModelConfig(
        name="tiny",
        network=config,
        schedule=LinearSchedule(),
        label_set="custom",
        labels=labels,
        leads=leads,
        rate=100.0,
    )
    return Model(config=described, network=network)


def old_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict as torch named weight norm before 2.0."""
    original = "parametrizations.weight.original"
    return {
        key.replace(f"{original}0", "weight_g").replace(f"{original}1", "weight_v"): value
        for key, value in weights.items()
    }


@pytest.mark.parametrize(
    "name",
    [
        "sssd_ecg_a",
        "sssd_ecg_b",
        "sssd_ecg_c",
        "sssd_ecg_nle_as_released_1_labels",
        "sssd_ecg_nle_as_released_5_labels",
    ],
)
def test_published_weights_come_back_as_they_were(parity: Parity, name: str) -> None:
    weights = old_names(original_weights(parity(name)))
    back = original_from_network(network_from_original(weights, cauchy="full"))
    assert set(back) == set(weights)
    for key, value in weights.items():
        assert back[key].shape == value.shape, key
        # The last node is where z would be infinite: rounding decides what float32 gives there.
        nodes = slice(0, -2) if key.endswith((".z", ".omega")) else slice(None)
        torch.testing.assert_close(back[key][nodes], value[nodes], rtol=1e-3, atol=2e-4, msg=key)


@pytest.mark.parametrize("name", ["sssd_ecg_a", "sssd_ecg_c", "sssd_ecg_nle_as_released_5_labels"])
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
    exported = model_of(replace(TINY, length=length))
    export_checkpoint(exported, tmp_path / "0.pkl")
    config = import_checkpoint(tmp_path / "0.pkl", tmp_path / "model", cauchy="full")
    model = load_model(tmp_path / "model")
    assert (config.name, config.network.length, config.label_set) == ("sssd-ecg", length, "all")
    x, level, condition = torch.randn(2, 8, length), torch.tensor([3.0, 150.0]), torch.rand(2, 71)
    with torch.no_grad():
        torch.testing.assert_close(model.network(x, level, condition), exported.network(x, level, condition))


@pytest.mark.parametrize("statements", ["nle-as-released", "nle-as-described"])
@pytest.mark.parametrize("codes", [("AFIB",), ("PVC", "AFIB", "1AVB")])
def test_nle_export_then_import_gives_the_same_outputs(tmp_path: Path, statements: str, codes: tuple[str, ...]) -> None:
    exported = model_of(replace(TINY, labels=len(codes), statements=statements), leads=NLE_LEADS)
    export_checkpoint(exported, tmp_path / "0.pkl")
    config = import_checkpoint(tmp_path / "0.pkl", tmp_path / "model", cauchy="full", statements=codes)
    model = load_model(tmp_path / "model")
    assert config.network == exported.config.network
    assert (config.name, config.label_set, config.labels) == ("sssd-ecg-nle", "custom", codes)
    assert config.leads == ("I", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    assert "SSSD-ECG-nle" in config.trained_on
    x, level, condition = torch.randn(3, 8, 50), torch.tensor([3.0, 50.0, 150.0]), torch.rand(3, len(codes))
    condition[0] = torch.nan
    with torch.no_grad():
        torch.testing.assert_close(model.network(x, level, condition), exported.network(x, level, condition))


@pytest.mark.parametrize(("statements", "leads"), [("sum", NLE_LEADS), ("nle-as-described", MODEL_LEADS)])
def test_leads_are_exported_in_the_originals_order(tmp_path: Path, statements: str, leads: tuple[str, ...]) -> None:
    exported = model_of(replace(TINY, labels=3, statements=statements), leads=leads)
    export_checkpoint(exported, tmp_path / "0.pkl")
    config = import_checkpoint(
        tmp_path / "0.pkl", tmp_path / "model", cauchy="full", statements=("AFIB", "PVC", "CRBBB")
    )
    model = load_model(tmp_path / "model")
    order = [leads.index(lead) for lead in config.leads]
    assert order != list(range(8))
    x, level, condition = torch.randn(2, 8, 50), torch.tensor([3.0, 150.0]), torch.rand(2, 3)
    with torch.no_grad():
        y = exported.network(x, level, condition)
        torch.testing.assert_close(model.network(x[:, order], level, condition), y[:, order])
    twelve = ("I", "II", *leads[2:])
    with pytest.raises(CheckpointError, match="got I II V"):
        export_checkpoint(model_of(TINY, leads=twelve), tmp_path / "1.pkl")


def test_learned_present_rows_tell_the_two_variants_of_nle_apart(parity: Parity) -> None:
    weights = original_weights(parity("sssd_ecg_nle_as_released_5_labels"))
    assert network_from_original(weights, cauchy="full").config.statements == "nle-as-released"
    moved = weights["label_embedding.3.weight"].clone()
    moved[1, 2] = 0.1
    described = network_from_original(weights | {"label_embedding.3.weight": moved}, cauchy="full")
    assert described.config.statements == "nle-as-described"
    assert float(described.statements.present[3, 2].detach()) == pytest.approx(0.1)


def test_statements_of_a_checkpoint_without_a_label_set_must_be_given(tmp_path: Path) -> None:
    nle = model_of(replace(TINY, labels=5, statements="nle-as-released"), leads=NLE_LEADS)
    export_checkpoint(nle, tmp_path / "nle.pkl")
    export_checkpoint(model_of(replace(TINY, labels=2)), tmp_path / "two.pkl")
    out = tmp_path / "model"
    for statements, got in (((), "got none"), (("AFIB",), "got AFIB")):
        with pytest.raises(CheckpointError, match=f"expected the 5 statements.*{got};.*--statements"):
            import_checkpoint(tmp_path / "nle.pkl", out, cauchy="full", statements=statements)
    with pytest.raises(CheckpointError, match=r"71 \(all\).*got 2: .*--statements"):
        import_checkpoint(tmp_path / "two.pkl", out, cauchy="full")
    with pytest.raises(LabelError, match="'AFB'"):
        import_checkpoint(tmp_path / "two.pkl", out, cauchy="full", statements=("AFB", "PVC"))
    with pytest.raises(LabelError, match="different statements, got PVC PVC"):
        import_checkpoint(tmp_path / "two.pkl", out, cauchy="full", statements=("PVC", "PVC"))
    assert not out.exists()
    assert import_checkpoint(tmp_path / "two.pkl", out, cauchy="full", statements=("pvc", "AFIB")).labels == (
        "PVC",
        "AFIB",
    )


def test_tensors_without_a_place_are_refused(parity: Parity) -> None:
    weights = original_weights(parity("sssd_ecg_nle_as_released_5_labels"))
    with pytest.raises(CheckpointError, match="got also sex_embedding.weight"):
        network_from_original(weights | {"sex_embedding.weight": torch.zeros(2, 8)}, cauchy="full")
    with pytest.raises(CheckpointError, match=r"tables of two rows each.*\(2, 8\), \(3, 8\)"):
        network_from_original(weights | {"label_embedding.3.weight": torch.ones(3, 8)}, cauchy="full")
    without_one = {key: value for key, value in weights.items() if key != "label_embedding.3.weight"}
    with pytest.raises(CheckpointError, match=r"label_embedding.3.weight, which is missing"):
        network_from_original(without_one, cauchy="full")


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
