"""The command line for scripts: JSON, quiet, exit codes, and what an interrupt leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import TINY_NETWORK
from typer.testing import CliRunner

from ecgforge.checkpoints.native import ModelConfig, save_model
from ecgforge.diffusion.schedule import LinearSchedule
from ecgforge.formats import read_record
from ecgforge.labels import vocabulary
from ecgforge.leads import MODEL_LEADS
from ecgforge.models.sssd import SssdEcg
from ecgforge.serving.cli import app
from ecgforge.serving.notes import silence_notes


@pytest.fixture(autouse=True)
def _loud_again() -> Iterator[None]:
    yield
    silence_notes(False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    network = SssdEcg(TINY_NETWORK)
    config = ModelConfig(
        name="tiny",
        network=TINY_NETWORK,
        schedule=LinearSchedule(),
        label_set="all",
        labels=vocabulary("all").labels,
        leads=MODEL_LEADS,
        rate=100.0,
    )
    folder = tmp_path_factory.mktemp("tiny") / "model"
    save_model(config, network.state_dict(), folder)
    return folder


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_generate_prints_a_line_of_json_for_every_record(model: Path, tmp_path: Path) -> None:
    words = ["generate", "-s", "IMI:0.5,SR", "-s", "AFIB", "--seed", 4, "--steps", 2, "--model", model]
    lines = run(*words, "--out", tmp_path, "--format", "csv", "--plot", "--json").splitlines()
    first, second = map(json.loads, lines)
    assert first["statements"] == {"IMI": 0.5, "SR": 1.0} and second["statements"] == {"AFIB": 1.0}
    assert (second["seed"], second["index"], second["synthetic"]) == (4, 1, True)
    assert first["files"] == [str(tmp_path / f"seed4-00000_IMI_SR.{ending}") for ending in ("csv", "png")]
    record = read_record(Path(second["files"][0]))
    assert (record.record_id, record.provenance.source) == (second["record_id"], second["source"])


def test_quiet_says_nothing_where_there_is_nothing_to_answer(model: Path, tmp_path: Path) -> None:
    words = ["generate", "-s", "AFIB", "--steps", 2, "--model", model, "--out"]
    assert "1 synthetic records in" in run(*words, tmp_path / "loud")
    assert run("--quiet", *words, tmp_path / "quiet") == ""
    assert len(list((tmp_path / "quiet").glob("*.hea"))) == 1
    assert "AFIB" in run("-q", "statements", "fibrillation")
    assert len(run("-q", *words, tmp_path / "json", "--json").splitlines()) == 1


def test_errors_are_told_quiet_or_not(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "ecgforge", "-q", "generate", "-s", "AFIB", "--out", str(tmp_path), "--model"]
    done = subprocess.run([*words, "/no/model"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "expected a model folder, a shipped model" in done.stderr and "Traceback" not in done.stderr


def test_an_interrupt_is_exit_code_130_and_leaves_whole_records(model: Path, tmp_path: Path) -> None:
    # Where tests run in the background, an interrupt is ignored unless Python is told otherwise.
    code = "from signal import *; signal(SIGINT, default_int_handler); from ecgforge.serving.cli import main; main()"
    words = [sys.executable, "-c", code, "generate", "-s", "AFIB", "-n", "5000", "--json", "--batch-size", "1"]
    words += ["--model", str(model), "--out", str(tmp_path), "--steps", "2"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        first = json.loads(process.stdout.readline())
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert np.isfinite(read_record(Path(first["files"][0])).signal).all()
