"""Is a store what it says it is, and what is in it?"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int16

from ecgforge.data.manifest import STORE_FILES, Progress, sha256_of
from ecgforge.data.store import LARGEST_UV, EcgStore
from ecgforge.labels import LABEL_SETS, all_statements, vocabulary
from ecgforge.leads import STANDARD_LEADS, lead_law_residual

LEAD_LAW_TOLERANCE_UV = 20.0
OLDEST_PUBLISHED_AGE = 300.0  # PTB-XL's code for "90 or older"

_BLOCK = 512  # records read at a time
_SHOWN = 8  # record ids named in a finding


@dataclass(frozen=True)
class LeadFinding:
    """Something about one lead of one record.

    Attributes:
        record_id: The record.
        lead: The lead.
        samples: Number of samples concerned.
    """

    record_id: str
    lead: str
    samples: int

    def __str__(self) -> str:
        return f"{self.record_id} {self.lead}"


@dataclass(frozen=True)
class LeadLawViolation:
    """A record whose limb leads do not follow from I and II.

    Attributes:
        record_id: The record.
        residual_uv: Largest violation over time, uV.
    """

    record_id: str
    residual_uv: float

    def __str__(self) -> str:
        return f"{self.record_id} by {self.residual_uv:g} uV"


@dataclass(frozen=True)
class StoreVerdict:
    """What verify_store found; empty where all is well.

    Attributes:
        records: Records looked at.
        checksum_mismatches: Files that are not what the manifest says.
        invalid_values: Leads with int16's -32768, the mark of a missing sample elsewhere; no store holds it.
        duplicate_ids: Record ids that occur more than once.
        unknown_labels: Statements of the index that are outside the manifest's vocabulary, or cannot be read.
        flat_leads: Leads with one value throughout.
        lead_law_violations: Records that break Einthoven's or Goldberger's laws by more than 20 uV.
        clipped: Leads with values at the ends of the int16 range (+-32.767 mV).
        patients_in_several_folds: Patient ids in more than one fold.
    """

    records: int
    checksum_mismatches: tuple[str, ...]
    invalid_values: tuple[LeadFinding, ...]
    duplicate_ids: tuple[str, ...]
    unknown_labels: tuple[str, ...]
    flat_leads: tuple[LeadFinding, ...]
    lead_law_violations: tuple[LeadLawViolation, ...]
    clipped: tuple[LeadFinding, ...]
    patients_in_several_folds: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """False where the store must be built again."""
        return not self.errors

    @property
    def errors(self) -> tuple[str, ...]:
        """What makes the store unusable, a line each."""
        return _lines(
            ("files that do not match their checksums", self.checksum_mismatches),
            ("leads with missing samples (-32768)", self.invalid_values),
            ("record ids that occur more than once", self.duplicate_ids),
            ("statements outside the vocabulary", self.unknown_labels),
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know, a line each."""
        return _lines(
            ("flat leads", self.flat_leads),
            (
                f"records that break the lead laws by more than {LEAD_LAW_TOLERANCE_UV:g} uV",
                self.lead_law_violations,
            ),
            ("leads clipped at +-32.767 mV", self.clipped),
            ("patients in more than one fold", self.patients_in_several_folds),
        )


def _lines(*findings: tuple[str, tuple[object, ...]]) -> tuple[str, ...]:
    return tuple(f"{what}: {len(found)} ({_some(found)})" for what, found in findings if found)


def _some(found: tuple[object, ...]) -> str:
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(map(str, found[:_SHOWN])) + more


def verify_store(store: EcgStore, *, progress: Progress | None = None) -> StoreVerdict:
    """Check a store's files, signals and index.

    Args:
        store: The store.
        progress: Called as progress(records done, records).
    """
    checks = _SignalChecks(store)
    for start, block in _blocks(store):
        checks.look_at(start, block)
        if progress is not None:
            progress(start + len(block), len(store))
    ids = store.index["record_id"]
    return StoreVerdict(
        records=len(store),
        checksum_mismatches=_checksum_mismatches(store),
        invalid_values=tuple(checks.invalid),
        duplicate_ids=tuple(ids[ids.duplicated()].unique()),
        unknown_labels=_unknown_labels(store),
        flat_leads=tuple(checks.flat),
        lead_law_violations=tuple(checks.lead_law),
        clipped=tuple(checks.clipped),
        patients_in_several_folds=_patients_in_several_folds(store),
    )


def _blocks(store: EcgStore) -> Iterator[tuple[int, Int16[np.ndarray, "B 12 L"]]]:
    for start in range(0, len(store), _BLOCK):
        yield start, np.asarray(store.signals[start : start + _BLOCK])


