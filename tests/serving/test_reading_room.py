"""The reading room, asked as a client would: what is saved, what is kept apart, and what is never told."""

import csv
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from ecgforge.errors import ConfigError, DataError
from ecgforge.evaluation.answers import read_answers
from ecgforge.evaluation.reading_form import FORM_COLUMNS
from ecgforge.evaluation.reading_kit import Key, Kit
from ecgforge.evaluation.turing import score_notes, score_readings, score_tables
from ecgforge.generate import Generator
from ecgforge.serving.rest import make_app
from ecgforge.serving.service.reading import MOST_READERS, ReadingRoom

HERE = "http://127.0.0.1"
SHEETS = range(1, 5)

Opened = Callable[..., TestClient]


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    return tmp_path / "answers"


@pytest.fixture
def opened(generator: Generator, kit: Kit, answers: Path) -> Opened:
    """Opens the room; a second time it is the same service after a restart."""

    def open_room(*, key: bool = False) -> TestClient:
        room = ReadingRoom(kit.folder, answers=answers, key_file=kit.key_file if key else None)
        return TestClient(make_app(generator, room=room), base_url=HERE)

    return open_room


def say(client: TestClient, reader: str, number: int, shows: str, synthetic: str, comment: str = "") -> int:
    words = {"shows_statements": shows, "is_synthetic": synthetic, "comment": comment}
    return client.put(f"/kit/readers/{reader}/answers/{number}", json=words).status_code


