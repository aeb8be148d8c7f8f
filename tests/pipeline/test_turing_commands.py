"""`ecgforge turing`: a kit from two stores or a model, read, filled in and scored."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ecgforge.checkpoints.native import ModelConfig, save_model
from ecgforge.data.simulate import simulate_record
from ecgforge.data.store import StoreWriter
from ecgforge.diffusion.schedule import LinearSchedule
from ecgforge.errors import ConfigError, DataError
from ecgforge.evaluation.answers import PUBLISHED_COLUMNS
from ecgforge.evaluation.reading_kit import Key
from ecgforge.leads import MODEL_LEADS
from ecgforge.models.sssd import SssdConfig, SssdEcg
from ecgforge.serving.turing_commands import app


def run(*words: object) -> str:
    """Output of `ecgforge turing ...`; errors of ours come through, as the main command prints them."""
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small stores: one stands for the measured records, the other has all but one of its statement sets."""
    folder = tmp_path_factory.mktemp("desk")
    for name, sets in (("real", ("NORM,SR", "AFIB", "NORM,SR", "AFIB", "PACE")), ("made", ("NORM,SR", "AFIB"))):
        with StoreWriter(folder / name, rate=100, samples=200, source=name, synthetic=True) as writer:
            for index, text in enumerate(sets):
                entry = simulate_record(text, seed=len(sets), index=index, seconds=2)
                writer.add(replace(entry, provenance=replace(entry.provenance, fold=1 + index // 2)), label_quality=2)
    return folder


@pytest.fixture(scope="module")
def kit(desk: Path) -> Path:
    out = run("make", "--real", desk / "real", "--synthetic", desk / "made", "--out", desk / "kit", "--pairs", 2)
    assert "4 sheets, 2 pairs" in out and "was not measured" in out
    return desk / "kit"


def fill_in(kit: Path, answers: Path, said: dict[bool, tuple[str, str]]) -> Path:
    """A copy of the form, filled in by someone who knows the key."""
    truth = {trial.number: trial.synthetic for trial in Key.read(kit.with_name("kit-key.json")).trials}
    with (kit / "answers.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    with answers.open("w", newline="") as file:
        csv.writer(file).writerows([header, *((*row[:3], *said[truth[int(row[1])]], "") for row in rows)])
    return answers


def test_a_kit_is_made_read_and_scored(kit: Path, tmp_path: Path) -> None:
    key = kit.with_name("kit-key.json")
    anna = fill_in(kit, tmp_path / "anna.csv", {True: ("no", "yes"), False: ("yes", "no")})
    ben = fill_in(kit, tmp_path / "ben.csv", {True: ("Y", "0"), False: ("ja", "")})
    results, report = tmp_path / "results.json", tmp_path / "results.md"
    output = run("score", key, anna, ben, "--kit", kit, "--out", results, "--out", report)
    assert "carries the commitment of this key" in output
    assert "2 real and 2 synthetic ECGs" in output and "all readers" in output
    readers = json.loads(results.read_text())["readers"]
    assert [reader["told_apart"]["yes"] for reader in readers] == [4, 0]
    assert [reader["statements_synthetic"]["yes"] for reader in readers] == [0, 2]
    assert readers[1]["judged_real"]["missing"] == 2
    assert "ben left 0 sheets without an answer about the statements and 2" in report.read_text()


def test_readers_with_files_of_one_name_are_kept_apart(kit: Path, tmp_path: Path) -> None:
    forms = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        forms.append(fill_in(kit, tmp_path / folder / "answers.csv", {True: ("no", "yes"), False: ("yes", "no")}))
    results = tmp_path / "results.json"
    run("score", kit.with_name("kit-key.json"), *forms, "--out", results)
    assert [reader["reader"] for reader in json.loads(results.read_text())["readers"]] == list(map(str, forms))


def test_published_answers_need_no_key(tmp_path: Path) -> None:
    rows = [
        (trial, "SR", True, trial > 22, trial % 22 < (15 if trial > 22 else 10), trial % 22 < 5)
        for trial in range(1, 45)
    ]
    path = tmp_path / "published.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([PUBLISHED_COLUMNS, *rows])
    output = run("score", path)
    for line in ("synthetic 15 7 0 68.2%", "real 10 12 0 45.5%", "synthetic 5 17 0 22.7%", "real 5 17 0 22.7%"):
        assert line in " ".join(output.split())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny network that knows three statements, with random weights."""
    config = ModelConfig(
        name="tiny",
        network=SssdConfig(
            labels=3,
            length=200,
            layers=1,
            residual_channels=4,
            skip_channels=4,
            step_features=8,
            step_hidden=8,
            step_out=8,
            label_features=4,
            state_size=4,
        ),
        schedule=LinearSchedule(T=4),
        label_set="custom",
        labels=("AFIB", "NORM", "SR"),
        leads=MODEL_LEADS,
        rate=100.0,
    )
    save_model(config, SssdEcg(config.network).state_dict(), tmp_path / "model")
    return tmp_path / "model"


def test_make_with_a_model(desk: Path, model: Path, tmp_path: Path) -> None:
    words = ["--model", model, "--seed", 8, "-s", "SR,NORM"]
    run("make", "--real", desk / "real", "--out", tmp_path / "kit", *words)
    first, second = sorted(Key.read(tmp_path / "kit-key.json").trials, key=lambda trial: trial.synthetic)
    assert first.record_id in ("0", "2") and second.record_id == "synthetic-8-00000"
    assert (first.source, second.source[:19]) == ("real", "ecgforge model tiny")
    with pytest.raises(DataError, match=r"expected 1 to 2 pairs, .* got 3"):  # it does not know PACE
        run("make", "--real", desk / "real", "--out", tmp_path / "other", "--model", model, "--pairs", 3)


def test_real_and_synthetic_records_have_one_length(model: Path, tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "longer", rate=100, samples=300, source="longer", synthetic=True) as writer:
        writer.add(simulate_record("AFIB", seed=0, index=0, seconds=3))
    with pytest.raises(DataError, match=r"300 samples at 100 Hz in .*longer and 200 at 100 Hz from .*model"):
        run("make", "--real", tmp_path / "longer", "--model", model, "--out", tmp_path / "kit")


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ([], ConfigError, "either --synthetic STORE or --model DIR"),
        (["--synthetic", "made"], DataError, "expected 1 to 2 pairs, .* got 22"),
        (["--synthetic", "made", "--folds", 1, "--pairs", 3], DataError, "expected 1 to 2 pairs"),
        (["--synthetic", "made", "-s", "PACE"], DataError, "statement sets of .*made, which has none of exactly PACE"),
        (["--synthetic", "made", "-s", "AFIB", "--folds", 3], DataError, r"real \(folds 3, exact statements\)"),
    ],
)
def test_make_says_what_is_missing(
    desk: Path, monkeypatch: pytest.MonkeyPatch, words: list[object], error: type[Exception], message: str
) -> None:
    monkeypatch.chdir(desk)
    with pytest.raises(error, match=message):
        run("make", "--real", "real", "--out", "none", *words)
    assert not (desk / "none").exists()


def test_measured_records_do_not_pass_for_synthetic(desk: Path, tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "measured", rate=100, samples=200, source="hospital") as writer:
        entry = simulate_record("AFIB", seed=0, index=0, seconds=2)
        writer.add(replace(entry, provenance=replace(entry.provenance, synthetic=False)))
    with pytest.raises(DataError, match="which was measured"):
        run("make", "--real", desk / "real", "--synthetic", tmp_path / "measured", "--out", tmp_path / "kit")


def test_score_says_what_is_missing(kit: Path, tmp_path: Path) -> None:
    key = kit.with_name("kit-key.json")
    with pytest.raises(ConfigError, match="expected answers after the key"):
        run("score", key)
    with pytest.raises(ConfigError, match="expected a key to check --kit with"):
        run("score", kit / "answers.csv", "--kit", kit)
    with pytest.raises(DataError, match="found no trials"):
        run("score", kit / "answers.csv")
    with pytest.raises(ConfigError, match=r"\.json or \.md, got results\.txt"):
        run("score", key, kit / "answers.csv", "--out", "results.txt")
