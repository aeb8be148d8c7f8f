"""Answer forms of a reading kit, and answers in the published form: CSV -> Reading.

People fill forms in with spreadsheets: semicolons for commas, "1" for "01", WAHR for TRUE, other encodings.
What can be understood in one way only is; anything else is an error that names the row.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ecgforge.errors import DataError
from ecgforge.evaluation.reading_form import FORM_COLUMNS, Form, FormRow, Word, sheet_number
from ecgforge.evaluation.reading_kit import Key, Trial
from ecgforge.evaluation.turing import Answer, Reading

PUBLISHED_COLUMNS = (
    "trials",
    "lbl_codes",
    "y_true_diagnostic",
    "y_true_synthetic",
    "y_pred_diagnostic",
    "y_pred_synthetic",
)

# English, German, French, Spanish, Portuguese, Italian; what spreadsheets make of TRUE and 1. Left out is what
# could be meant otherwise: "o" (oui or 0), "s" (sí or synthetic), "-" (no or no answer), "ne", "none", "x".
_YES = frozenset(
    ("yes", "y", "yess", "ye", "true", "t", "1", "1.0", "ja", "j", "wahr", "oui", "vrai", "si", "sí", "sim", "vero")
)
_NO = frozenset(("no", "n", "noo", "false", "f", "0", "0.0", "nein", "falsch", "non", "faux", "não", "nao", "falso"))
_NO_ANSWER = frozenset(("", "?", "n/a", "nan"))


@dataclass(frozen=True)
class _Row:
    """Cells of one line by column; `where` names file and line."""

    where: str
    cells: dict[str, str]

    def answer(self, column: str) -> bool | None:
        """Yes or no.

        Raises:
            DataError: the cell says neither.
        """
        word = self.cells[column].casefold().strip(" \t'\".!,;")
        if word in _NO_ANSWER:
            return None
        if word in _YES or word in _NO:
            return word in _YES
        raise DataError(
            f"{self.where}: expected yes or no in the column {column}, got {self.cells[column]!r}; correct the cell, "
            "or empty it for no answer"
        )

    def word(self, column: str) -> Word:
        """The answer as the form writes it: an empty cell stays empty, what means no answer is "?".

        Raises:
            DataError: the cell says neither yes nor no nor nothing.
        """
        answer = self.answer(column)
        if answer is None:
            return "?" if self.cells[column] else ""
        return "yes" if answer else "no"

    def truth(self, column: str) -> bool:
        """Yes or no; an empty cell is an error too.

        Raises:
            DataError: the cell says neither.
        """
        answer = self.answer(column)
        if answer is None:
            raise DataError(f"{self.where}: expected True or False in the column {column}, got none; fill it in")
        return answer


def read_answers(path: Path, key: Key) -> Reading:
    """A filled form of the kit that `key` belongs to; rows may be in any order, missing rows are no answers.

    Raises:
        DataError: the file cannot be read, is of another kit, or has rows that cannot be understood.
    """
    rows = read_form(path, key.form()).rows
    return Reading(path.stem, tuple(_form_answer(trial, row) for trial, row in zip(key.trials, rows, strict=True)))


def read_form(path: Path, blank: Form) -> Form:
    """A filled form, its rows in the order of the blank one.

    Raises:
        DataError: as for `read_answers`.
    """
    blanks = {int(row.trial): row for row in blank.rows}
    rows: dict[int, FormRow] = {}
    for row in _rows(path, FORM_COLUMNS):
        number = _checked_trial(row, blank.kit, blanks)
        if number in rows:
            raise DataError(f"{row.where}: expected one row a trial, got trial {number} again; remove one of them")
        rows[number] = replace(
            blanks[number],
            shows_statements=row.word("shows_statements"),
            is_synthetic=row.word("is_synthetic"),
            comment=row.cells["comment"],
        )
    return replace(blank, rows=tuple(rows.get(number, row) for number, row in blanks.items()))


def read_blank_form(path: Path) -> Form:
    """The form of a kit, without regard to what was written into it.

    Raises:
        DataError: the file cannot be read, or its rows are not one a sheet, in order and of one kit.
    """
    rows = list(_rows(path, FORM_COLUMNS))
    numbers = [sheet_number(trial, sheets=len(rows)) for trial in range(1, len(rows) + 1)]
    if not rows or [row.cells["trial"] for row in rows] != numbers or len({row.cells["kit"] for row in rows}) > 1:
        raise DataError(f"{path}: expected the form of one reading kit, trials 01, 02 and so on; take it from the kit")
    return Form(rows[0].cells["kit"], tuple(FormRow(row.cells["trial"], row.cells["statements"]) for row in rows))


def read_published(path: Path) -> Reading:
    """Answers that carry the truth: the columns of PUBLISHED_COLUMNS, True or False, one row a sheet.

    Raises:
        DataError: the file cannot be read, a trial comes twice, or a cell cannot be understood.
    """
    answers: dict[str, Answer] = {}
    for row in _rows(path, PUBLISHED_COLUMNS):
        trial = row.cells["trials"]
        if not trial or trial in answers:
            raise DataError(f"{row.where}: expected a name of its own for each trial, got {trial!r}; number the rows")
        answers[trial] = Answer(
            trial=trial,
            statements=row.cells["lbl_codes"],
            own_statements=row.truth("y_true_diagnostic"),
            synthetic=row.truth("y_true_synthetic"),
            says_shown=row.answer("y_pred_diagnostic"),
            says_synthetic=row.answer("y_pred_synthetic"),
        )
    return Reading(path.stem, tuple(answers.values()))


def _form_answer(trial: Trial, row: FormRow) -> Answer:
    meaning = {"yes": True, "no": False}
    return Answer(
        trial=row.trial,
        statements=trial.statements,
        own_statements=True,
        synthetic=trial.synthetic,
        says_shown=meaning.get(row.shows_statements),
        says_synthetic=meaning.get(row.is_synthetic),
    )


def _checked_trial(row: _Row, kit: str, blanks: Mapping[int, FormRow]) -> int:
    """The trial of a row, which must be one of this kit with its statements."""
    if row.cells["kit"] != kit:
        raise DataError(
            f"{row.where}: expected answers to {kit}, got {row.cells['kit'] or 'none'}; give the key that belongs "
            "to these answers"
        )
    text = row.cells["trial"].removesuffix(".0")
    number = int(text) if text.isdecimal() else 0
    if number not in blanks:
        raise DataError(f"{row.where}: expected a trial from 1 to {len(blanks)}, got {row.cells['trial']!r}")
    if row.cells["statements"] != blanks[number].statements:
        raise DataError(
            f"{row.where}: expected the statements {blanks[number].statements} of trial {number}, got "
            f"{row.cells['statements']}; leave the first three columns as they were"
        )
    return number


def _rows(path: Path, columns: Sequence[str]) -> Iterator[_Row]:
    """The rows of a CSV that have anything in them."""
    text = _text(path)
    header = text.partition("\n")[0]
    table = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count))
    names = [name.strip().casefold() for name in next(table, [])]
    missing = [column for column in columns if column not in names]
    if missing:
        raise DataError(
            f"{path}: expected the columns {', '.join(columns)}, found no {', '.join(missing)}; "
            "keep the first line of the form as it was"
        )
    for cells in table:
        by_name = dict(zip(names, (cell.strip() for cell in [*cells, *[""] * len(names)]), strict=False))
        if any(by_name.values()):
            yield _Row(f"{path}, line {table.line_num}", {column: by_name[column] for column in columns})


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")  # what spreadsheets on Windows write
