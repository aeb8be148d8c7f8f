"""`ecgforge copy` on small simulated stores: the twin, its layout, and how a command that failed is finished."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from tiny_run import TINY_NETWORK, tiny_config, tiny_store
from typer.testing import CliRunner

from ecgforge.data.ptbxl import build_ptbxl
from ecgforge.data.store import EcgStore, StoreWriter
from ecgforge.errors import ConfigError, DataError, EcgforgeError
from ecgforge.serving.copy_command import copy
from ecgforge.training.loop import train
from ecgforge.training.settings import Stage

app = typer.Typer()
app.command()(copy)

SAMPLES = 1000  # a store built from PTB-XL's layout has records of 10 s


def run(*words: object) -> str:
    """What the command says."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(result.exception, EcgforgeError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output.replace("\n", "")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The command without --out: sixteen real records and a model that was hardly trained."""
    folder = tmp_path_factory.mktemp("copy")
    store = tiny_store(folder, records=16, samples=SAMPLES)
    config = tiny_config(network=replace(TINY_NETWORK, length=SAMPLES), stages=(Stage(steps=1, samples=SAMPLES),))
    train(config, store, folder / "run", device="cpu")
    return ["--data", store.path, "--model", folder / "run" / "model", "--steps", 1, "--processes", 1]


def test_the_twin_and_its_layout(words: list[object], tmp_path: Path) -> None:
    said = run(*words, "--out", tmp_path / "twin", "--folds", "1-3", "--layout", tmp_path / "layout")
    assert "6 synthetic records in" in said and "the same in PTB-XL's layout" in said
    made = EcgStore.open(tmp_path / "twin")
    build_ptbxl(tmp_path / "layout", tmp_path / "rebuilt", rate=100, jobs=1)
    np.testing.assert_array_equal(EcgStore.open(tmp_path / "rebuilt").signals, made.signals)


def test_of_a_finished_twin_only_the_layout_is_written(words: list[object], tmp_path: Path) -> None:
    run(*words, "--out", tmp_path / "twin")
    made = (tmp_path / "twin" / "manifest.json").stat()
    said = run(*words, "--out", tmp_path / "twin", "--layout", tmp_path / "layout")
    assert "is this twin already" in said and "the same in PTB-XL's layout" in said
    assert (tmp_path / "twin" / "manifest.json").stat() == made
    assert len((tmp_path / "layout" / "ptbxl_database.csv").read_text().splitlines()) == 17
    with pytest.raises(DataError, match="other seed"):
        run(*words, "--out", tmp_path / "twin", "--layout", tmp_path / "other", "--seed", 1)
    assert not (tmp_path / "other").exists()


def test_a_layout_that_cannot_be_written_is_refused_before_sampling(words: list[object], tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "precious").write_text("data")
    with pytest.raises(DataError, match="used: expected a new or an empty folder"):
        run(*words, "--out", tmp_path / "twin", "--layout", tmp_path / "used")
    with pytest.raises(DataError, match="precious is no folder that can be written"):
        run(*words, "--out", tmp_path / "twin", "--layout", tmp_path / "used" / "precious" / "layout")
    for layout in ("twin", "twin/layout", "."):
        with pytest.raises(ConfigError, match="--layout outside --out"):
            run(*words, "--out", tmp_path / "new" / "twin", "--layout", tmp_path / "new" / layout)
    assert [path.name for path in tmp_path.iterdir()] == ["used"]


def test_a_layout_at_another_rate_than_ptb_xls_is_refused_before_sampling(words: list[object], tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store", rate=250, samples=SAMPLES, source="bumps", synthetic=True) as writer:
        writer.add(replace(EcgStore.open(str(words[1])).record(0), rate=250.0))
    with pytest.raises(ConfigError, match="100 and 500 Hz, each once, got .250."):
        run("--data", tmp_path / "store", "--out", tmp_path / "twin", "--layout", tmp_path / "layout")
