"""`ecgforge copy`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from ecgforge.errors import ConfigError
from ecgforge.serving.data_commands import parse_folds
from ecgforge.serving.notes import note
from ecgforge.serving.options import (
    GUIDANCE_HELP,
    INTERVAL_HELP,
    MODEL_HELP,
    PRECISION_HELP,
    PrecisionChoice,
    SamplerChoice,
    interval_of,
    name_of,
)
from ecgforge.serving.progress import progress_bar


def copy(
    data: Annotated[Path, typer.Option(help="Store of the real records, see `ecgforge data build`.")],
    out: Annotated[Path, typer.Option(help="Store to make.")],
    model: Annotated[Path | None, typer.Option(help=MODEL_HELP)] = None,
    folds: Annotated[str | None, typer.Option(help="Copy only these, e.g. `1-8`; by default all.")] = None,
    layout: Annotated[
        Path | None, typer.Option(help="Also write the twin in PTB-XL's folder layout, for any PTB-XL loader.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same twin.")] = 0,
    sampler: Annotated[SamplerChoice | None, typer.Option(help="As in `ecgforge generate`.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="As in `ecgforge generate`.")] = None,
    guidance: Annotated[float | None, typer.Option(min=0, help=GUIDANCE_HELP)] = None,
    guidance_interval: Annotated[str | None, typer.Option(help=INTERVAL_HELP)] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Records at once: speed and memory, not the result.")] = 8,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Worker processes of one thread each; by default one a core.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    precision: Annotated[PrecisionChoice, typer.Option(help=PRECISION_HELP)] = PrecisionChoice.FLOAT32,
) -> None:
    """Make the synthetic twin of a data set: one record per record, same statements and folds.

    Stopped, the same command goes on where it was; of a twin that is finished, it writes the layout only.

    Example: `ecgforge copy --data ptbxl100 --out twin100 --processes 2 --layout twin-ptbxl`
    """
    from ecgforge.data.ptbxl_layout import require_layout
    from ecgforge.data.store import EcgStore
    from ecgforge.sampling import SamplingOptions
    from ecgforge.twin import copy_store, write_layout

    options = SamplingOptions(
        sampler=name_of(sampler),
        steps=steps,
        batch_size=batch_size,
        guidance=guidance,
        guidance_interval=interval_of(guidance_interval),
        precision=precision.value,
    )
    chosen = None if folds is None else parse_folds(folds)
    store = EcgStore.open(data)
    if layout is not None:
        _require_apart(layout, out)
        require_layout(layout, rates=(round(store.rate),))
    finished = out.exists()
    started = time.monotonic()
    if not finished:
        note(
            "For a model that knows the heart rate, those of the originals are measured first: some milliseconds each."
        )
    with progress_bar("Copying") as progress:
        twin = copy_store(
            store,
            out,
            model=model,
            folds=chosen,
            seed=seed,
            options=options,
            processes=processes,
            device=device,
            progress=progress,
        )
    if finished:
        note(f"{out} is this twin already, {len(twin)} synthetic records; nothing was sampled")
    else:
        note(f"{len(twin)} synthetic records in {out}, {time.monotonic() - started:.0f} s")
    if layout is not None:
        with progress_bar("Writing the layout") as progress:
            write_layout(twin, layout, progress=progress)
        note(f"the same in PTB-XL's layout: {layout}")


def _require_apart(layout: Path, out: Path) -> None:
    """Neither may be written into the other."""
    ours, theirs = layout.resolve(), out.resolve()
    if ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
        raise ConfigError(f"expected --layout outside --out and the reverse, got {layout} and {out}; choose another")
