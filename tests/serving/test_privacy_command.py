"""`ecgforge privacy`: what it prints and writes, and what it refuses before any work."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from click.testing import Result
from tiny_run import SAMPLES, TINY_NETWORK, tiny_store
from typer.testing import CliRunner

from ecgforge.checkpoints.native import ModelConfig, save_model
from ecgforge.data.store import EcgStore, StoreWriter
from ecgforge.diffusion.schedule import LinearSchedule
from ecgforge.errors import CheckpointError, ConfigError, DataError
from ecgforge.labels import vocabulary
from ecgforge.leads import MODEL_LEADS, STANDARD_LEADS
from ecgforge.models.sssd import SssdEcg
from ecgforge.models.xresnet import XResNet1d, XResNetConfig
from ecgforge.serving.privacy_command import privacy


def run(*words: object) -> Result:
    app = typer.Typer()
    app.command()(privacy)
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """48 real records, 6 in each of the folds 1 to 8, and copies of those of folds 1 to 6."""
    folder = tmp_path_factory.mktemp("stores")
    bumps = tiny_store(folder, records=48)
    real, copies = folder / "real", folder / "copies"
    for path, synthetic in ((real, False), (copies, True)):
        with StoreWriter(path, rate=bumps.rate, samples=SAMPLES, source="bumps", synthetic=synthetic) as writer:
            for row in range(len(bumps)):
                record = bumps.record(row)
                fold = record.provenance.fold
                if not synthetic:
                    writer.add(replace(record, provenance=replace(record.provenance, synthetic=False)))
                elif fold is not None and fold <= 6:
                    writer.add(replace(record, provenance=replace(record.provenance, fold=None)))
    return real, copies


def save_tiny(folder: Path, built: torch.nn.Module, **settings: object) -> Path:
    config = ModelConfig(
        name="tiny", label_set="all", labels=vocabulary("all").labels, rate=100.0, **{"schedule": None, **settings}
    )
    save_model(config, built.state_dict(), folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = SssdEcg(TINY_NETWORK)
    return save_tiny(
        tmp_path_factory.mktemp("model"), network, network=TINY_NETWORK, schedule=LinearSchedule(), leads=MODEL_LEADS
    )


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = XResNetConfig(blocks=(1,), strides=(1,), stem=(4, 4, 8), width=8, expansion=1, head=8, dropout=0.0)
    return save_tiny(tmp_path_factory.mktemp("judge"), XResNet1d(config), network=config, leads=STANDARD_LEADS)


def test_copies_are_reported(stores: tuple[Path, Path], model: Path, classifier: Path, tmp_path: Path) -> None:
    real, copies = stores
    words = ["--real", real, "--synthetic", copies, "--out", tmp_path / "report", "--train-folds", "1-6"]
    result = run(*words, "--test-folds", "7,8", "--model", model, "--classifier", classifier)
    assert result.exit_code == 0, result.output
    assert "features: 100.00% of 36 synthetic records too near" in result.output
    assert "attack on the model: AUROC" in result.output
    assert f"report: {tmp_path / 'report' / 'report.md'}" in result.output
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert [view["view"] for view in results["views"]] == ["features", "waveforms"]
    assert results["views"][0]["synthetic"]["quantiles"] == [0] * 9
    assert results["views"][0]["synthetic"]["attack"]["auroc"]["estimate"] == 1
    assert results["views"][0]["control"]["name"] == "real records of fold 6"
    assert [attack["noise"] for attack in results["model_attacks"]][-1] == "all"
    assert results["settings"] == {"train_folds": [1, 2, 3, 4, 5, 6], "test_folds": [7, 8], "records": 2000, "seed": 0}
    assert (tmp_path / "report" / "nearest.png").read_bytes().startswith(b"\x89PNG")
    assert "## Attack on the model" in (tmp_path / "report" / "report.md").read_text()


def test_without_classifier_and_model_waveforms_are_compared(stores: tuple[Path, Path], tmp_path: Path) -> None:
    real, copies = stores
    words = ["--real", real, "--synthetic", copies, "--out", tmp_path, "--train-folds", "1,2", "--test-folds", "8"]
    result = run(*words, "--records", 5, "--seed", 3)
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "results.json").read_text())
    assert [view["view"] for view in results["views"]] == ["waveforms"]
    assert (results["training_records"], results["members"], results["held_out"]) == (12, 5, 5)
    assert results["model_attacks"] == []


def test_what_is_wrong_is_told_before_any_work(
    stores: tuple[Path, Path], model: Path, classifier: Path, tmp_path: Path
) -> None:
    real, copies = stores
    pair = ["--real", real, "--synthetic", copies, "--out", tmp_path / "out"]
    folds = ["--train-folds", "1-6", "--test-folds", "7"]
    for words, kind, said in (
        ([*pair], DataError, "got 9"),
        ([*pair, "--train-folds", "1-7", "--test-folds", "7"], ConfigError, "got 7 as both"),
        ([*pair, "--train-folds", "all"], ConfigError, "expected folds such as 1-8,9"),
        ([*pair, *folds, "--model", classifier], CheckpointError, "expected a model that generates"),
        ([*pair, *folds, "--classifier", model], CheckpointError, "expected a statement classifier"),
        ([*pair, *folds, "--model", tmp_path / "none"], CheckpointError, "which is none"),
        ([*pair, *folds, "--device", "abacus"], ConfigError, "cannot compute on the device 'abacus'"),
        (["--real", copies, "--synthetic", real, "--out", tmp_path / "out", *folds], DataError, "synthetic records"),
    ):
        error = run(*words).exception
        assert isinstance(error, kind) and said in str(error), (words, error)
    assert not list((tmp_path / "out").glob("*"))


def test_stores_of_two_rates_are_refused(stores: tuple[Path, Path], tmp_path: Path) -> None:
    real, _ = stores
    record = EcgStore.open(real).record(0)
    fast = replace(record, rate=200.0, signal=np.repeat(record.signal, 2, axis=1))
    with StoreWriter(tmp_path / "fast", rate=200, samples=2 * SAMPLES, source="bumps", synthetic=True) as writer:
        writer.add(replace(fast, provenance=replace(record.provenance, synthetic=True)))
    words = ["--real", real, "--synthetic", tmp_path / "fast", "--out", tmp_path / "out", "--train-folds", "1-6"]
    error = run(*words, "--test-folds", "7").exception
    assert isinstance(error, DataError) and "has 100 Hz and" in str(error)


def test_help_teaches() -> None:
    text = " ".join(run("--help").output.split())
    for words in ("--train-folds", "about 1 %", "AUROC 0.5", "ecgforge privacy --real"):
        assert words.lower() in text.lower()
