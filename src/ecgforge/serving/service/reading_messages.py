"""What the reading room takes and answers; the truth about a sheet is in none of it."""

from pydantic import BaseModel, ConfigDict, Field

from ecgforge.evaluation.reading_form import FormRow, Word
from ecgforge.evaluation.turing import score_notes, score_tables
from ecgforge.labels import all_statements, parse_statements
from ecgforge.serving.service.reading import Progress, ReadingRoom, Result

_SHOWN = 'Does the ECG show the statements? "?" for cannot say, "" for not answered yet.'
_SYNTHETIC = "Was the ECG made by a computer? The same words."


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SheetAnswer(_Message):
    """What a reader says of a sheet."""

    shows_statements: Word = Field(description=_SHOWN)
    is_synthetic: Word = Field(description=_SYNTHETIC)
    comment: str = Field("", max_length=500, description="Kept in one line.")

    @classmethod
    def of(cls, row: FormRow) -> "SheetAnswer":
        """The answers in this row."""
        return cls(shows_statements=row.shows_statements, is_synthetic=row.is_synthetic, comment=row.comment[:500])


class ShownStatement(_Message):
    """A statement as a sheet shows it."""

    code: str
    description: str
    grade: float


class Sheet(_Message):
    """A sheet: its number, and the statements it is said to show."""

    number: int
    name: str = Field(description="The number as the sheet and the form write it.")
    statements: tuple[ShownStatement, ...]

    @classmethod
    def of(cls, number: int, row: FormRow) -> "Sheet":
        """The sheet of this row."""
        known = all_statements()
        shown = tuple(
            ShownStatement(code=code, description=known[code].description, grade=grade)
            for code, grade in parse_statements(row.statements).items()
        )
        return cls(number=number, name=row.trial, statements=shown)


class KitAnswer(_Message):
    """The kit that is read here."""

    kit: str
    scored: bool = Field(description="Readers see their score at the end, and their answers are closed then.")
    sheets: tuple[Sheet, ...]

    @classmethod
    def of(cls, room: ReadingRoom) -> "KitAnswer":
        """The kit of this room."""
        sheets = tuple(Sheet.of(number, row) for number, row in enumerate(room.blank.rows, start=1))
        return cls(kit=room.blank.kit, scored=room.has_key, sheets=sheets)


class ReaderAnswer(_Message):
    """A reader's answers so far."""

    reader: str = Field(description="The name in small letters.")
    closed: bool = Field(description="The score was shown; the answers stay as they are.")
    answers: tuple[SheetAnswer, ...] = Field(description="One a sheet.")

    @classmethod
    def of(cls, progress: Progress) -> "ReaderAnswer":
        """The answer that tells of this reader."""
        answers = tuple(SheetAnswer.of(row) for row in progress.form.rows)
        return cls(reader=progress.reader, closed=progress.closed, answers=answers)


class ScoreTable(_Message):
    """A table of the score."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class ResultAnswer(_Message):
    """The end of a reading."""

    file: str = Field(description="Where the answers are.")
    command: str = Field(description="How they are scored.")
    tables: tuple[ScoreTable, ...] = Field(description="The score; none in a room without key.")
    notes: tuple[str, ...]

    @classmethod
    def of(cls, result: Result) -> "ResultAnswer":
        """The answer that holds this result."""
        if result.score is None:
            return cls(file=result.file, command=result.command, tables=(), notes=())
        tables = tuple(
            ScoreTable(title=table.title, columns=table.columns, rows=table.rows)
            for table in score_tables(result.score)
        )
        return cls(file=result.file, command=result.command, tables=tables, notes=score_notes(result.score))
