"""`ecgforge plot`: records to pictures on ECG paper."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ecgforge.errors import DataError, EcgforgeError


class PictureFormat(StrEnum):
    """Picture file formats; the names of ecg_paper.PICTURE_FORMATS."""

    PNG = "png"
    SVG = "svg"
    PDF = "pdf"


class Layout(StrEnum):
    """Rows x columns; the names of ecg_paper.LAYOUTS."""

    THREE_BY_FOUR = "3x4"
    SIX_BY_TWO = "6x2"
    TWELVE_BY_ONE = "12x1"


def plot(
    files: Annotated[list[Path], typer.Argument(help="ECG records in any format that ecgforge reads.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the pictures; by default each goes beside its record.")
    ] = None,
    format: Annotated[
        PictureFormat, typer.Option(help="png for screens, svg and pdf for print in true size.")
    ] = PictureFormat.PNG,
    layout: Annotated[
        Layout,
        typer.Option(help="Rows x columns; where there are several columns, lead II follows over the whole time."),
    ] = Layout.THREE_BY_FOUR,
    dpi: Annotated[
        float,
        typer.Option(min=10, max=1270, help="Pixels per inch of a png; multiples of 25.4 give the crispest grid."),
    ] = 254.0,
) -> None:
    """Draw ECG records on paper: 25 mm/s, 10 mm/mV, a page each.

    A file that cannot be drawn is reported, the others are still drawn, and the exit code is 1.

    Example: `ecgforge plot records/*.hea --out pictures --format pdf`
    """
    drawn: dict[Path, Path] = {}
    failed = False
    for file in files:
        picture = (out or file.parent) / f"{file.stem}.{format}"
        try:
            if picture in drawn:
                raise DataError(
                    f"{picture} already shows {drawn[picture]}; draw records of the same name one by one "
                    "into different --out folders"
                )
            _draw(file, picture, layout=layout, dpi=dpi)
        except EcgforgeError as error:
            failed = True
            message = str(error) if str(file) in str(error) else f"{file}: {error}"
            typer.echo(f"error: {message}", err=True)
        else:
            drawn[picture] = file
            typer.echo(str(picture))
    if failed:
        raise typer.Exit(1)


def _draw(file: Path, picture: Path, *, layout: Layout, dpi: float) -> None:
    # Imported here: `ecgforge --help` needs neither matplotlib nor the file formats.
    from ecgforge.ecg_paper import save_ecg
    from ecgforge.formats import read_record

    save_ecg(read_record(file), picture, layout=layout.value, dpi=dpi)
