"""The reading room: one reading kit, any number of readers, each with a file of answers.

    ANSWERS/anna.csv          the kit's form, written anew after every answer; `ecgforge turing score` reads it
    ANSWERS/anna-score.json   the score, once the reader has seen it

Nothing is kept in memory: a reader goes on where the file ends, after a restart too.

With the key the room can show a reader the score. The score tells nothing of a single sheet, but the difference of
two would. So it is shown only when every sheet has been answered, and from then on the answers stay as they are.
"""

import logging
import os
import re
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ecgforge.errors import ConfigError, DataError, EcgforgeError
from ecgforge.evaluation.answers import read_answers, read_blank_form, read_form
from ecgforge.evaluation.reading_form import Form, FormRow, Word
from ecgforge.evaluation.reading_kit import Key, check_kit
from ecgforge.evaluation.turing import TuringScore, score_json, score_readings
from ecgforge.formats.atomic import write_whole

MOST_READERS = 100  # of one kit: names cost nothing, files do

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


class NoSuchSheetError(DataError):
    """No kit is open, or it has no such sheet."""


class ReadingStateError(DataError):
    """Too early for the result, or too late for another answer."""


class NotSavedError(EcgforgeError):
    """The answers cannot be written; whoever runs the service has to see to it."""


@dataclass(frozen=True)
class Progress:
    """How far a reader is.

    Attributes:
        reader: Name, as it names the file.
        form: The answers so far.
        closed: The score was shown; the answers stay as they are.
    """

    reader: str
    form: Form
    closed: bool


@dataclass(frozen=True)
class Result:
    """What a reader gets at the end.

    Attributes:
        file: Where the answers are: the last folder and the file.
        command: How they are scored.
        score: The score; None in a room without key.
    """

    file: str
    command: str
    score: TuringScore | None


