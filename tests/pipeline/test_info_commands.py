"""`ecgforge models`: what is said of a model is what its folder holds; and the manners of the command line."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ecgforge.checkpoints.locate import SHIPPED
from ecgforge.checkpoints.native import load_config
from ecgforge.errors import CheckpointError
from ecgforge.serving import info_commands
from ecgforge.serving.cli import app
from ecgforge.serving.info_commands import describe_model
from ecgforge.serving.notes import note, notes_silenced, silence_notes

alone = typer.Typer()
alone.command("models")(info_commands.models)


@pytest.fixture(autouse=True)
def _loud_again() -> Iterator[None]:
    yield
    silence_notes(False)


def run(*words: str) -> str:
    result = CliRunner().invoke(alone, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_every_shipped_model_is_described_in_json() -> None:
    lines = [json.loads(line) for line in run("--json").splitlines()]
    assert [facts["name"] for facts in lines] == list(SHIPPED)
    facts, folder = lines[0], SHIPPED["default"].folder
    config, weights = load_config(folder), (folder / "model.safetensors").read_bytes()
    assert facts["weights_sha256"] == hashlib.sha256(weights).hexdigest() == config.weights_sha256
    assert facts["weights_bytes"] == len(weights)
    assert (facts["model"], facts["network"], facts["rate_hz"]) == (config.name, config.network.kind, config.rate)
    assert facts["statements"] == len(config.labels)
    assert facts["trained_on"] == config.trained_on
    assert Path(facts["card"]).is_file() and facts["folder"] == str(folder)


def test_people_are_told_where_the_weights_are_and_that_nothing_is_fetched() -> None:
    said = run()
    assert f"folder     {SHIPPED['default'].folder}\n" in said
    assert "licence    CC BY 4.0" in said
    assert "no network is used" in said and "--model hf:owner/name" in said
    silence_notes(True)
    assert "network is used" not in run() and "CC BY 4.0" in run()


def test_damaged_weights_are_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(SHIPPED["default"].folder, folder)
    assert describe_model(folder, name="copy", licence="").name == "copy"
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CheckpointError, match="damaged; install ecgforge again"):
        describe_model(folder, name="copy", licence="")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="No such file or directory; install ecgforge again"):
        describe_model(folder, name="copy", licence="")


def test_listing_models_loads_no_torch() -> None:
    code = "from ecgforge.serving.info_commands import models; models(); import sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "SHA-256" in loaded
    assert not {"torch", "pandas", "matplotlib", "huggingface_hub"} & set(loaded.splitlines()[-1].split())


def test_notes_can_be_silenced(capsys: pytest.CaptureFixture[str]) -> None:
    note("one")
    silence_notes(True)
    note("two")
    assert notes_silenced()
    silence_notes(False)
    note("three")
    assert capsys.readouterr().out == "one\nthree\n"


def test_the_shell_completes_commands() -> None:
    asked = {"_ECGFORGE_COMPLETE": "complete_bash", "COMP_WORDS": "ecgforge gen", "COMP_CWORD": "1"}
    result = CliRunner().invoke(app, [], prog_name="ecgforge", env=asked)
    assert result.output.split() == ["generate"]
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).output


def test_a_wrong_option_is_exit_code_2() -> None:
    assert CliRunner().invoke(app, ["statements", "--nope"]).exit_code == 2
    assert CliRunner().invoke(app, ["nope"]).exit_code == 2
