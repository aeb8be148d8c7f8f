"""The answer form of a reading kit: a row a sheet, filled in with a spreadsheet or in the reading room."""

import csv
import io
from dataclasses import dataclass
from typing import Literal

FORM_COLUMNS = ("kit", "trial", "statements", "shows_statements", "is_synthetic", "comment")

Word = Literal["yes", "no", "?", ""]


@dataclass(frozen=True)
class FormRow:
    """What a reader says of one sheet.

    Attributes:
        trial: Number on the sheet: "01".
        statements: Statement set it shows.
        shows_statements: Does the ECG show them? "?" if the reader cannot say, "" if not answered yet.
        is_synthetic: Was it made by a computer? The same words.
        comment: Anything else.
    """

    trial: str
    statements: str
    shows_statements: Word = ""
    is_synthetic: Word = ""
    comment: str = ""

    @property
    def answered(self) -> bool:
        """Whether both questions have an answer; "?" is one."""
        return bool(self.shows_statements and self.is_synthetic)


@dataclass(frozen=True)
class Form:
    """A form, blank or filled in; its rows are in the order of the sheets.

    Attributes:
        kit: Name of the kit; stands in every row.
        rows: One a sheet.
    """

    kit: str
    rows: tuple[FormRow, ...]

    def to_csv(self) -> bytes:
        """The form as a file."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(FORM_COLUMNS)
        for row in self.rows:
            writer.writerow((self.kit, row.trial, row.statements, row.shows_statements, row.is_synthetic, row.comment))
        return text.getvalue().encode()


def sheet_number(trial: int, *, sheets: int) -> str:
    """A trial's number as the sheets and their files write it: "01"."""
    return f"{trial:0{max(2, len(str(sheets)))}d}"