def said(path: Path) -> list[list[str]]:
    """What a file of answers has in the reader's columns."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == FORM_COLUMNS
    return [row[3:] for row in rows]


def problem(answer: object) -> str:
    content = answer.json()  # type: ignore[attr-defined]
    return f"{content['error']}; {content['remedy']}"


def test_without_a_kit_it_is_said_how_to_open_one(generator: Generator) -> None:
    client = TestClient(make_app(generator), base_url=HERE)
    for path in ("/kit", "/kit/sheets/1/picture", "/kit/readers/anna"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "ecgforge serve --kit KIT" in problem(answer)
    assert client.get("/reading").status_code == 200


def test_the_sheets_are_those_of_the_kit(opened: Opened, kit: Kit) -> None:
    client = opened()
    about = client.get("/kit").json()
    assert (about["kit"], about["scored"]) == (kit.name, False)
    trials = Key.read(kit.key_file).trials
    assert [(sheet["number"], sheet["name"]) for sheet in about["sheets"]] == [(i, f"0{i}") for i in SHEETS]
    shown = [",".join(entry["code"] for entry in sheet["statements"]) for sheet in about["sheets"]]
    assert shown == [trial.statements for trial in trials]
    assert about["sheets"][0]["statements"][-1]["description"] == "sinus rhythm"
    for number in SHEETS:
        picture = client.get(f"/kit/sheets/{number}/picture")
        assert picture.headers["Content-Type"] == "image/png"
        assert picture.content == (kit.folder / "sheets" / f"0{number}.png").read_bytes()


def test_nothing_tells_which_is_which_before_the_end(opened: Opened, kit: Kit) -> None:
    client = opened(key=True)
    words = client.get("/kit").text + client.get("/kit/readers/anna").text
    words += client.put("/kit/readers/anna/result").text
    key = Key.read(kit.key_file)
    secrets = [key.salt, "Hospital", "manmade", *(trial.sha256 for trial in key.trials), str(kit.folder.parent)]
    assert not [secret for secret in secrets if secret in words]
    pictures = [client.get(f"/kit/sheets/{number}/picture") for number in SHEETS]
    headers = [{k: v for k, v in picture.headers.items()} for picture in pictures]
    assert all(header == headers[0] for header in headers)


@pytest.mark.parametrize(("path", "status"), [("0", 404), ("5", 404), ("-1", 404), ("x", 422), ("..%2f01", 404)])
def test_only_the_kits_sheets_are_given(opened: Opened, path: str, status: int) -> None:
    assert opened().get(f"/kit/sheets/{path}/picture").status_code == status


def test_answers_are_saved_as_they_come(opened: Opened, answers: Path, kit: Kit) -> None:
    client = opened()
    assert client.get("/kit/readers/anna").json()["answers"] == [
        {"shows_statements": "", "is_synthetic": "", "comment": ""} for _ in SHEETS
    ]
    assert list(answers.iterdir()) == []  # who only looks leaves no file
    assert say(client, "anna", 2, "yes", "") == 200
    assert said(answers / "anna.csv") == [["", "", ""], ["yes", "", ""], ["", "", ""], ["", "", ""]]
    assert say(client, "anna", 2, "no", "?", 'a "b", c;\n d\te\x00 \u2028ü') == 200
    assert say(client, "anna", 4, "?", "yes") == 200
    assert said(answers / "anna.csv")[1::2] == [["no", "?", 'a "b", c; d e ü'], ["?", "yes", ""]]
    assert [path.name for path in answers.iterdir()] == ["anna.csv"]
    reading = read_answers(answers / "anna.csv", Key.read(kit.key_file))
    found = [(answer.says_shown, answer.says_synthetic) for answer in reading.answers]
    assert found == [(None, None), (False, None), (None, None), (None, True)]


def test_a_reader_goes_on_after_a_restart(opened: Opened, answers: Path) -> None:
    say(opened(), "anna", 1, "yes", "no", "low voltage")
    again = opened().get("/kit/readers/Anna").json()
    assert (again["reader"], again["closed"]) == ("anna", False)
    assert again["answers"][0] == {"shows_statements": "yes", "is_synthetic": "no", "comment": "low voltage"}


def test_a_form_filled_in_elsewhere_is_taken_up(opened: Opened, answers: Path, kit: Kit) -> None:
    client = opened()
    form = (kit.folder / "answers.csv").read_text().splitlines()
    rows = [line.replace(",,,", f",{word},FALSE,") for line, word in zip(form[1:], ["ja", "n", "n/a", ""], strict=True)]
    (answers / "ben.csv").write_text("\n".join([form[0], *reversed(rows)]))
    found = client.get("/kit/readers/ben").json()["answers"]
    assert [row["shows_statements"] for row in found] == ["yes", "no", "?", ""]
    assert {row["is_synthetic"] for row in found} == {"no"}


def test_readers_do_not_mix(opened: Opened, answers: Path) -> None:
    client = opened()
    wanted = {f"reader-{i}": [("yes" if i >> number & 1 else "no") for number in range(4)] for i in range(8)}
    work = [(reader, number, word) for reader, words in wanted.items() for number, word in enumerate(words, start=1)]
    work.sort(key=lambda entry: entry[1])
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda entry: say(client, entry[0], entry[1], entry[2], "no"), work))
    assert set(statuses) == {200}
    assert {path.stem: [row[0] for row in said(path)] for path in answers.iterdir()} == wanted


@pytest.mark.parametrize(
    "name", ["...", "..%2Fanna", "a.b", "a b", "-a", "ä", "a" * 41, "%00", "a%5Cb", "~", "a\u2215b"]
)
def test_a_name_is_no_path(opened: Opened, answers: Path, name: str) -> None:
    client = opened()
    for answer in (client.get(f"/kit/readers/{name}"), client.put(f"/kit/readers/{name}/result")):
        assert answer.status_code in (404, 422)
    assert say(client, name, 1, "yes", "no") in (404, 422)
    assert list(answers.iterdir()) == []
    assert list(answers.parent.iterdir()) == [answers]


def test_capitals_make_no_other_reader(opened: Opened, answers: Path) -> None:
    client = opened()
    say(client, "Anna", 1, "yes", "no")
    say(client, "ANNA", 2, "yes", "no")
    assert [row[0] for row in said(answers / "anna.csv")] == ["yes", "yes", "", ""]


BAD_ANSWERS = [
    ({"shows_statements": "maybe"}, "'yes', 'no', '?' or ''"),
    ({"comment": "x" * 501}, "at most 500 characters"),
    ({"is_synthetic": None}, "body.is_synthetic"),
    ({"path": "/etc/passwd"}, "body.path: Extra inputs"),
]


@pytest.mark.parametrize(("change", "words"), BAD_ANSWERS, ids=[words for _, words in BAD_ANSWERS])
def test_bad_answers_are_told_why(opened: Opened, answers: Path, change: dict[str, object], words: str) -> None:
    sent = {"shows_statements": "yes", "is_synthetic": "no", **change}
    answer = opened().put("/kit/readers/anna/answers/1", json=sent)
    assert answer.status_code == 422
    assert words in problem(answer)
    assert list(answers.iterdir()) == []


def test_without_the_key_the_end_says_where_the_answers_are(opened: Opened) -> None:
    client = opened()
    for number in SHEETS:
        say(client, "anna", number, "yes", "no")
    end = client.put("/kit/readers/anna/result").json()
    assert end == {
        "file": "answers/anna.csv",
        "command": "ecgforge turing score kit-key.json answers/anna.csv",
        "tables": [],
        "notes": [],
    }
    assert say(client, "anna", 1, "no", "no") == 200  # nothing was told, so nothing is closed


def test_the_score_comes_when_all_is_answered_and_closes_the_answers(opened: Opened, answers: Path, kit: Kit) -> None:
    client = opened(key=True)
    for number in (1, 2, 4):
        say(client, "anna", number, "yes", "?" if number == 4 else "yes")
    say(client, "anna", 3, "no", "")
    early = client.put("/kit/readers/anna/result")
    assert early.status_code == 409
    assert "03 lack one" in problem(early)
    say(client, "anna", 3, "no", "yes")
    end = client.put("/kit/readers/anna/result").json()
    score = score_readings([read_answers(answers / "anna.csv", Key.read(kit.key_file))])
    assert [table["rows"] for table in end["tables"]] == [[list(row) for row in t.rows] for t in score_tables(score)]
    assert end["notes"] == list(score_notes(score))
    before = (answers / "anna.csv").read_bytes()
    for again in (client, opened(key=True), opened()):
        assert say(again, "anna", 1, "no", "no") == 409
        assert again.get("/kit/readers/anna").json()["closed"]
    assert (answers / "anna.csv").read_bytes() == before
    assert opened(key=True).put("/kit/readers/anna/result").json() == end
    assert opened().put("/kit/readers/anna/result").json()["tables"] == []
    assert say(client, "ben", 1, "no", "no") == 200


def test_what_cannot_be_saved_is_told(opened: Opened, answers: Path) -> None:
    client = opened()
    answers.rmdir()
    answers.touch()  # a file where the folder was
    words = {"shows_statements": "yes", "is_synthetic": "no"}
    answer = client.put("/kit/readers/anna/answers/1", json=words)
    assert answer.status_code == 503
    assert "could not be saved" in problem(answer)
    assert str(answers.parent) not in answer.text


def test_answers_to_another_kit_stay_untouched(opened: Opened, answers: Path) -> None:
    client = opened()
    say(client, "anna", 1, "yes", "no")
    foreign = (answers / "anna.csv").read_bytes().replace(b"kit-", b"old-")
    (answers / "anna.csv").write_bytes(foreign)
    answer = client.get("/kit/readers/anna")
    assert answer.status_code == 422
    assert problem(answer).startswith("anna.csv, line 2: expected answers to kit-")
    assert say(client, "anna", 1, "no", "no") == 422
    assert (answers / "anna.csv").read_bytes() == foreign


def test_readers_are_not_without_number(opened: Opened, answers: Path) -> None:
    client = opened()
    say(client, "anna", 1, "yes", "no")
    for number in range(MOST_READERS - 1):
        (answers / f"reader-{number}.csv").touch()
    assert say(client, "one-more", 1, "yes", "no") == 422
    assert say(client, "anna", 1, "no", "no") == 200


def test_answers_do_not_go_into_the_kit(kit: Kit) -> None:
    for folder in (kit.folder, kit.folder / "sheets" / "deeper"):
        with pytest.raises(ConfigError, match="outside of the kit"):
            ReadingRoom(kit.folder, answers=folder)
    assert ReadingRoom(kit.folder).answers_folder == kit.folder.with_name("kit-answers")


def test_a_kit_is_checked_before_it_is_opened(kit: Kit, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(kit.folder, copy)
    (copy / "sheets" / "02.png").write_bytes(b"another")
    with pytest.raises(DataError, match=r"02\.png is missing or another file"):
        ReadingRoom(copy, key_file=kit.key_file)
    (copy / "sheets" / "02.png").unlink()
    with pytest.raises(DataError, match=r"02\.png is missing; make the kit anew"):
        ReadingRoom(copy)
    form = (copy / "answers.csv").read_text()
    (copy / "answers.csv").write_text(form.replace(",02,", ",../02,"))
    with pytest.raises(DataError, match="trials 01, 02 and so on"):
        ReadingRoom(copy)
    (copy / "answers.csv").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        ReadingRoom(copy)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be made"):
        ReadingRoom(kit.folder, answers=tmp_path / "file" / "answers")


def test_the_token_guards_the_room_but_not_its_page(generator: Generator, kit: Kit, answers: Path) -> None:
    room = ReadingRoom(kit.folder, answers=answers)
    client = TestClient(make_app(generator, token="open-sesame-1", room=room), base_url=HERE)
    assert client.get("/reading").status_code == 200
    for path in ("/kit", "/kit/sheets/1/picture", "/kit/readers/anna"):
        assert client.get(path).status_code == 401
    assert say(client, "anna", 1, "yes", "no") == 401
    assert client.put("/kit/readers/anna/result").status_code == 401
