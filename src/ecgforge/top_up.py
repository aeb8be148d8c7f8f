"""Rare statements topped up with synthetic records, as data augmentation for a classifier.

    signals, statements, is_synthetic = top_up(signals, statements, generator=Generator.load(), minimum=200)

Every added record has the statement set of a real record that has the rare statement, so statements keep the company
they are found in. Add to training records only: validation and test sets have to stay as they were measured.

With label matrices, and in scikit-learn's manner: TopUp(generator, minimum=200).fit_resample(X, Y).
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from ecgforge.data.store import EcgStore, StoreWriter
from ecgforge.errors import ConfigError, DataError
from ecgforge.generate import Generator
from ecgforge.labels import LabelVocabulary, Statements, all_statements, read_statements
from ecgforge.leads import STANDARD_LEADS
from ecgforge.rng import Purpose, record_stream
from ecgforge.sampling import Job, SamplingOptions

Progress = Callable[[int, int], None]


class ToppedUp(NamedTuple):
    """Real records and, after them, the synthetic ones.

    Attributes:
        signals: (N, 12, L) float32, standard lead order, mV.
        statements: N statement sets with grades.
        is_synthetic: (N,) False for the records given, True for those added.
    """

    signals: Float[np.ndarray, "N 12 L"]
    statements: list[dict[str, float]]
    is_synthetic: Bool[np.ndarray, " N"]


def plan_top_up(
    statements: Sequence[Mapping[str, float]], *, vocabulary: LabelVocabulary, minimum: int, seed: int = 0
) -> Int[np.ndarray, " M"]:
    """Whose statements the records to be added take: numbers of real records, one for each record to add.

    Statements are gone through from the rarest on. Each draws from the real records that have it until it has
    `minimum` records, real and added together, and what an added record has besides counts as well. A statement
    that no real record has stays at none, and one outside the vocabulary as it is.

    Args:
        statements: One set a record.
        vocabulary: What the model knows.
        minimum: Records wanted of each statement.
        seed: Of the draws.

    Raises:
        ConfigError: minimum is below 1, or the seed is out of range.
        LabelError: a statement does not exist.
    """
    if minimum < 1:
        raise ConfigError(f"expected a minimum of 1 or more records a statement, got {minimum}")
    known = [[code for code in entry if vocabulary.label_of(code)] for entry in statements]
    having: dict[str, list[int]] = {}
    for number, codes in enumerate(known):
        for code in codes:
            having.setdefault(code, []).append(number)
    counts = Counter({code: len(numbers) for code, numbers in having.items()})
    taken: list[int] = []
    order = list(all_statements())
    for code in sorted(having, key=lambda code: (len(having[code]), order.index(code))):
        stream = record_stream(seed, order.index(code), purpose=Purpose.TOP_UP)
        while counts[code] < minimum:
            number = int(stream.choice(having[code]))
            taken.append(number)
            counts.update(known[number])
    return np.array(taken, dtype=np.int64)


def top_up(
    signals: Float[np.ndarray, "N 12 L"],
    statements: Sequence[Statements],
    *,
    generator: Generator,
    minimum: int,
    seed: int = 0,
    options: SamplingOptions = SamplingOptions(),
    progress: Progress | None = None,
) -> ToppedUp:
    """Add synthetic records for every statement that fewer than `minimum` records have; see plan_top_up.

    Args:
        signals: Real records at the generator's rate and length, standard lead order, mV.
        statements: Their N statement sets, "NORM,SR" or {"NORM": 1.0}; "" or {} where there are none.
        generator: Makes the records. Statements it does not know are left out of them.
        minimum: Records wanted of each statement.
        seed: The same seed adds the same records.
        options: Sampler, steps, batch size.
        progress: Called with (steps done, steps in all).

    Raises:
        DataError: numbers of signals and statement sets differ, or the signals are not 12 leads of the length that
            the generator makes.
        ConfigError: minimum, seed or options are out of range.
        LabelError: a statement does not exist, or a grade is not above 0 and at most 1.
    """
    _require_own_length(options)
    shape = (len(statements), len(STANDARD_LEADS), generator.length)
    if signals.shape != shape:
        raise DataError(
            f"expected signals of shape {shape}, one for each statement set and as long as the generator's, got "
            f"{signals.shape}; resample to {generator.config.rate:g} Hz or cut them"
        )
    given = [read_statements(entry) if entry else {} for entry in statements]
    taken = plan_top_up(given, vocabulary=generator.config.vocabulary, minimum=minimum, seed=seed)
    jobs = _jobs(given, taken, generator.config.vocabulary)
    added = np.empty((len(jobs), *shape[1:]), dtype=np.float32)
    for number, record in enumerate(generator.sample_each(jobs, seed=seed, options=options, progress=progress)):
        added[number] = record.in_leads()
    return ToppedUp(
        signals=np.concatenate([signals.astype(np.float32, copy=False), added]),
        statements=[*given, *(dict(job.statements) for job in jobs)],
        is_synthetic=np.repeat([False, True], [len(given), len(jobs)]),
    )


def top_up_store(
    store: EcgStore,
    dest: Path,
    *,
    generator: Generator,
    minimum: int,
    folds: Collection[int] | None = None,
    seed: int = 0,
    options: SamplingOptions = SamplingOptions(),
    progress: Progress | None = None,
) -> EcgStore:
    """Write the synthetic records that top up a store's rare statements into a store of their own.

    Args:
        store: The real records.
        dest: Store to write.
        generator: Makes the records. Statements it does not know are left out of them.
        minimum: Records wanted of each statement, in the chosen folds.
        folds: The folds to learn from, None for all; the others are neither counted nor drawn from.
        seed: The same seed adds the same records.
        options: Sampler, steps, batch size.
        progress: Called with (steps done, steps in all).

    Returns:
        The synthetic records. The column `source_file` of its index names the record whose statements each one has,
        and they are in that record's fold.

    Raises:
        DataError: dest exists, the store is not at the generator's rate, or every statement has its minimum.
        ConfigError: minimum, seed or options are out of range.
    """
    _require_own_length(options)
    if store.rate != generator.config.rate:
        raise DataError(f"expected a store at the model's {generator.config.rate:g} Hz, got {store.rate:g} Hz")
    rows = store.rows(folds=folds)
    given = [read_statements(text) if text else {} for text in store.index["statements"].iloc[rows]]
    vocabulary = generator.config.vocabulary
    taken = plan_top_up(given, vocabulary=vocabulary, minimum=minimum, seed=seed)
    if len(taken) == 0:
        raise DataError(f"expected statements of fewer than {minimum} records in {store.path}, got none; add nothing")
    jobs = _jobs(given, taken, vocabulary)
    with StoreWriter(
        dest,
        rate=generator.config.rate,
        samples=generator.length,
        source=f"ecgforge model {generator.config.name} {generator.config.weights_sha256[:12]}",
        source_version=f"to top up {store.manifest.full_source}",
        records=len(jobs),
        synthetic=True,
        options={"minimum": minimum, "seed": seed},
    ) as writer:
        made = generator.sample_each(jobs, seed=seed, options=options, progress=progress)
        for record, row in zip(made, rows[taken], strict=True):
            original = store.record(int(row))
            origin = replace(record.provenance, fold=original.provenance.fold)
            writer.add(replace(record, provenance=origin), source_file=original.record_id)
    return EcgStore.open(dest)


class TopUp:
    """top_up on label matrices, with the method of imbalanced-learn's samplers; usable in its Pipeline.

    Args:
        generator: Makes the records; its label vocabulary is what the columns of Y mean.
        minimum: Records wanted of each label.
        seed: The same seed adds the same records.
        options: Sampler, steps, batch size.

    Attributes:
        is_synthetic_: (N,) which records of the last result were added.
    """

    def __init__(
        self, generator: Generator, minimum: int, seed: int = 0, options: SamplingOptions = SamplingOptions()
    ) -> None:
        self.generator = generator
        self.minimum = minimum
        self.seed = seed
        self.options = options

    def __sklearn_clone__(self) -> "TopUp":
        # scikit-learn would copy the network; nothing changes a generator, so that all copies may share it.
        return TopUp(self.generator, self.minimum, self.seed, self.options)

    def fit_resample(
        self, X: Float[np.ndarray, "N 12 L"], Y: Shaped[np.ndarray, "N K"]
    ) -> tuple[Float[np.ndarray, "M 12 L"], Shaped[np.ndarray, "M K"]]:
        """X and Y with synthetic records after the real ones; Y keeps its dtype.

        Args:
            X: As `signals` of top_up.
            Y: 1 or a grade above 0 where a label is present, 0 where it is absent; a column a label of the generator.

        Raises:
            DataError: Y has other columns than the generator has labels, and as top_up.
            ConfigError: the generator's labels are classes of statements, and as top_up.
            LabelError: as top_up.
        """
        labels = self.generator.config.vocabulary
        if labels.name in ("subdiagnostic", "superdiagnostic"):
            raise ConfigError(
                f"expected a generator whose labels are statements, got the classes {labels.describe()}, which do not "
                "tell what to ask for; use top_up with the statements themselves"
            )
        if Y.shape[1] != len(labels):
            raise DataError(
                f"expected a column in Y for each of the generator's labels {labels.describe()}, got {Y.shape[1]}"
            )
        found = top_up(
            X,
            [labels.decode(row) for row in Y.astype(np.float32)],
            generator=self.generator,
            minimum=self.minimum,
            seed=self.seed,
            options=self.options,
        )
        self.is_synthetic_ = found.is_synthetic
        added = [labels.encode(entry) for entry in found.statements[len(Y) :]]
        rows = np.array(added, dtype=np.float32).reshape(-1, len(labels))
        return found.signals, np.concatenate([Y, rows.astype(Y.dtype)])


def _require_own_length(options: SamplingOptions) -> None:
    if options.duration is not None:
        raise ConfigError("expected no duration: the records that are added are as long as the generator's")


def _jobs(given: Sequence[Mapping[str, float]], taken: Int[np.ndarray, " M"], vocabulary: LabelVocabulary) -> list[Job]:
    known = [{code: grade for code, grade in given[n].items() if vocabulary.label_of(code)} for n in taken.tolist()]
    return [Job(index, statements) for index, statements in enumerate(known)]
