"""The command line end to end, as a newcomer would: simulate, build, verify, train, generate, plot."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import wfdb
from typer.testing import CliRunner

from ecgforge.data.store import EcgStore
from ecgforge.errors import ConfigError
from ecgforge.serving.cli import app

TINY_TOML = """
stages = [{steps = 3, samples = 100}, {steps = 2, samples = 200}]
batch_size = 4
sample_minutes = 0.0

[network]
length = 200
layers = 1
residual_channels = 4
skip_channels = 4
step_features = 8
step_hidden = 8
step_out = 8
label_features = 4
state_size = 4

[data]
folds = [1, 2, 3, 4, 5, 6, 7, 8]
"""


def run(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a simulated data set, its store and a model trained on it for a moment."""
    folder = tmp_path_factory.mktemp("workshop")
    run("data", "simulate", folder / "set", "-n", 20)
    run("data", "build", "ptbxl", folder / "set", folder / "store", "--jobs", 1)
    (folder / "tiny.toml").write_text(TINY_TOML)
    run(*train_words(folder))
    return folder


def train_words(folder: Path) -> list[object]:
    words: list[object] = ["train", "sssd-ecg-small", "--data", folder / "store", "--out", folder / "run"]
    return [*words, "--config", folder / "tiny.toml", "--device", "cpu"]


def test_simulated_data_become_a_sound_store(workshop: Path) -> None:
    assert "20" in run("data", "info", workshop / "store")
    run("data", "verify", workshop / "store")
    assert EcgStore.open(workshop / "store").manifest.synthetic


def test_training_says_what_it_does_and_leaves_a_model(workshop: Path) -> None:
    said = run(*train_words(workshop))  # done already: nothing is trained again
    assert "terminal SNR" in said
    assert "done: 5 steps" in said
    assert {"checkpoint.pt", "config.json", "log.csv", "model"} <= {path.name for path in (workshop / "run").iterdir()}


def test_settings_are_shown_without_training(workshop: Path) -> None:
    out = workshop / "never"
    words = ["train", "sssd-ecg", "--data", workshop / "store", "--out", out, "--set", "batch_size=4", "--dry-run"]
    said = run(*words)
    assert '"residual_channels": 256' in said
    assert '"batch_size": 4' in said
    assert not out.exists()


def test_a_start_that_does_not_fit_is_told_without_training(workshop: Path) -> None:
    words: list[object] = ["train", "sssd-ecg-small", "--data", workshop / "store", "--config", workshop / "tiny.toml"]
    with pytest.raises(ConfigError, match="outside the run"):
        run(*words, "--out", workshop / "run", "--start-from", workshop / "run" / "model")
    with pytest.raises(ConfigError, match="differs in network and schedule"):
        run(*words, "--out", workshop / "never", "--start-from", "default", "--dry-run")
    run(*words, "--out", workshop / "never", "--start-from", workshop / "run" / "model", "--dry-run")
    assert not (workshop / "never").exists()


def test_generated_records_open_in_the_wfdb_package(workshop: Path) -> None:
    out = workshop / "made"
    words = ["generate", "-s", "NORM,SR", "-s", "LAO/LAE,IMI:0.5", "-n", 2, "--seed", 5, "--steps", 3, "--out", out]
    run(*words, "--model", workshop / "run" / "model", "--plot")
    names = sorted(path.stem for path in out.glob("*.hea"))
    assert names == [
        "seed5-00000_NORM_SR",
        "seed5-00001_NORM_SR",
        "seed5-00002_LAO-LAE_IMI",
        "seed5-00003_LAO-LAE_IMI",
    ]
    record = wfdb.rdrecord(str(out / names[2]))
    assert record.sig_name == ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
    assert (record.fs, record.p_signal.shape) == (100, (200, 12))
    comments = " ".join(record.comments)
    assert "synthetic: yes" in comments
    assert "LAO/LAE,IMI:0.5" in comments
    lead_i, lead_ii, lead_iii = record.p_signal[:, :3].T
    assert np.abs(lead_iii - (lead_ii - lead_i)).max() < 0.0016  # three roundings to 1 uV
    assert all((out / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in names)


def test_the_same_seed_gives_the_same_file(workshop: Path) -> None:
    words = ["generate", "-s", "AFIB", "-n", 3, "--seed", 1, "--steps", 2, "--model", workshop / "run" / "model"]
    run(*words, "--out", workshop / "one", "--batch-size", 1)
    run(*words, "--out", workshop / "two", "--batch-size", 3, "--processes", 2)
    for path in (workshop / "one").glob("*.dat"):
        assert path.read_bytes() == (workshop / "two" / path.name).read_bytes()


def test_other_formats_and_plot(workshop: Path) -> None:
    words = ["generate", "-s", "AFIB", "--steps", 2, "--model", workshop / "run" / "model", "--out", workshop / "csv"]
    run(*words, "--format", "csv")
    run("plot", workshop / "csv" / "seed0-00000_AFIB.csv", "--format", "svg", "--out", workshop / "pictures")
    assert "<svg" in (workshop / "pictures" / "seed0-00000_AFIB.svg").read_text()


def test_checkpoints_go_to_the_original_and_back(workshop: Path) -> None:
    run("export-original", workshop / "run" / "model", workshop / "0.pkl")
    run("import-original", workshop / "0.pkl", workshop / "imported", "--cauchy", "full")
    words = ["generate", "-s", "AFIB", "--steps", 2, "--out"]
    run(*words, workshop / "a", "--model", workshop / "imported")
    run(*words, workshop / "b", "--model", workshop / "run" / "model")
    there, here = (np.fromfile(workshop / name / "seed0-00000_AFIB.dat", "<i2") for name in "ab")
    assert np.abs(there.astype(int) - here).max() <= 1  # uV


def test_statements_can_be_searched() -> None:
    assert "CLBBB" in run("statements", "left bundle")
    assert "AFIB" not in run("statements", "left bundle")


def test_errors_are_one_message_and_exit_code_1(workshop: Path) -> None:
    """In a process of its own, where `main` turns our errors into messages."""
    words = [sys.executable, "-m", "ecgforge", "generate", "-s", "[/AFIBB]", "--out", str(workshop / "none")]
    words += ["--model", str(workshop / "run" / "model")]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "COLUMNS": "300"}, check=False)
    assert done.returncode == 1
    # Brackets are no markup.
    assert "unknown ECG statement '[/AFIBB]'; did you mean AFIB" in done.stderr
    assert "Traceback" not in done.stderr
