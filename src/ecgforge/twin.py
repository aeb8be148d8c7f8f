"""The synthetic twin of a data set: one synthetic record per record, with the same statements and fold.

A model that knows facts is asked for the original's age, sex and heart rate as well.

Finished parts of a copy are kept beside it in DEST.parts until the store is whole, so that a copy that was stopped
goes on where it was. What a copy is made of stands in DEST.parts/copy.json and, once it is whole, in its manifest: the
parts and the twin of another copy are never taken for its own.

Record i of the twin is drawn from stream i of the seed, i being the row of its original: the twin of a part of a data
set is part of the twin of all of it.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int, Int16

from ecgforge import config as configuration
from ecgforge.checkpoints.native import ModelConfig
from ecgforge.data.manifest import Scalar
from ecgforge.data.ptbxl_layout import write_ptbxl
from ecgforge.data.store import EcgStore, StoreWriter, to_microvolts
from ecgforge.errors import DataError
from ecgforge.facts import Facts
from ecgforge.generate import Generator
from ecgforge.models.patch_s4 import PatchS4Config
from ecgforge.parallel import sample_jobs
from ecgforge.r_peaks import measure_facts
from ecgforge.record import EcgRecord, Patient
from ecgforge.sampling import Job, SamplingOptions

_PART = 64  # records; at most this many are lost with a crash
_FIRST_ECG_ID = 100_001  # above PTB-XL's own numbers, so that the two are never taken for each other

Progress = Callable[[int, int], None]


def copy_store(
    store: EcgStore,
    dest: Path,
    *,
    model: Path | None = None,
    folds: Sequence[int] | None = None,
    seed: int = 0,
    options: SamplingOptions = SamplingOptions(),
    processes: int | None = 1,
    device: str = "cpu",
    progress: Progress | None = None,
) -> EcgStore:
    """Make the synthetic twin of a data set; the same call again resumes one that was stopped and opens a finished one.

    Args:
        store: The real records.
        dest: Store to write.
        model: Model folder, None for the default.
        folds: Copy only these folds; None copies all.
        seed: Of all draws.
        options: Sampler, steps, batch size.
        processes: Worker processes of one thread each; None takes one a core where that pays.
        device: Where they sample.
        progress: Called with (records done, records in all).

    Returns:
        The twin. Its record ids are `twin-ID`, the column `source_file` of its index names the original's ID.
        Statements outside the model's vocabulary are left out of twin and request alike.

    Raises:
        DataError: there is nothing to copy, dest is something else than this twin, the store's rate is not the
            model's, or DEST.parts belongs to another copy.
        CheckpointError, ConfigError: as Generator.
    """
    generator = Generator.load(model, device=device)
    described = generator.config
    if described.rate != store.rate:
        raise DataError(f"expected a store at the model's {described.rate:g} Hz, got {store.rate:g} Hz")
    rows = store.rows(folds=tuple(folds)) if folds is not None else np.arange(len(store))
    if not len(rows):
        raise DataError(f"expected records to copy, {store.path} has none in folds {folds}")
    identity = _identity(store, generator, rows=rows, seed=seed, options=options)
    if dest.exists():
        return _open_finished(dest, identity)
    parts = dest.with_name(dest.name + ".parts")
    _claim(parts, identity)
    jobs = [_job_of(store, int(row), described) for row in rows]
    chunks = [jobs[start : start + _PART] for start in range(0, len(jobs), _PART)]
    pending = [number for number in range(len(chunks)) if not _part_path(parts, number).is_file()]
    todo = [job for number in pending for job in chunks[number]]
    done_before = len(jobs) - len(todo)
    if todo:
        records = sample_jobs(
            todo,
            seed=seed,
            options=options,
            model=model,
            weights_sha256=described.weights_sha256,
            device=device,
            processes=processes,
        )
        done = done_before
        for number in pending:
            finished = list(islice(records, len(chunks[number])))
            _write_part(_part_path(parts, number), finished)
            done += len(finished)
            if progress:
                progress(done, len(jobs))
    _assemble(store, dest, described, chunks, parts, seed=seed, identity=identity)
    shutil.rmtree(parts)
    return EcgStore.open(dest)


def _job_of(store: EcgStore, row: int, model: ModelConfig) -> Job:
    """What the model can be asked of a record: its statements, and its age, sex and heart rate."""
    record = store.record(row)
    statements = {code: grade for code, grade in record.statements.items() if model.vocabulary.label_of(code)}
    known = model.network.facts if isinstance(model.network, PatchS4Config) else ()
    return Job(row, statements, measure_facts(record).only(known) if known else Facts())


def _identity(
    store: EcgStore, generator: Generator, *, rows: Int[np.ndarray, " N"], seed: int, options: SamplingOptions
) -> dict[str, Scalar]:
    """What must be equal for a copy to be the same copy; the model's defaults in place of what was left open."""
    plan = generator.plan(options)
    return {
        "original_signals": store.manifest.sha256["signals.npy"],
        "original_statements": store.manifest.sha256["index.csv"],
        "model": generator.config.weights_sha256,
        "rows": hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest(),
        "seed": seed,
        "sampler": plan.sampler if plan.levels else None,  # a network of one call has none
        "steps": plan.steps,
        "others": options.others,
        "duration": options.duration,
        "precision": options.precision,
        "guidance": plan.guidance,
        # As text: JSON has no tuples, and what is read back must equal what was written.
        "guidance_interval": ":".join(map(str, plan.guidance_interval)) if plan.guidance_interval else None,
    }


