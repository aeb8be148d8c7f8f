"""A store: the folder every data set becomes, and what training, copying and evaluation read.

    NAME/signals.npy    int16 microvolts, (N, 12, L), leads in standard order; memory-mapped
    NAME/index.csv      a row a record: who, which fold, which statements
    NAME/report.csv     what was off in the source, record by record (only where something was)
    NAME/manifest.json  sizes, units, origin, label codes and checksums; written last

A build happens in the sibling folder NAME.building, which becomes NAME only when it is complete. So a folder
with a manifest is a finished store, and an interrupted or failing build leaves an existing store as it was.
"""

import contextlib
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import TracebackType

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32, Int, Int16

from ecgforge.data.building import move_into_place, remove_store, require_free
from ecgforge.data.manifest import (
    FORMAT_VERSION,
    INDEX_COLUMNS,
    BuildSummary,
    Progress,
    Reading,
    ReportEntry,
    Scalar,
    StoreManifest,
    count_actions,
    encode_statements,
    index_row,
    read_index,
    record_from_row,
    sha256_of,
    write_report,
)
from ecgforge.errors import DataError
from ecgforge.labels import LabelVocabulary, all_statements
from ecgforge.leads import STANDARD_LEADS
from ecgforge.record import EcgRecord

LARGEST_UV = 32767
_FIRST_CAPACITY = 1024


