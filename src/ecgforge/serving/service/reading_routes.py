"""The routes of the reading room. They are there without a kit too, and then say how to open one."""

from typing import Annotated

from fastapi import FastAPI, Path, Response

from ecgforge.serving.service.reading import NoSuchSheetError, ReadingRoom
from ecgforge.serving.service.reading_messages import KitAnswer, ReaderAnswer, ResultAnswer, SheetAnswer

Reader = Annotated[str, Path(max_length=100, description="Up to 40 letters a to z, digits, - and _.")]
Number = Annotated[int, Path(description="Number of the sheet, from 1.")]


def add_reading(app: FastAPI, room: ReadingRoom | None) -> None:
    """Add the routes of a room; None for a service without a kit."""

    @app.get("/kit")
    def kit() -> KitAnswer:
        """The reading kit: its sheets and what they are said to show."""
        return KitAnswer.of(_opened(room))

    @app.get(
        "/kit/sheets/{number}/picture",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}, "description": "The picture."}},
    )
    def sheet_picture(number: Number) -> Response:
        """A sheet as a PNG, 10 pixels a millimetre of paper."""
        return Response(_opened(room).picture(number), media_type="image/png")

    @app.get("/kit/readers/{reader}")
    def reader_progress(reader: Reader) -> ReaderAnswer:
        """What a reader has answered so far; for a new reader nothing."""
        return ReaderAnswer.of(_opened(room).progress(reader))

    @app.put("/kit/readers/{reader}/answers/{number}")
    def save_answer(reader: Reader, number: Number, answer: SheetAnswer) -> SheetAnswer:
        """Save what a reader says of a sheet, in place of what was said of it before."""
        row = _opened(room).answer(
            reader,
            number,
            shows_statements=answer.shows_statements,
            is_synthetic=answer.is_synthetic,
            comment=answer.comment,
        )
        return SheetAnswer.of(row)

    # PUT, as other web pages cannot send one: with the key this closes the answers.
    @app.put("/kit/readers/{reader}/result")
    def reading_result(reader: Reader) -> ResultAnswer:
        """End a reading whose sheets are all answered; with the key tell the score and close the answers."""
        return ResultAnswer.of(_opened(room).result(reader))


def _opened(room: ReadingRoom | None) -> ReadingRoom:
    if room is None:
        raise NoSuchSheetError("no reading kit is open here; start the service with `ecgforge serve --kit KIT`")
    return room
