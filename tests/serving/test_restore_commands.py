"""The commands that start from an ECG, through the command line."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ecgforge.checkpoints.native import ModelConfig, save_model
from ecgforge.data.simulate import simulate_record
from ecgforge.diffusion.flow import FlowSchedule
from ecgforge.errors import DataError
from ecgforge.formats import read_record, write_record
from ecgforge.labels import vocabulary
from ecgforge.leads import MODEL_LEADS
from ecgforge.models.patch_s4 import PatchS4, PatchS4Config
from ecgforge.rates import resample_record
from ecgforge.serving.cli import app


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    network = PatchS4Config(length=200, features=8, layers=1, condition_features=8, state_size=4)
    config = ModelConfig(
        name="white noise",
        network=network,
        schedule=FlowSchedule(),
        label_set="all",
        labels=vocabulary("all").labels,
        leads=MODEL_LEADS,
        rate=100.0,
        scales_mv=(0.2,) * 8,
    )
    folder = tmp_path_factory.mktemp("model")
    save_model(config, PatchS4(network).state_dict(), folder)
    return str(folder)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    record = resample_record(simulate_record("NORM,SR", seed=0, index=0, seconds=2.0), 100)
    return write_record(record, tmp_path_factory.mktemp("ecg") / "mine", format="csv")


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_complete_keeps_the_leads_it_is_given(model: str, file: Path, tmp_path: Path) -> None:
    out = run("complete", file, "--leads", "i,V2", "--model", model, "--steps", 4, "--out", tmp_path, "--plot")
    made = read_record(tmp_path / "mine-000.hea")
    assert f"wrote {tmp_path / 'mine-000.hea'}" in out
    np.testing.assert_allclose(made.in_leads(("I", "V2")), read_record(file).in_leads(("I", "V2")), atol=1e-3)
    assert made.provenance.synthetic
    assert (tmp_path / "mine-000.png").stat().st_size > 10_000


def test_inpaint_replaces_the_gap_alone(model: str, file: Path, tmp_path: Path) -> None:
    run("inpaint", file, "--gap", "0.5:1", "--model", model, "--steps", 4, "--out", tmp_path, "--format", "npz")
    given, made = read_record(file).signal, read_record(tmp_path / "mine-000.npz").signal
    np.testing.assert_allclose(made[:, :50], given[:, :50], atol=1e-3)
    np.testing.assert_allclose(made[:, 100:], given[:, 100:], atol=1e-3)
    assert np.abs(made[:, 50:100] - given[:, 50:100]).max() > 0.05
    with pytest.raises(DataError, match="gap as begin:end in seconds"):
        run("inpaint", file, "--gap", "half", "--model", model, "--out", tmp_path)


def test_vary_makes_several(model: str, file: Path, tmp_path: Path) -> None:
    run("vary", file, "--distance", 0.5, "-n", 2, "--model", model, "--steps", 6, "--out", tmp_path)
    first, second = (read_record(tmp_path / f"mine-00{number}.hea").signal for number in range(2))
    assert np.abs(first - second).max() > 0.05


def test_generate_writes_other_rates_and_longer_records(model: str, tmp_path: Path) -> None:
    run("generate", "-s", "AFIB", "--model", model, "--steps", 3, "--duration", 3, "--rate", 500, "--out", tmp_path)
    made = read_record(tmp_path / "seed0-00000_AFIB.hea")
    assert (made.rate, made.signal.shape) == (500, (12, 1500))