class StoreWriter:
    """Writes a store record by record; a context manager.

    A clean exit finishes the store and gives it its name; an exception removes everything written.

    Args:
        dest: Folder of the store to be.
        rate: Samples per second (Hz) of every record.
        samples: Samples per lead of every record.
        source: Data set or model the records come from, e.g. "PTB-XL".
        source_version: Its version, "" if unknown.
        records: Number of records to come if known; saves growing the file. Fewer or more may come.
        synthetic: True for records that were not measured on a person.
        options: Settings of the build to keep in the manifest.
        overwrite: Replace an existing store, once the new one is complete.
    """

    def __init__(
        self,
        dest: str | Path,
        *,
        rate: int | float,
        samples: int,
        source: str,
        source_version: str = "",
        records: int | None = None,
        synthetic: bool = False,
        options: Mapping[str, Scalar] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.dest = Path(dest)
        self.notes: list[str] = []
        self.report: list[ReportEntry] = []
        self._rate = float(rate)
        self._samples = samples
        self._source = source
        self._source_version = source_version
        self._capacity = records or _FIRST_CAPACITY
        self._synthetic = synthetic
        self._options = dict(options or {})
        self._overwrite = overwrite
        self._building = self.dest.with_name(self.dest.name + ".building")
        self._rows: list[dict[str, object]] = []
        self._seen: set[str] = set()

    def __len__(self) -> int:
        return len(self._rows)

    def __enter__(self) -> "StoreWriter":
        """Start the build.

        Raises:
            DataError: the destination exists and may not be replaced, or cannot be written.
        """
        require_free(self.dest, overwrite=self._overwrite)
        if self._building.exists():
            remove_store(self._building)
            self.notes.append(f"replaced {self._building}, the remains of an interrupted build")
        path = self._building / "signals.npy"
        shape = (self._capacity, len(STANDARD_LEADS), self._samples)
        try:
            self._building.mkdir(parents=True)
            self._signals = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype("<i2"), shape=shape)
        except OSError as error:
            with contextlib.suppress(OSError):
                remove_store(self._building)
            raise DataError(f"the store {self.dest} cannot be written with signals of {shape}: {error}") from error
        self._inode = path.stat().st_ino
        return self

    def add(self, record: EcgRecord, *, source_file: str = "", label_quality: int | None = None) -> None:
        """Append one record; its leads may be in any order.

        Args:
            record: The record, at this store's rate and length.
            source_file: File it was read from, relative to the source folder.
            label_quality: How exact its statements are (2 exact, 1 nearly, 0 partly guessed), if known.

        Raises:
            DataError: id missing or taken, other rate or length, a lead missing, a value not finite or beyond
                +-32.767 mV, or a synthetic record for a store of real ones (or the reverse).
        """
        microvolts = self._checked_microvolts(record)
        if len(self) == self._capacity:
            self._capacity *= 2
            self._resize(self._capacity)
        self._signals[len(self)] = microvolts
        self._seen.add(record.record_id)
        self._rows.append(index_row(record, source_file=source_file, label_quality=label_quality))

    def add_many(self, records: Iterable[EcgRecord]) -> None:
        """Append records one by one; raises as `add` does."""
        for record in records:
            self.add(record)

    def add_readings(
        self,
        readings: Iterable[Reading],
        *,
        total: int,
        strict: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Append what a reader of a data set found; what does not fit goes to the report and is left out.

        Args:
            readings: Records with what was off about them.
            total: Number of readings, for `progress`.
            strict: Turn the first problem into an error.
            progress: Called as progress(done, total).

        Raises:
            DataError: `strict` and something was off.
        """
        for done, reading in enumerate(readings, start=1):
            entries = list(reading.entries)
            if reading.record is not None:
                try:
                    self.add(reading.record, source_file=reading.source_file, label_quality=reading.label_quality)
                except DataError as error:
                    entries = [ReportEntry(reading.record.record_id, reading.source_file, "left out", str(error))]
            if strict and entries:
                raise DataError(f"{entries[0]}; correct it, or build without strict to go on with a report")
            self.report.extend(entries)
            if progress is not None:
                progress(done, total)

    def summary(self) -> BuildSummary:
        """What this build did."""
        return BuildSummary(self.dest, len(self), tuple(self.report), tuple(self.notes))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        finished = False
        try:
            if kind is None:
                self._finish()
                finished = True
        finally:
            if not finished and self._owns_building():
                remove_store(self._building)

    def _checked_microvolts(self, record: EcgRecord) -> Int16[np.ndarray, "12 L"]:
        if not record.record_id:
            raise DataError("expected a record id, got none; give every record of a store its own id")
        if record.record_id in self._seen:
            raise DataError(f"record id {record.record_id} occurs twice; the first one is kept")
        if record.rate != self._rate or record.signal.shape[1] != self._samples:
            raise DataError(
                f"expected {self._samples} samples at {self._rate:g} Hz, "
                f"got {record.signal.shape[1]} samples at {record.rate:g} Hz"
            )
        if record.provenance.synthetic != self._synthetic:
            kinds = ("measured", "synthetic")
            raise DataError(
                f"expected {kinds[self._synthetic]} records, got a {kinds[record.provenance.synthetic]} one; "
                "keep real and synthetic records in stores of their own"
            )
        return to_microvolts(record.in_leads())

    def _resize(self, records: int) -> None:
        """Give signals.npy room for `records` records (more or fewer) without rewriting it."""
        shape = (records, len(STANDARD_LEADS), self._samples)
        header = io.BytesIO()
        # numpy pads the header so that its length is the same for any number of records.
        np.lib.format.write_array_header_1_0(header, {"descr": "<i2", "fortran_order": False, "shape": shape})
        path = self._building / "signals.npy"
        self._signals.flush()
        with path.open("r+b") as file:
            file.write(header.getvalue())
            file.truncate(header.tell() + 2 * int(np.prod(shape)))
        self._signals = np.lib.format.open_memmap(path, mode="r+")

    def _finish(self) -> None:
        if not self._rows:
            first = f"; the first problem: {self.report[0]}" if self.report else ""
            raise DataError(f"expected at least one usable record for {self.dest}, got none{first}")
        self._require_building()
        self._resize(len(self))
        self._signals.flush()
        # As objects: pandas would turn whole numbers beside missing ones into floats.
        index = pd.DataFrame(self._rows, columns=list(INDEX_COLUMNS), dtype=object)
        index.to_csv(self._building / "index.csv", index=False)
        if self.report:
            write_report(self._building / "report.csv", self.report)
        (self._building / "manifest.json").write_text(self._manifest().to_json(), encoding="utf-8")
        require_free(self.dest, overwrite=self._overwrite)
        move_into_place(self._building, self.dest)

    def _manifest(self) -> StoreManifest:
        files = sorted(path for path in self._building.iterdir() if path.name != "manifest.json")
        return StoreManifest(
            format_version=FORMAT_VERSION,
            records=len(self),
            samples=self._samples,
            rate=self._rate,
            leads=STANDARD_LEADS,
            units="uV",
            source=self._source,
            source_version=self._source_version,
            synthetic=self._synthetic,
            labels=tuple(all_statements()),
            options=self._options,
            report_counts=count_actions(self.report),
            sha256={path.name: sha256_of(path) for path in files},
            created_by=f"ecgforge {metadata.version('ecgforge')}",
        )

    def _owns_building(self) -> bool:
        # The mapped file keeps its inode, so another build that took the folder over has a different one.
        path = self._building / "signals.npy"
        return path.exists() and path.stat().st_ino == self._inode

    def _require_building(self) -> None:
        if not self._owns_building():
            raise DataError(
                f"{self._building} was removed or taken over by another build while this one ran; "
                "run one build at a time per store"
            )


def to_microvolts(signal: Float[np.ndarray, "C L"]) -> Int16[np.ndarray, "C L"]:
    """Signal in mV to whole microvolts, rounded to the nearest.

    Raises:
        DataError: a value is not finite or beyond +-32.767 mV, the range of int16 microvolts.
    """
    microvolts = np.rint(signal.astype(np.float64) * 1000)
    if not np.isfinite(microvolts).all():
        raise DataError(f"expected finite values, got {int((~np.isfinite(microvolts)).sum())} NaN or infinite samples")
    largest = np.abs(microvolts).max(initial=0)
    if largest > LARGEST_UV:
        raise DataError(f"expected values within +-{LARGEST_UV / 1000} mV, got {largest / 1000:g} mV; check the gain")
    return microvolts.astype(np.int16)


class EcgStore:
    """A finished store, read-only.

    Attributes:
        path: Its folder.
        manifest: What it says about itself.
        index: (N rows) record_id, patient_id, fold, age, sex, label_quality, source_file, statements,
            likelihoods, seed, seed_index; unknown text is "", unknown numbers are NA.
        signals: (N, 12, L) int16 microvolts, memory-mapped.
    """

    def __init__(
        self, path: Path, manifest: StoreManifest, index: pd.DataFrame, signals: Int16[np.ndarray, "N 12 L"]
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.index = index
        self.signals = signals

    @classmethod
    def open(cls, path: str | Path) -> "EcgStore":
        """Open the store in a folder.

        Raises:
            DataError: no store is there, or it is unfinished, of another version, or its sizes disagree.
        """
        folder = Path(path)
        manifest = StoreManifest.read(_manifest_path(folder))
        shape = (manifest.records, len(manifest.leads), manifest.samples)
        try:
            signals = np.load(folder / "signals.npy", mmap_mode="r")
            index = read_index(folder / "index.csv")
        except (OSError, EOFError, ValueError) as error:
            raise DataError(f"the store {folder} is damaged ({error}); build it again") from error
        found = (signals.shape, signals.dtype, len(index), manifest.leads)
        expected = (shape, np.dtype("<i2"), manifest.records, STANDARD_LEADS)
        if found != expected:
            raise DataError(
                f"expected signals of shape {shape}, int16, leads in standard order, with {manifest.records} "
                f"index rows in {folder}, got shape {signals.shape}, {signals.dtype}, leads "
                f"{' '.join(manifest.leads)}, {len(index)} rows; build the store again"
            )
        return cls(folder, manifest, index, signals)

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        # A worker process opens the files itself; pickling would send it all signals.
        return (EcgStore.open, (self.path,))

    def __len__(self) -> int:
        return self.manifest.records

    @property
    def rate(self) -> float:
        """Samples per second (Hz)."""
        return self.manifest.rate

    @property
    def samples(self) -> int:
        """Samples per lead."""
        return self.manifest.samples

    def record(self, row: int) -> EcgRecord:
        """The record in one row.

        Raises:
            DataError: no such row.
        """
        if not 0 <= row < len(self):
            raise DataError(f"expected a row from 0 to {len(self) - 1} of {self.path}, got {row}")
        return record_from_row(self.index.iloc[row], self.signals_mv([row])[0], self.manifest)

    def rows(
        self, *, folds: Collection[int] | None = None, min_label_quality: int | None = None
    ) -> Int[np.ndarray, " M"]:
        """Row numbers of a part of the store, ascending.

        Args:
            folds: Folds to take, None for all records.
            min_label_quality: Least label quality to take. Records without one count as exact: a data set as
                published says nothing about it.

        Raises:
            DataError: the store has no such fold.
        """
        taken = np.ones(len(self), dtype=bool)
        if folds is not None:
            existing = sorted(int(fold) for fold in self.index["fold"].dropna().unique())
            unknown = sorted(set(folds) - set(existing))
            if unknown:
                raise DataError(
                    f"expected folds of {self.path}, which has {' '.join(map(str, existing)) or 'none'}, "
                    f"got {' '.join(map(str, unknown))}"
                )
            taken &= self.index["fold"].isin(list(folds)).to_numpy(dtype=bool)
        if min_label_quality is not None:
            quality = self.index["label_quality"]
            taken &= (quality.isna() | (quality >= min_label_quality).fillna(False)).to_numpy(dtype=bool)
        return np.flatnonzero(taken)

    def signals_mv(self, rows: Sequence[int] | Int[np.ndarray, " n"]) -> Float32[np.ndarray, "n 12 L"]:
        """Signals of some rows, mV, in the order asked for."""
        return self.signals[np.asarray(rows, dtype=np.int64)].astype(np.float32) / np.float32(1000)

    def labels(self, vocabulary: LabelVocabulary) -> Float32[np.ndarray, "N K"]:
        """Label vectors of all records: the grade of each statement present (1 in PTB-XL), else 0.

        Raises:
            LabelError: the index names a statement that does not exist.
        """
        return encode_statements(self.index["statements"], vocabulary)


def _manifest_path(folder: Path) -> Path:
    path = folder / "manifest.json"
    if path.is_file():
        return path
    if not folder.exists():
        raise DataError(f"expected a store, got {folder}, which does not exist; make one with `ecgforge data build`")
    raise DataError(
        f"expected a store, got {folder}, which has no manifest.json: it is no store or an unfinished one; "
        "make one with `ecgforge data build`"
    )
