"""Scores of readings: the paper's counts, intervals and kappa against closed forms, forms as people fill them in."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from ecgforge.errors import DataError
from ecgforge.evaluation.answers import PUBLISHED_COLUMNS, read_answers, read_published
from ecgforge.evaluation.reading_form import FORM_COLUMNS
from ecgforge.evaluation.reading_kit import Key, Trial
from ecgforge.evaluation.turing import (
    Answer,
    Reading,
    Tally,
    cohens_kappa,
    score_json,
    score_markdown,
    score_notes,
    score_readings,
    score_tables,
    tally,
)

SETS = ("NORM,SR", "AFIB", "CLBBB,SR")
KEY = Key(
    kit="kit-0123456789ab",
    seed=0,
    salt="salt",
    sheets_sha256="",
    trials=tuple(Trial(i + 1, SETS[i // 2], i % 2 == 1, str(i), "somewhere", "") for i in range(6)),
)
ALL_RIGHT = [("yes", "no"), ("yes", "yes")] * 3


def write_form(path: Path, said: list[tuple[str, str]], *, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    """A filled form of the kit of KEY: (shows the statements, is synthetic) for each trial."""
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(FORM_COLUMNS)
        for trial, (shows, synthetic) in zip(KEY.trials, said, strict=False):
            writer.writerow([KEY.kit, f"{trial.number:02d}", trial.statements, shows, synthetic, "schön; gut"])
    return path


def write_published(path: Path, rows: list[tuple[object, ...]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(PUBLISHED_COLUMNS)
        writer.writerows(rows)
    return path


def wilson(yes: int, n: int) -> tuple[float, float]:
    """The interval in closed form."""
    z = 1.959963984540054
    middle = (yes + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * np.sqrt(yes * (n - yes) / n + z**2 / 4)
    return middle - half, middle + half


def counts(found: Tally) -> tuple[int, int, int]:
    return found.yes, found.no, found.missing


@pytest.mark.parametrize(("yes", "no"), [(15, 7), (10, 12), (5, 17), (0, 22), (22, 0), (1, 0)])
def test_intervals_are_wilsons(yes: int, no: int) -> None:
    found = tally([True] * yes + [False] * no + [None] * 3)
    assert counts(found) == (yes, no, 3)
    assert found.share == yes / (yes + no)
    assert (found.low, found.high) == pytest.approx(wilson(yes, yes + no), abs=1e-12)


def test_no_answers_have_no_share() -> None:
    assert tally([None, None]) == Tally(0, 0, 2, None, None, None)


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_that_of_scikit_learn(seed: int) -> None:
    stream = np.random.default_rng(seed)
    left = stream.random(44) < 0.4
    right = np.where(stream.random(44) < 0.6, left, stream.random(44) < 0.7)
    found = cohens_kappa([(bool(a), bool(b)) for a, b in zip(left, right, strict=True)])
    assert found == pytest.approx(cohen_kappa_score(left, right), abs=1e-12)


def test_kappa_at_its_ends() -> None:
    assert cohens_kappa([(True, True), (False, False)]) == 1
    assert cohens_kappa([(True, False), (False, True)]) == -1
    assert cohens_kappa([]) is None
    assert cohens_kappa([(True, True), (True, True)]) is None  # chance alone explains it


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    """44 rows with the counts of the paper: confirmed 15 and 10 of 22, called synthetic 5 and 5 of 22."""
    rows = [
        (number, SETS[number % 3], True, synthetic, place < confirmed, place % 4 == 3)
        for synthetic, confirmed in ((True, 15), (False, 10))
        for place, number in enumerate(range(22 * synthetic, 22 * synthetic + 22))
    ]
    return write_published(tmp_path / "cardiologist.csv", rows)


def test_published_answers_score_to_the_numbers_of_the_paper(paper: Path) -> None:
    score = score_readings([read_published(paper)])
    assert (score.real, score.synthetic, score.foreign_statements) == (22, 22, 0)
    (reader,) = score.readers
    assert reader.reader == "cardiologist"
    assert counts(reader.statements_synthetic) == (15, 7, 0)
    assert counts(reader.statements_real) == (10, 12, 0)
    assert counts(reader.judged_synthetic) == (5, 17, 0)
    assert counts(reader.judged_real) == (5, 17, 0)
    assert counts(reader.told_apart) == (22, 22, 0)  # 5 synthetic ones found, 17 real ones left alone
    assert reader.p_value == 1
    assert score.pooled is None and score.agreement == ()
    statements, judged, apart = score_tables(score)
    assert statements.rows[0] == ("cardiologist", "synthetic", "15", "7", "0", "68.2%", "47.3–83.6%")
    assert statements.rows[1] == ("cardiologist", "real", "10", "12", "0", "45.5%", "26.9–65.3%")
    assert [row[5] for row in judged.rows] == ["22.7%", "22.7%"]
    assert apart.rows[0][-1] == "1"


def test_foreign_statements_are_answered_correctly_with_no(tmp_path: Path) -> None:
    rows = [(1, "AFIB", False, False, False, False), (2, "AFIB", False, True, True, False)]
    score = score_readings([read_published(write_published(tmp_path / "p.csv", rows))])
    assert score.foreign_statements == 2
    assert counts(score.readers[0].statements_real) == (1, 0, 0)
    assert counts(score.readers[0].statements_synthetic) == (0, 1, 0)
    assert "2 sheets show statements other than their ECG's own" in " ".join(score_notes(score))


def test_p_is_the_exact_binomial_one() -> None:
    answers = tuple(Answer(str(i), "SR", True, i % 2 == 0, True, (i % 2 == 0) == (i < 8)) for i in range(10))
    score = score_readings([Reading("a", answers)])
    assert counts(score.readers[0].told_apart) == (8, 2, 0)
    assert score.readers[0].p_value == pytest.approx(2 * (45 + 10 + 1) / 1024)


def test_a_filled_form_is_read(tmp_path: Path) -> None:
    reading = read_answers(write_form(tmp_path / "anna.csv", ALL_RIGHT), KEY)
    assert reading.reader == "anna"
    assert [answer.trial for answer in reading.answers] == ["01", "02", "03", "04", "05", "06"]
    assert [answer.synthetic for answer in reading.answers] == [False, True] * 3
    assert all(answer.statements_correct and answer.told_apart for answer in reading.answers)


@pytest.mark.parametrize("words", [("Y", "N"), ("ja", "Nein"), ("true", "FALSE"), ("1", "0"), (" Yes. ", "no!")])
def test_yes_and_no_in_many_words(tmp_path: Path, words: tuple[str, str]) -> None:
    yes, no = words
    reading = read_answers(write_form(tmp_path / "a.csv", [(yes, no), (no, yes)] * 3), KEY)
    assert [(answer.says_shown, answer.says_synthetic) for answer in reading.answers] == [
        (True, False),
        (False, True),
    ] * 3


@pytest.mark.parametrize("word", ["maybe", "x", "o", "-", "synthetic", "2", "yes?"])
def test_what_could_mean_either_is_refused_with_its_row(tmp_path: Path, word: str) -> None:
    path = write_form(tmp_path / "a.csv", [("yes", "no"), ("no", word)])
    with pytest.raises(DataError, match=r"a\.csv, line 3: expected yes or no in the column is_synthetic"):
        read_answers(path, KEY)


def test_missing_answers_and_rows_are_counted_and_said(tmp_path: Path) -> None:
    said = [("yes", ""), ("", "yes"), ("?", "n/a"), ("yes", "no")]  # and no rows for 05 and 06
    score = score_readings([read_answers(write_form(tmp_path / "ben.csv", said), KEY)])
    (reader,) = score.readers
    assert counts(reader.statements_real) == (1, 0, 2)
    assert counts(reader.statements_synthetic) == (1, 0, 2)
    assert counts(reader.judged_real) == (0, 0, 3)
    assert counts(reader.judged_synthetic) == (1, 1, 1)
    assert reader.judged_real.share is None
    assert "ben left 4 sheets without an answer about the statements and 4" in " ".join(score_notes(score))


@pytest.mark.parametrize(("delimiter", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-8"), (";", "cp1252")])
def test_forms_come_back_from_spreadsheets(tmp_path: Path, delimiter: str, encoding: str) -> None:
    path = write_form(tmp_path / "a.csv", ALL_RIGHT, delimiter=delimiter, encoding=encoding)
    lines = path.read_bytes().replace(f"{delimiter}0".encode(), delimiter.encode()).splitlines()  # "01" became "1"
    path.write_bytes(b"\r\n".join([lines[0], *reversed(lines[1:]), delimiter.encode() * 5, b""]))
    assert all(answer.told_apart for answer in read_answers(path, KEY).answers)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (KEY.kit, "kit-ffffffffffff", "line 2: expected answers to kit-0123456789ab, got kit-ffffffffffff"),
        ("AFIB", "PACE", "line 4: expected the statements AFIB of trial 3, got PACE"),
        (",02,", ",01,", "line 3: expected the statements|line 3: expected one row a trial, got trial 1 again"),
        (",02,", ",17,", "line 3: expected a trial from 1 to 6, got '17'"),
        (",02,", ",two,", "line 3: expected a trial from 1 to 6, got 'two'"),
        ("shows_statements", "shows", "found no shows_statements"),
    ],
)
def test_forms_of_another_kit_or_changed_ones_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write_form(tmp_path / "a.csv", ALL_RIGHT)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=message):
        read_answers(path, KEY)


def test_published_answers_need_the_truth_and_names(tmp_path: Path) -> None:
    path = write_published(tmp_path / "p.csv", [(1, "SR", True, "", True, True)])
    with pytest.raises(DataError, match=r"line 2: expected True or False in the column y_true_synthetic, got none"):
        read_published(path)
    write_published(path, [(1, "SR", True, True, True, True)] * 2)
    with pytest.raises(DataError, match="line 3: expected a name of its own for each trial, got '1'"):
        read_published(path)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_published(tmp_path / "none.csv")


@pytest.fixture
def three_readers(tmp_path: Path) -> list[Reading]:
    said = {
        "anna": ALL_RIGHT,
        "ben": [("no", "no"), ("yes", "no"), ("yes", "yes"), ("yes", "yes"), ("no", "no"), ("yes", "")],
        "eva": [("yes", "no")] * 6,
    }
    return [read_answers(write_form(tmp_path / f"{name}.csv", answers), KEY) for name, answers in said.items()]


def test_several_readers_are_pooled_and_compared(three_readers: list[Reading]) -> None:
    score = score_readings(three_readers)
    assert score.pooled is not None
    assert counts(score.pooled.statements_real) == (3 + 1 + 3, 2, 0)
    assert counts(score.pooled.judged_synthetic) == (3 + 1 + 0, 0 + 1 + 3, 1)
    assert counts(score.pooled.told_apart) == (6 + 3 + 3, 2 + 3, 1)
    assert [pair.readers for pair in score.agreement] == [("anna", "ben"), ("anna", "eva"), ("ben", "eva")]
    first, second, _ = score.agreement
    assert (first.statements_sheets, first.synthetic_sheets) == (6, 5)
    assert first.synthetic_kappa == pytest.approx(cohen_kappa_score([0, 1, 0, 1, 0], [0, 0, 1, 1, 0]))
    assert first.statements_kappa == pytest.approx(0)
    assert second.statements_kappa is None  # both always say yes


def test_readers_of_different_sheets_are_not_compared(three_readers: list[Reading]) -> None:
    shorter = Reading("dan", three_readers[0].answers[:-1])
    with pytest.raises(DataError, match="trial 06 differs between anna and dan"):
        score_readings([three_readers[0], shorter])
    with pytest.raises(DataError, match="at least one reader"):
        score_readings([])


def test_results_as_json_and_markdown(three_readers: list[Reading]) -> None:
    score = score_readings(three_readers)
    written = json.loads(score_json(score))
    assert [reader["reader"] for reader in written["readers"]] == ["anna", "ben", "eva"]
    assert written["readers"][1]["judged_synthetic"]["yes"] == 1
    assert written["agreement"][1]["statements_kappa"] is None
    text = score_markdown(score)
    assert "| anna | synthetic | 3 | 0 | 0 | 100.0% | 43.9–100.0% |" in text
    assert "| anna and eva | – (6 sheets) | 0.00 (6 sheets) |" in text
    assert "too narrow" in text