def _require_same(identity: Mapping[str, Scalar], there: Mapping[str, object], what: str) -> None:
    differing = [key for key in identity if there.get(key) != identity[key]]
    if differing:
        # Of one data set, other rows can only come from other folds.
        words = ("folds" if key == "rows" else key.replace("_", " ") for key in differing)
        raise DataError(
            f"{what} (other {', '.join(words)}); repeat the command it was started with, choose another name, or "
            "remove it"
        )


def _open_finished(dest: Path, identity: Mapping[str, Scalar]) -> EcgStore:
    """The store that is there already, where it is the twin that is asked for."""
    twin = EcgStore.open(dest) if (dest / "manifest.json").is_file() else None
    if twin is None or "original_signals" not in twin.manifest.options:
        raise DataError(f"expected a new store as destination, {dest} exists; choose another name or remove it")
    _require_same(identity, twin.manifest.options, f"{dest} holds another copy")
    return twin


def _claim(parts: Path, identity: Mapping[str, Scalar]) -> None:
    """Make the folder of parts this copy's own, or make sure that it is."""
    path = parts / "copy.json"
    if path.is_file():
        _require_same(identity, configuration.load_json(path), f"{parts} holds parts of another copy")
        return
    parts.mkdir(parents=True, exist_ok=True)
    configuration.write_json(identity, path)


def _part_path(parts: Path, number: int) -> Path:
    return parts / f"{number:05d}.npy"


def _write_part(path: Path, records: Sequence[EcgRecord]) -> None:
    unfinished = path.with_name(f".{path.name}.tmp.npy")
    np.save(unfinished, np.stack([_microvolts_of(record) for record in records]))
    unfinished.replace(path)


def _microvolts_of(record: EcgRecord) -> Int16[np.ndarray, "12 L"]:
    try:
        return to_microvolts(record.in_leads())
    except DataError as problem:
        raise DataError(
            f"the model failed at {record.record_id}: {problem}; the same command makes the same record, so take "
            "another --seed or --sampler, less --guidance, or train the model further"
        ) from problem


def _assemble(
    store: EcgStore,
    dest: Path,
    model: ModelConfig,
    chunks: Sequence[Sequence[Job]],
    parts: Path,
    *,
    seed: int,
    identity: Mapping[str, Scalar],
) -> None:
    total = sum(map(len, chunks))
    first = np.load(_part_path(parts, 0), mmap_mode="r")
    with StoreWriter(
        dest,
        rate=model.rate,
        samples=first.shape[-1],
        source=f"ecgforge model {model.name} {model.weights_sha256[:12]}",
        source_version=f"twin of {store.manifest.source} {store.manifest.source_version}".strip(),
        records=total,
        synthetic=True,
        options=identity,
    ) as writer:
        for number, chunk in enumerate(chunks):
            signals = np.load(_part_path(parts, number))
            for job, microvolts in zip(chunk, signals, strict=True):
                original = store.record(job.index)
                record = _twin_of(original, microvolts, job, seed=seed)
                quality = store.index["label_quality"].iloc[job.index]
                writer.add(
                    record,
                    source_file=original.record_id,
                    label_quality=None if pd.isna(quality) else int(quality),
                )


def _twin_of(original: EcgRecord, microvolts: np.ndarray, job: Job, *, seed: int) -> EcgRecord:
    """The record with the patient facts the model was asked for; with others its signal need not agree."""
    return EcgRecord(
        signal=microvolts.astype(np.float32) / 1000,
        rate=original.rate,
        record_id=f"twin-{original.record_id}",
        statements=job.statements,
        patient=Patient(age=job.facts.age, sex=job.facts.sex),
        provenance=replace(
            original.provenance,
            synthetic=True,
            source=f"twin of {original.provenance.source}",
            seed=seed,
            index=job.index,
        ),
    )


def write_layout(twin: EcgStore, dest: Path, *, progress: Progress | None = None) -> Path:
    """Write a store in PTB-XL's folder layout; its records are numbered from 100,001 in their order.

    Raises:
        ConfigError: the store is not at 100 or 500 Hz.
        DataError: dest is not empty or cannot be written.
    """

    def numbered() -> Iterator[EcgRecord]:
        for row in range(len(twin)):
            yield replace(twin.record(row), record_id=str(_FIRST_ECG_ID + row))

    return write_ptbxl(numbered(), dest, rates=(round(twin.rate),), total=len(twin), progress=progress)
