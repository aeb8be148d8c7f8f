"""What commands say beside their results; `ecgforge --quiet` silences it.

Results are printed as they are: a table that was asked for, JSON, numbers, counts, the names of files that the command
chose itself. Notes say that all went as asked, how far it is, and what can be done next. Errors go to the error stream,
quiet or not.
"""

import typer

_silent = False  # of this process: a command line is one


def silence_notes(wanted: bool) -> None:
    """Say nothing from now on, or everything again."""
    global _silent
    _silent = wanted


def notes_silenced() -> bool:
    """Whether notes and progress bars are unwanted."""
    return _silent


def note(text: str) -> None:
    """Print a line that is no result."""
    if not _silent:
        typer.echo(text)
