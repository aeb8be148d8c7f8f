"""`ecgforge beats`, `interpolate` and `study` on small simulated stores and the weights of the package."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from ecgforge.config import resolve
from ecgforge.data.simulate import simulate_record
from ecgforge.data.store import EcgStore, StoreWriter
from ecgforge.errors import ConfigError, DataError, EcgforgeError
from ecgforge.record import Provenance
from ecgforge.serving import beat_commands, study_commands
from ecgforge.training.loop import train
from ecgforge.training.presets import preset

app = typer.Typer()
app.command("beats")(beat_commands.beats)
app.command("interpolate")(beat_commands.interpolate)
app.add_typer(study_commands.app, name="study")


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
    run("beats", "--real", stores[0], "--synthetic", f"other={stores[1]}", "--folds", "2", "--out", picture)
    assert set(pd.read_csv(picture.with_suffix(".csv"))["records"]) == {2}  # of four: the folds hold for all stores


def test_wrong_wishes_for_beats(stores: tuple[Path, Path], tmp_path: Path) -> None:
    picture = tmp_path / "beats.png"
    with pytest.raises(DataError, match=r"records with PACE in .*got none"):
        run("beats", "--real", stores[0], "-s", "PACE", "--out", picture)
    with pytest.raises(ConfigError, match="NAME=STORE"):
        run("beats", "--real", stores[0], "--synthetic", stores[1], "--out", picture)
    for given, message in (
        (["real=x"], "other than 'real'"),
        (["../a=x"], "without / or a dot"),
        (["a=x", "a=y"], "'a' twice"),
    ):
        options = [part for text in given for part in ("--synthetic", text)]
        with pytest.raises(ConfigError, match=message):
            run("beats", "--real", stores[0], *options, "--out", picture)
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


# ------------------------------------------------------------------------------------------------ study

CLASSIFIER = (
    "stages=[{steps = 2, samples = 250}]",
    "batch_size=4",
    "warmup_steps=0",
    "data.folds=[1]",
    "network.blocks=[1]",
    "network.strides=[1]",
    "network.stem=[4, 4, 8]",
    "network.width=8",
    "network.expansion=1",
    "network.head=8",
)
GENERATOR = (
    "stages=[{steps = 1, samples = 1000}]",
    "batch_size=4",
    "warmup_steps=0",
    "sample_minutes=0.0",
    "data.folds=[1]",
    "network.layers=1",
    "network.residual_channels=4",
    "network.skip_channels=4",
    "network.state_size=4",
)


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen simulated records: eight in fold 1, four each in folds 8 and 9; every second one with AFIB."""
    path = tmp_path_factory.mktemp("folded") / "store"
    with StoreWriter(path, rate=100, samples=1000, source="simulator", synthetic=True) as writer:
        for index in range(16):
            record = simulate_record(("NORM,SR", "AFIB")[index % 2], seed=0, index=index)
            fold = (1, 1, 8, 9)[index // 4]
            writer.add(replace(record, provenance=replace(record.provenance, fold=fold)))
    return path


@pytest.fixture(scope="module")
def model(folded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    train(resolve(preset("sssd-ecg-nle-afib"), overrides=GENERATOR), EcgStore.open(folded), run, device="cpu")
    return run / "model"


def study_words(folded: Path, out: Path) -> list[object]:
    settings = [word for setting in CLASSIFIER for word in ("--classifier-set", setting)]
    sampling = ("--sampler", "ddim", "--steps", 1, "--device", "cpu")
    return ["--real", folded, "--seeds", "0,1", *settings, *sampling, "--out", out]


def test_study_of_added_records(folded: Path, model: Path, tmp_path: Path) -> None:
    words = ["study", "augment", "-s", "AFIB", "--counts", "0,1", "--real-records", 6, "--model", model]
    words += study_words(folded, tmp_path)
    output = run(*words)
    assert "synthetic AFIB: 1/1 records\n" in output
    assert "classifier with 1 synthetic AFIB, seed 1: 2/2, loss " in output
    assert "6 real records, " in output and "synthetic AFIB added 1: AUROC " in output
    table = pd.read_csv(tmp_path / "curve.csv")
    assert table["synthetic AFIB added"].tolist() == [0, 0, 1, 1] and table["seed"].tolist() == [0, 1, 0, 1]
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "classifier" not in run(*words)  # nothing is trained again


def test_study_of_convergence(folded: Path, tmp_path: Path) -> None:
    settings = [word for setting in GENERATOR for word in ("--set", setting)]
    words = ["study", "convergence", "sssd-ecg-nle-afib", "--budgets", "4,8", *settings]
    output = run(*words, *study_words(folded, tmp_path))
    assert "generator: 2/2, loss " in output
    assert "copy after 8 viewed samples: 12/12 records\n" in output
    assert "sssd-ecg-nle-afib, train synthetic, test real, AFIB" in output
    table = pd.read_csv(tmp_path / "curve.csv")
    assert table["viewed samples"].tolist() == [4, 4, 8, 8]
    assert list(table.columns[2:]) == ["AUROC", "G-mean", "F1"]


def test_wrong_wishes_for_studies(folded: Path, tmp_path: Path) -> None:
    augment = ("study", "augment", "--real", folded, "-s", "AFIB")
    with pytest.raises(ConfigError, match="a classifier as --classifier, got sssd-ecg"):
        run(*augment, "--classifier", "sssd-ecg", "--out", tmp_path / "out")
    with pytest.raises(ConfigError, match="whole numbers such as 1,2,3, got 'many'"):
        run(*augment, "--counts", "many", "--out", tmp_path / "out")
    with pytest.raises(ConfigError, match="apart from the folds"):
        run(*augment, "--test-folds", "8", "--out", tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="folder that can be written as --out"):
        run(*augment, "--out", tmp_path / "file")
    with pytest.raises(ConfigError, match="got the classifier xresnet1d50"):
        run("study", "convergence", "xresnet1d50", "--real", folded, "--out", tmp_path / "out",
            "--classifier-set", "data.folds=[1]")  # fmt: skip
