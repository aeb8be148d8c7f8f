"""`ecgforge convert`: records from any known file format to another."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ecgforge.errors import DataError, EcgforgeError


class RecordFormat(StrEnum):
    """The names of formats.FORMATS."""

    WFDB = "wfdb"
    CSV = "csv"
    NPZ = "npz"
    EDF = "edf"
    DICOM = "dicom"
    AECG = "aecg"
    PARQUET = "parquet"


def convert(
    files: Annotated[list[Path], typer.Argument(help="ECG records in any format that ecgforge reads.")],
    to: Annotated[RecordFormat, typer.Option(help="File format to write.")],
    out: Annotated[Path, typer.Option(help="Folder for the new files, which get the names of the old ones.")],
) -> None:
    """Convert ECG records: signals to the microvolt, leads, rate, statements and origin stay what they are.

    A file that cannot be converted is reported, the others are still converted, and the exit code is 1. No file
    that is read is ever overwritten.

    Example: `ecgforge convert records/*.hea --to dicom --out dicom`
    """
    from ecgforge.formats import read_record, write_record

    inputs = [part for file in files for part in _parts(file)]
    converted: dict[Path, Path] = {}
    failed = False
    for file in files:
        target = out / file.name.removesuffix(_known_suffix(file))
        try:
            if target in converted:
                raise DataError(
                    f"{target} already comes from {converted[target]}; convert records of the same name one by one "
                    "into different --out folders"
                )
            _spare_inputs(target, to.value, inputs)
            written = write_record(read_record(file), target, format=to.value)
        except EcgforgeError as error:
            failed = True
            message = str(error) if str(file) in str(error) else f"{file}: {error}"
            typer.echo(f"error: {message}", err=True)
        else:
            converted[target] = file
            typer.echo(str(written))
    if failed:
        raise typer.Exit(1)


def _known_suffix(file: Path) -> str:
    """The extension, where it is one of a format; in other names a dot belongs to the name."""
    from ecgforge.formats import FORMATS

    known = any(file.suffix.lower() in entry.extensions for entry in FORMATS.values())
    return file.suffix if known else ""


def _parts(file: Path) -> list[Path]:
    """The file and what else may be read with it: a WFDB record is a header and a signal file."""
    from ecgforge.formats import FORMATS

    extensions = FORMATS["wfdb"].extensions
    base = file.with_suffix("") if file.suffix.lower() in extensions else file
    return [file, *(base.with_name(base.name + extension) for extension in extensions)]


def _spare_inputs(target: Path, format: str, inputs: list[Path]) -> None:
    """Refuse to write where a file that is read is.

    Raises:
        DataError: one of the files to be written is one of the inputs.
    """
    from ecgforge.formats import FORMATS

    folder = target.parent.resolve()  # "new/.." is a folder that exists only once "new" is made
    extensions = FORMATS[format].extensions
    for extension in extensions if format == "wfdb" else extensions[:1]:
        written = folder / (target.name + extension)
        if written.exists() and any(part.exists() and written.samefile(part) for part in inputs):
            raise DataError(f"{written} is one of the files to read; choose another folder as --out")
