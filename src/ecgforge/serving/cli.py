"""The command line: thin doors to the library's objects.

Heavy modules (torch, pandas, matplotlib) are imported inside the commands, so that `--help` answers at once.
"""

import sys
from enum import StrEnum
from importlib import metadata
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ecgforge.errors import EcgforgeError
from ecgforge.serving import (
    beat_commands,
    checkpoint_commands,
    data_commands,
    generate_commands,
    info_commands,
    restore_commands,
    study_commands,
    train_commands,
    turing_commands,
)
from ecgforge.serving.convert_command import convert
from ecgforge.serving.copy_command import copy
from ecgforge.serving.evaluate_command import evaluate
from ecgforge.serving.notes import silence_notes
from ecgforge.serving.plot_command import plot
from ecgforge.serving.privacy_command import privacy
from ecgforge.serving.serve_command import serve

app = typer.Typer(
    name="ecgforge",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Synthetic 12-lead ECGs for given ECG statements.\n\n"
    "Begin with: `ecgforge generate --statements NORM,SR -n 4 --out out --plot`",
)
# Headings of the help.
_MAKE, _WORK, _DATA = "Make ECGs", "Work on ECGs", "Data sets"
_TRAIN, _JUDGE = "Train and exchange models", "Judge what was made"

app.command("demo", rich_help_panel=_MAKE)(generate_commands.demo)
app.command("generate", rich_help_panel=_MAKE)(generate_commands.generate)
app.command("serve", rich_help_panel=_MAKE)(serve)
app.command("models", rich_help_panel=_MAKE)(info_commands.models)
app.command("plot", rich_help_panel=_WORK)(plot)
app.command("convert", rich_help_panel=_WORK)(convert)
app.command("complete", rich_help_panel=_WORK)(restore_commands.complete)
app.command("inpaint", rich_help_panel=_WORK)(restore_commands.inpaint)
app.command("vary", rich_help_panel=_WORK)(restore_commands.vary)
app.add_typer(data_commands.app, name="data", rich_help_panel=_DATA)
app.command("copy", rich_help_panel=_DATA)(copy)
app.command("presets", rich_help_panel=_TRAIN)(train_commands.presets)
app.command("train", rich_help_panel=_TRAIN)(train_commands.train)
app.command("average", rich_help_panel=_TRAIN)(train_commands.average)
app.command("import-original", rich_help_panel=_TRAIN)(checkpoint_commands.import_original)
app.command("export-original", rich_help_panel=_TRAIN)(checkpoint_commands.export_original)
app.command("evaluate", rich_help_panel=_JUDGE)(evaluate)
app.command("privacy", rich_help_panel=_JUDGE)(privacy)
app.command("beats", rich_help_panel=_JUDGE)(beat_commands.beats)
app.command("interpolate", rich_help_panel=_JUDGE)(beat_commands.interpolate)
app.add_typer(turing_commands.app, name="turing", rich_help_panel=_JUDGE)
app.add_typer(study_commands.app, name="study", rich_help_panel=_JUDGE)


class LabelSetName(StrEnum):
    """The names of labels.LABEL_SETS."""

    ALL = "all"
    DIAGNOSTIC = "diagnostic"
    SUBDIAGNOSTIC = "subdiagnostic"
    SUPERDIAGNOSTIC = "superdiagnostic"
    FORM = "form"
    RHYTHM = "rhythm"


@app.command(rich_help_panel=_MAKE)
def statements(
    search: Annotated[str, typer.Argument(help="Show only statements whose code or description has this text.")] = "",
    label_set: Annotated[LabelSetName, typer.Option(help="Show only the labels of this set.")] = LabelSetName.ALL,
) -> None:
    """List the ECG statements that can be asked for.

    Example: `ecgforge statements infarction`
    """
    from ecgforge.labels import all_statements, vocabulary

    labels = vocabulary(label_set.value)
    table = Table("code", "description", "group", "subclass", "superclass", box=None)
    for entry in all_statements().values():
        text = f"{entry.code} {entry.description}".lower()
        if labels.label_of(entry.code) and search.lower() in text:
            table.add_row(entry.code, entry.description, ", ".join(entry.groups), entry.subclass, entry.superclass)
    Console().print(table)


def _print_version(wanted: bool | None) -> None:
    if wanted:
        typer.echo(f"ecgforge {metadata.version('ecgforge')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool | None, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress and no notes, only results and errors.")
    ] = False,
) -> None:
    """Options before the command."""
    silence_notes(quiet)


def main() -> None:
    """Run the command line; an error ecgforge raises on purpose is one message, not a traceback.

    Exit codes: 0 done, 1 such an error, 2 a command line that cannot be understood, 130 interrupted.
    """
    try:
        app()
    except EcgforgeError as error:
        # As Text, because a message may hold brackets: a file's name, a list of settings.
        Console(stderr=True).print(Text.assemble(("error:", "bold red"), f" {error}"), soft_wrap=True)
        sys.exit(1)
