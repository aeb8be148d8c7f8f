"""`ecgforge beats` and `interpolate` on small simulated stores and the weights of the package."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from ecgforge.data.simulate import simulate_record
from ecgforge.data.store import StoreWriter
from ecgforge.errors import ConfigError, DataError, EcgforgeError
from ecgforge.record import Provenance
from ecgforge.serving import study_commands

app = typer.Typer()
app.command("beats")(study_commands.beats)
app.command("interpolate")(study_commands.interpolate)


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(result.exception, EcgforgeError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Four simulated records in each of two stores; two of the first are normal, in folds 1 and 2."""
    folder = tmp_path_factory.mktemp("stores")
    for name, seed in (("one", 0), ("two", 1)):
        with StoreWriter(folder / name, rate=100, samples=1000, source="simulator", synthetic=True) as writer:
            for index, statements in enumerate(("NORM,SR", "AFIB", "NORM,SR", "STACH")):
                record = simulate_record(statements, seed=seed, index=index)
                fold = Provenance(synthetic=True, source="simulator", seed=seed, index=index, fold=1 + index // 2)
                writer.add(replace(record, provenance=fold))
    return folder / "one", folder / "two"


def test_beats_of_two_stores(stores: tuple[Path, Path], tmp_path: Path) -> None:
    picture = tmp_path / "new" / "beats.svg"
    output = run("beats", "--real", stores[0], "--synthetic", f"other={stores[1]}", "-s", "NORM", "--leads", "II,v1",
                 "--out", picture)  # fmt: skip
    assert "real: " in output and "beats of 2 records" in output
    assert picture.read_text().startswith("<?xml")
    table = pd.read_csv(picture.with_suffix(".csv"))
    assert set(table["set"]) == {"real", "other"}
    assert set(table["records"]) == {2}
    run("beats", "--real", stores[0], "--folds", "2", "-n", "1", "--leads", "I", "--out", picture)
    assert set(pd.read_csv(picture.with_suffix(".csv"))["records"]) == {1}


def test_wrong_wishes_for_beats(stores: tuple[Path, Path], tmp_path: Path) -> None:
    picture = tmp_path / "beats.png"
    with pytest.raises(DataError, match=r"records with PACE in .*got none"):
        run("beats", "--real", stores[0], "-s", "PACE", "--out", picture)
    with pytest.raises(ConfigError, match="NAME=STORE"):
        run("beats", "--real", stores[0], "--synthetic", stores[1], "--out", picture)
    with pytest.raises(ConfigError, match="'real' twice"):
        run("beats", "--real", stores[0], "--synthetic", f"real={stores[1]}", "--out", picture)
    with pytest.raises(ConfigError, match=r"ending in \.png, \.svg, \.pdf, got 'beats\.jpg'"):
        run("beats", "--real", stores[0], "--out", tmp_path / "beats.jpg")
    with pytest.raises(DataError, match="'V9'"):
        run("beats", "--real", stores[0], "--leads", "V9", "--out", picture)
    assert not picture.exists()


def test_interpolation_with_the_default_model(tmp_path: Path) -> None:
    picture = tmp_path / "clbbb.svg"
    output = run("interpolate", "NORM,SR", "CLBBB,SR", "--lead", "V1", "-n", "1", "--sampler", "dpmpp", "--steps", "1",
                 "--out", picture)  # fmt: skip
    assert picture.is_file()
    table = pd.read_csv(picture.with_suffix(".csv"))
    assert sorted(set(table["set"])) == [0, 0.25, 0.5, 0.75, 1]
    assert f"wrote {picture} and {picture.with_suffix('.csv')}" in output.replace("\n", "")
