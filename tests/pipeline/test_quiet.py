"""`ecgforge --quiet`: results and errors stay, notes and progress go."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ecgforge.serving.cli import app
from ecgforge.serving.evaluate_command import _tell
from ecgforge.serving.notes import silence_notes
from ecgforge.serving.study_commands import _Lines
from ecgforge.training.loop import Status


@pytest.fixture(autouse=True)
def _loud_again() -> Iterator[None]:
    yield
    silence_notes(False)


def run(*words: object) -> list[str]:
    """The lines of both streams."""
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated data set, one record of which is broken."""
    folder = tmp_path_factory.mktemp("quiet") / "demo"
    assert run("--quiet", "data", "simulate", folder, "-n", 5) == []
    broken = sorted(folder.rglob("*.dat"))[0]
    broken.write_bytes(broken.read_bytes()[:100])
    return folder


@pytest.fixture(scope="module")
def store(demo: Path) -> Path:
    store = demo.parent / "store"
    run("data", "build", "ptbxl", demo, store, "--jobs", 1)
    return store


def test_a_simulation_says_what_is_next_unless_quiet(tmp_path: Path) -> None:
    (line,) = run("data", "simulate", tmp_path / "set", "-n", 1)
    assert line.startswith("1 simulated records in ") and f"; next: ecgforge data build ptbxl {tmp_path}" in line


def test_a_build_says_how_many_records_were_left_out(demo: Path, tmp_path: Path) -> None:
    words = ["data", "build", "ptbxl", demo]
    result, *notes = run(*words, tmp_path / "loud", "--jobs", 1)
    assert result == f"{tmp_path / 'loud'}: 4 records (1 left out, 0 repaired, 0 noted)"
    assert [note.split(": ")[0] for note in notes] == ["first of the report", "all of it"]
    assert run("-q", *words, tmp_path / "quiet", "--jobs", 1) == [result.replace("loud", "quiet")]


@pytest.mark.parametrize(("words", "ending"), [(["plot", "--dpi", 30], "png"), (["convert", "--to", "csv"], "csv")])
def test_names_of_new_files_are_results(demo: Path, tmp_path: Path, words: list[object], ending: str) -> None:
    header = sorted(demo.rglob("*.hea"))[1]
    assert run("-q", *words, header, "--out", tmp_path) == [str(tmp_path / f"{header.stem}.{ending}")]


def test_beats_and_kits_are_told_without_what_to_do_next(store: Path, tmp_path: Path) -> None:
    drawn, written = run("-q", "beats", "--real", store, "--leads", "II", "--out", tmp_path / "beats.svg")
    assert drawn.startswith("real: ") and written == f"wrote {tmp_path / 'beats.svg'} and {tmp_path / 'beats.csv'}"
    words = ["turing", "make", "--real", store, "--synthetic", store, "--pairs", 1, "--out"]
    loud, quiet = run(*words, tmp_path / "loud"), run("-q", *words, tmp_path / "quiet")
    assert [line.split()[0] for line in loud] == ["note:", "2", "key:", "keep", "on", "then:"]
    assert [line.split()[0] for line in quiet] == ["2", "key:"]


def test_classifiers_are_trained_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    status = Status(20, 20, loss=0.5, learning_rate=1e-3, records_per_second=1.0, seconds_left=0.0)
    for quiet, lines in ((True, 0), (False, 3)):
        silence_notes(quiet)
        _tell("real", status)
        _Lines().status("classifier", status)
        _Lines().progress("copy", 1, 2)
        assert len(capsys.readouterr().out.splitlines()) == lines