class _SignalChecks:
    """Findings in the signals, gathered block by block."""

    def __init__(self, store: EcgStore) -> None:
        self._ids = store.index["record_id"].tolist()
        self.invalid: list[LeadFinding] = []
        self.flat: list[LeadFinding] = []
        self.clipped: list[LeadFinding] = []
        self.lead_law: list[LeadLawViolation] = []

    def look_at(self, start: int, block: Int16[np.ndarray, "B 12 L"]) -> None:
        lowest, highest = block.min(axis=-1), block.max(axis=-1)
        flat = np.where(lowest == highest, block.shape[-1], 0)
        # Only the few blocks that touch the range's ends are counted sample by sample.
        extreme = highest.max() == LARGEST_UV or lowest.min() <= -LARGEST_UV
        if extreme:
            self._add(self.invalid, start, (block == -LARGEST_UV - 1).sum(axis=-1))
            self._add(self.clipped, start, (np.abs(block.astype(np.int32)) == LARGEST_UV).sum(axis=-1))
        self._add(self.flat, start, flat)
        residuals = lead_law_residual(block.astype(np.float32))
        for row in np.flatnonzero(residuals > LEAD_LAW_TOLERANCE_UV):
            self.lead_law.append(LeadLawViolation(self._ids[start + row], float(residuals[row])))

    def _add(self, findings: list[LeadFinding], start: int, samples: np.ndarray) -> None:
        for row, lead in np.argwhere(samples > 0):
            findings.append(LeadFinding(self._ids[start + row], STANDARD_LEADS[lead], int(samples[row, lead])))


def _checksum_mismatches(store: EcgStore) -> tuple[str, ...]:
    listed = store.manifest.sha256
    wrong = [
        name
        for name, sha256 in listed.items()
        if not (store.path / name).is_file() or sha256_of(store.path / name) != sha256
    ]
    unlisted = [
        name for name in STORE_FILES if name != "manifest.json" and name not in listed and (store.path / name).exists()
    ]
    return tuple(wrong + unlisted)


def _codes(text: str) -> list[str]:
    return [part.partition(":")[0].strip() for part in text.split(",") if part.strip()]


def _unknown_labels(store: EcgStore) -> tuple[str, ...]:
    used = {code for text in store.index["statements"].unique() for code in _codes(text)}
    known = set(store.manifest.labels) & set(all_statements())
    return tuple(sorted(used - known))


def _patients_in_several_folds(store: EcgStore) -> tuple[str, ...]:
    known = store.index[(store.index["patient_id"] != "") & store.index["fold"].notna()]
    folds = known.groupby("patient_id")["fold"].nunique()
    return tuple(sorted(folds.index[folds > 1]))


@dataclass(frozen=True)
class StoreDescription:
    """What is in a store.

    Attributes:
        source: Data set or model, with version.
        synthetic: True if not measured on persons.
        records: Number of records.
        rate: Samples per second (Hz).
        seconds: Length of a record (s).
        patients: Number of different patient ids (records without one not counted).
        folds: Records by fold.
        sexes: Records by sex, "unknown" included.
        ages: Median and quartiles of the known ages below 300 (years), None where none is known.
        ages_90_or_older: Records with PTB-XL's age 300.
        ages_unknown: Records without an age.
        label_qualities: Records by label quality, where known.
        statements: Records by statement, canonical order, statements that occur.
        label_sets: By label set, how many of its labels occur and how many there are.
        report: Records by action in the report of the build.
        created_by: Program that built it.
    """

    source: str
    synthetic: bool
    records: int
    rate: float
    seconds: float
    patients: int
    folds: dict[int, int]
    sexes: dict[str, int]
    ages: tuple[float, float, float] | None
    ages_90_or_older: int
    ages_unknown: int
    label_qualities: dict[int, int]
    statements: dict[str, int]
    label_sets: dict[str, tuple[int, int]]
    report: dict[str, int]
    created_by: str


def describe_store(store: EcgStore) -> StoreDescription:
    """Count what is in a store, from its manifest and index."""
    index, manifest = store.index, store.manifest
    known = index["age"].dropna()
    ages = known[known < OLDEST_PUBLISHED_AGE]
    quartiles = np.quantile(ages, (0.25, 0.5, 0.75)) if len(ages) else None
    sexes = index["sex"].replace("", "unknown").value_counts()
    return StoreDescription(
        source=manifest.full_source,
        synthetic=manifest.synthetic,
        records=len(store),
        rate=store.rate,
        seconds=store.samples / store.rate,
        patients=int(index.loc[index["patient_id"] != "", "patient_id"].nunique()),
        folds=_counts(store, "fold"),
        sexes={sex: int(sexes.get(sex, 0)) for sex in ("female", "male", "unknown")},
        ages=None if quartiles is None else (float(quartiles[0]), float(quartiles[1]), float(quartiles[2])),
        ages_90_or_older=int((known >= OLDEST_PUBLISHED_AGE).sum()),
        ages_unknown=len(index) - len(known),
        label_qualities=_counts(store, "label_quality"),
        statements=_statement_counts(store),
        label_sets=_label_set_coverage(store),
        report=dict(manifest.report_counts),
        created_by=manifest.created_by,
    )


def _counts(store: EcgStore, column: str) -> dict[int, int]:
    counts = store.index[column].dropna().value_counts().sort_index()
    return dict(zip(counts.index.astype(int).tolist(), counts.astype(int).tolist(), strict=True))


def _statement_counts(store: EcgStore) -> dict[str, int]:
    counts = dict.fromkeys(all_statements(), 0)
    for text, number in store.index["statements"].value_counts().items():
        for code in _codes(str(text)):
            counts[code] = counts.get(code, 0) + int(number)
    return {code: number for code, number in counts.items() if number}


def _label_set_coverage(store: EcgStore) -> dict[str, tuple[int, int]]:
    present = [code for code in _statement_counts(store) if code in all_statements()]
    coverage = {}
    for name in LABEL_SETS:
        labels = vocabulary(name)
        occurring = {label for label in map(labels.label_of, present) if label is not None}
        coverage[name] = (len(occurring), len(labels))
    return coverage