class ReadingRoom:
    """One kit and the answers to it; every method may be called from any thread.

    Args:
        kit: Folder of the kit.
        answers: Folder for the answers; KIT-answers beside the kit by default. Is made.
        key_file: The kit's key, if readers shall see their score.

    Raises:
        ConfigError: the answers would lie in the kit.
        DataError: no kit, a kit without pictures, a key of another kit, or a folder that cannot be written.
    """

    def __init__(self, kit: Path, *, answers: Path | None = None, key_file: Path | None = None) -> None:
        kit = kit.resolve()
        self._kit = kit
        self._answers = kit.with_name(f"{kit.name}-answers") if answers is None else answers.resolve()
        self._key = None if key_file is None else Key.read(key_file)
        if self._answers.is_relative_to(kit):
            raise ConfigError(
                f"expected a folder outside of the kit for the answers, got {self._answers}; the kit is handed out"
            )
        self.blank = read_blank_form(kit / "answers.csv")
        self._require_pictures()
        if self._key is not None and key_file is not None:
            check_kit(self._key, key_file, kit)
        self._lock = threading.Lock()
        _require_writable(self._answers)

    @property
    def has_key(self) -> bool:
        """Whether readers see their score."""
        return self._key is not None

    @property
    def answers_folder(self) -> Path:
        """Where the answers are."""
        return self._answers

    def picture(self, number: int) -> bytes:
        """The PNG of a sheet.

        Raises:
            NoSuchSheetError: no such sheet.
        """
        return self._picture(self._row(self.blank, number)).read_bytes()

    def progress(self, reader: str) -> Progress:
        """What a reader has answered; a new reader nothing. Names are the same in capitals.

        Raises:
            DataError: a name that is not harmless, or a file of answers that belongs to something else.
        """
        reader = _checked_name(reader)
        with self._lock:
            return Progress(reader, self._form(reader), self._is_closed(reader))

    def answer(self, reader: str, number: int, *, shows_statements: Word, is_synthetic: Word, comment: str) -> FormRow:
        """Save what a reader says of a sheet, in place of what was said of it before.

        Raises:
            DataError: as for `progress`, or there are too many readers.
            NoSuchSheetError: no such sheet.
            ReadingStateError: the reader has seen the score.
            NotSavedError: the file cannot be written.
        """
        reader = _checked_name(reader)
        with self._lock:
            if self._is_closed(reader):
                raise ReadingStateError(
                    "the score of these answers was shown, so they stay as they are; read another kit for new ones"
                )
            form = self._form(reader)
            row = replace(
                self._row(form, number),
                shows_statements=shows_statements,
                is_synthetic=is_synthetic,
                comment=_in_one_line(comment),
            )
            rows = tuple(row if old.trial == row.trial else old for old in form.rows)
            self._require_room_for(reader)
            _save(self._file(reader), replace(form, rows=rows).to_csv())
            return row

    def result(self, reader: str) -> Result:
        """The end of a reading: with the key the score, which closes the answers.

        Raises:
            DataError: as for `progress`.
            ReadingStateError: sheets are left to answer.
            NotSavedError: the score cannot be written.
        """
        reader = _checked_name(reader)
        with self._lock:
            left = [row.trial for row in self._form(reader).rows if not row.answered]
            if left:
                raise ReadingStateError(
                    f"expected an answer to both questions for every sheet, {', '.join(left)} lack one; answer them "
                    'first, if need be with "cannot say"'
                )
            file = f"{self._answers.name}/{reader}.csv"
            command = shlex.join(("ecgforge", "turing", "score", f"{self._kit.name}-key.json", file))
            return Result(file, command, None if self._key is None else self._score(reader, self._key))

    # ------------------------------------------------------------------------------- under the lock

    def _form(self, reader: str) -> Form:
        path = self._file(reader)
        with self._folder_hidden():
            return read_form(path, self.blank) if path.exists() else self.blank

    def _score(self, reader: str, key: Key) -> TuringScore:
        with self._folder_hidden():
            score = score_readings([read_answers(self._file(reader), key)])
        if not self._is_closed(reader):
            _save(self._score_file(reader), score_json(score).encode())
        return score

    def _is_closed(self, reader: str) -> bool:
        return self._score_file(reader).exists()

    def _file(self, reader: str) -> Path:
        return self._answers / f"{reader}.csv"

    def _score_file(self, reader: str) -> Path:
        return self._answers / f"{reader}-score.json"

    def _require_room_for(self, reader: str) -> None:
        if not self._file(reader).exists() and len(list(self._answers.glob("*.csv"))) >= MOST_READERS:
            raise DataError(f"expected at most {MOST_READERS} readers of a kit; choose another --answers folder")

    # ------------------------------------------------------------------------------------- the kit

    def _row(self, form: Form, number: int) -> FormRow:
        if not 1 <= number <= len(form.rows):
            raise NoSuchSheetError(f"expected a sheet from 1 to {len(form.rows)}, got {number}")
        return form.rows[number - 1]

    def _picture(self, row: FormRow) -> Path:
        return self._kit / "sheets" / f"{row.trial}.png"

    def _require_pictures(self) -> None:
        missing = [path for row in self.blank.rows if not (path := self._picture(row)).is_file()]
        if missing:
            raise DataError(
                f"expected a picture of every sheet in {self._kit}, but {missing[0]} is missing; make the kit anew "
                "with `ecgforge turing make`"
            )

    @contextmanager
    def _folder_hidden(self) -> Iterator[None]:
        """Takes the folder of the answers out of error messages."""
        try:
            yield
        except EcgforgeError as error:
            raise type(error)(str(error).replace(f"{self._answers}{os.sep}", "")) from error


def _checked_name(reader: str) -> str:
    """The name in small letters: two that differ in capitals would be one file on some disks."""
    name = reader.casefold()
    if not _NAME.fullmatch(name):
        raise DataError(
            f"expected a name of up to 40 letters a to z, digits, - and _, got {reader[:60]!r}; choose such a name"
        )
    return name


def _in_one_line(comment: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in comment).split())


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"the folder {folder} for the answers cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise DataError(f"expected a folder for the answers that can be written, got {folder}; choose another")


def _save(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except DataError as error:
        logging.getLogger(__name__).error("%s", error)
        raise NotSavedError("the answer could not be saved; tell whoever runs this service, and try again") from error
