"""`ecgforge import-original` and `export-original`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ecgforge.serving.notes import note


class Cauchy(StrEnum):
    """The two Cauchy sums of checkpoints.original."""

    FULL = "full"
    HALF = "half"


def import_original(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of the original SSSD-ECG, e.g. 100000.pkl.")],
    out: Annotated[Path, typer.Argument(help="Model folder to write.")],
    cauchy: Annotated[
        Cauchy,
        typer.Option(
            help="Which Cauchy sum it was trained with: `full` with the CUDA extension or pykeops (the true S4 "
            "kernel), `half` with the pure-PyTorch fallback. No checkpoint says; the wrong one samples noise."
        ),
    ] = Cauchy.FULL,
    statements: Annotated[
        str | None,
        typer.Option(help="Its statements in the order of its columns, e.g. `AFIB`; needed where no label set fits."),
    ] = None,
) -> None:
    """Turn a published SSSD-ECG or SSSD-ECG-nle checkpoint into a model folder, without executing pickled code.

    Unsure which `--cauchy`? Import it with both and take the one whose samples look like ECGs.

    Example: `ecgforge import-original 100000.pkl models/sssd-ecg --cauchy full`
    """
    from ecgforge.checkpoints.original import import_checkpoint

    codes = tuple(statements.split(",")) if statements else ()
    config = import_checkpoint(checkpoint, out, cauchy=cauchy.value, statements=codes)
    note(f"{out}: {len(config.labels)} statements, leads {' '.join(config.leads)}, Cauchy sum {cauchy.value}")


def export_original(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    checkpoint: Annotated[Path, typer.Argument(help="File to write, e.g. 0.pkl.")],
) -> None:
    """Write a model as the original SSSD-ECG code saves it, for use with that code.

    Example: `ecgforge export-original runs/small/model 0.pkl`
    """
    from ecgforge.checkpoints.native import load_model
    from ecgforge.checkpoints.original import export_checkpoint

    export_checkpoint(load_model(model), checkpoint)
    note(f"wrote {checkpoint}")
