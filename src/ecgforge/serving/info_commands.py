"""`ecgforge models`: what comes with the package, and where it is."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from ecgforge.checkpoints.locate import HUB_PREFIX, SHIPPED
from ecgforge.config import load_json
from ecgforge.errors import CheckpointError
from ecgforge.serving.notes import note


@dataclass(frozen=True)
class ModelFacts:
    """What `ecgforge models` says about a model.

    Attributes:
        name: What `--model` takes.
        model: Name of the preset it was trained by.
        folder: Where it is.
        card: What it can do, what it cannot, and what it was trained on.
        licence: Of its weights.
        weights_bytes: Size of the weights file.
        weights_sha256: Their checksum, just computed and found to be the recorded one.
        network: Kind of network.
        statements: How many statements it knows.
        rate_hz: Samples per second of its records.
        trained_on: Data set, folds and budget.
    """

    name: str
    model: str
    folder: str
    card: str
    licence: str
    weights_bytes: int
    weights_sha256: str
    network: str
    statements: int
    rate_hz: float
    trained_on: str


def describe_model(folder: Path, *, name: str, licence: str) -> ModelFacts:
    """Facts of a model folder, read without loading the network.

    Raises:
        CheckpointError: the weights are missing or not those the folder was written with.
    """
    config, weights = load_json(folder / "config.json"), folder / "model.safetensors"
    try:
        with weights.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise CheckpointError(
            f"expected the weights {weights}: {problem.strerror}; install ecgforge again"
        ) from problem
    if checksum != config["weights_sha256"]:
        raise CheckpointError(
            f"expected the weights {weights} with SHA-256 {config['weights_sha256']}, got {checksum}: the file is "
            "damaged; install ecgforge again"
        )
    return ModelFacts(
        name=name,
        model=config["name"],
        folder=str(folder),
        card=str(folder / "README.md"),
        licence=licence,
        weights_bytes=weights.stat().st_size,
        weights_sha256=checksum,
        network=config["network"]["kind"],
        statements=len(config["labels"]),
        rate_hz=config["rate"],
        trained_on=config["trained_on"],
    )


def models(
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON a model.")] = False,
) -> None:
    """List the models that come with ecgforge: where they are, their licence, checksum and training data.

    Checks the weights' checksum on the way. Uses no network.
    """
    for name, shipped in SHIPPED.items():
        facts = describe_model(shipped.folder, name=name, licence=shipped.licence)
        typer.echo(json.dumps(asdict(facts)) if as_json else _text_of(facts))
    if not as_json:
        note("\nThe models above came with ecgforge: nothing is downloaded, and no network is used.")
        note(f"One of the Hugging Face hub is fetched only where you ask for it: --model {HUB_PREFIX}owner/name")


def _text_of(facts: ModelFacts) -> str:
    lines = {
        "model": f"{facts.model} ({facts.network}, {facts.statements} statements, {facts.rate_hz:g} Hz)",
        "folder": facts.folder,
        "weights": f"{facts.weights_bytes / 1e6:.1f} MB, SHA-256 {facts.weights_sha256}, checked",
        "trained on": facts.trained_on,
        "licence": facts.licence,
        "more": facts.card,
    }
    return "\n".join([facts.name, *(f"  {key:<11}{value}" for key, value in lines.items())])
