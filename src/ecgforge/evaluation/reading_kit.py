"""The blinded reading kit: pairs of real and synthetic ECGs on sheets that do not tell which is which.

    KIT/sheets/01.pdf ...   one ECG a sheet, in shuffled order, with the statements it is said to show
    KIT/sheets/01.png ...   the same for screens
    KIT/sheets.pdf          all sheets in one file
    KIT/answers.csv         the form
    KIT/README.txt          what the reader does, and the commitment to the key
    KIT-key.json            the truth, beside the kit and readable by its owner only

Both kinds of record go the same way onto paper: 12 leads on the grid of 1 uV, drawn without identifier, origin
or mark; statements in one order; the files without dates and of one size. What the signals themselves tell,
such as noise or flat stretches, stays: that is what the readers are asked to judge.

The commitment is the SHA-256 of the key file, which holds a random salt. Until the key is opened it tells
nothing; afterwards `sha256sum KIT-key.json` proves that the key is the one the kit was made with.

Source: the clinical Turing test of SSSD-ECG (arXiv 2301.08227), 22 pairs of equal statements.
"""

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ecgforge.config import from_dict, load_json, to_dict
from ecgforge.data.manifest import sha256_of
from ecgforge.data.store import to_microvolts
from ecgforge.errors import DataError
from ecgforge.evaluation.reading_form import Form, FormRow, sheet_number
from ecgforge.evaluation.sheet_files import Progress, SheetChecksums, write_sheets
from ecgforge.formats.atomic import write_whole
from ecgforge.labels import format_statements
from ecgforge.record import EcgRecord, Patient
from ecgforge.rng import Purpose, record_stream

KEY_VERSION = 1


@dataclass(frozen=True)
class Trial:
    """One sheet and the truth about it.

    Attributes:
        number: Number on the sheet, from 1.
        statements: Statement set shown, as `reading_pairs.statement_set` writes it.
        synthetic: True if the ECG is synthetic.
        record_id: Record shown.
        source: Data set or model it comes from.
        sha256: Checksum of the sheet's PDF.
        picture_sha256: Checksum of its PNG; empty in kits that have none.
    """

    number: int
    statements: str
    synthetic: bool
    record_id: str
    source: str
    sha256: str
    picture_sha256: str = ""


@dataclass(frozen=True)
class Key:
    """The truth about a kit.

    Attributes:
        kit: Name of the kit, made from its sheets; stands in every row of the form.
        seed: Seed it was made with.
        salt: Random; keeps the commitment from being guessed at.
        sheets_sha256: Checksum of sheets.pdf.
        trials: One a sheet, by number.
        format_version: Version of this file.
    """

    kit: str
    seed: int
    salt: str
    sheets_sha256: str
    trials: tuple[Trial, ...]
    format_version: int = KEY_VERSION

    def number(self, trial: int) -> str:
        """A trial's number as the sheets write it: "01"."""
        return sheet_number(trial, sheets=len(self.trials))

    def form(self) -> Form:
        """The blank form of the kit."""
        return Form(self.kit, tuple(FormRow(self.number(trial.number), trial.statements) for trial in self.trials))

    @classmethod
    def read(cls, path: Path) -> "Key":
        """The key in a KIT-key.json.

        Raises:
            ConfigError: the file is missing, no JSON or no key.
            DataError: a key of another version.
        """
        content = load_json(path)
        if content.get("format_version") != KEY_VERSION:
            raise DataError(
                f"expected the key of a reading kit, format version {KEY_VERSION}, got "
                f"{content.get('format_version')!r} in {path}; give the KIT-key.json that `ecgforge turing make` wrote"
            )
        return from_dict(cls, content, where=str(path))


@dataclass(frozen=True)
class _Sheet:
    """What a sheet shows, and whose ECG it is."""

    shown: EcgRecord
    record: EcgRecord
    synthetic: bool


@dataclass(frozen=True)
class Kit:
    """A finished kit.

    Attributes:
        folder: What the readers get.
        key_file: What they do not get.
        name: Name of the kit, as in the form.
        commitment: SHA-256 of the key file, printed in the kit's README.txt.
        sheets: Number of sheets.
    """

    folder: Path
    key_file: Path
    name: str
    commitment: str
    sheets: int


# ----------------------------------------------------------------------------------------------- the kit


def make_kit(
    real: Sequence[EcgRecord],
    synthetic: Sequence[EcgRecord],
    out: Path,
    *,
    seed: int,
    progress: Progress | None = None,
) -> Kit:
    """Write a kit of pairs: `real[i]` and `synthetic[i]` show the same statements.

    The same records and seed give the same sheets, form and order, byte by byte. Only the salt of the key, and
    with it the commitment, is new each time.

    Args:
        real: Real records of one rate and length.
        synthetic: As many synthetic ones, of the same rate and length.
        out: Folder to make; its key is written beside it as OUT-key.json.
        seed: Order of the sheets. The order also depends on the signals: two kits of one seed differ.
        progress: Called as progress(sheets done, sheets in all).

    Raises:
        DataError: the records are no pairs or cannot be drawn, or `out` or its key exists or cannot be written.
    """
    _require_pairs(real, synthetic)
    key_file = require_new(out)
    sheets = _shuffled(real, synthetic, seed=seed)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # The draft's folder is private, so the key is at no moment readable by others.
        with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as draft:
            folder = Path(draft) / "kit"
            checksums = write_sheets([sheet.shown for sheet in sheets], folder, progress=progress)
            key = _key(sheets, checksums, sheets_file=folder / "sheets.pdf", seed=seed)
            key_draft = write_whole(Path(draft) / "key.json", _json_bytes(key))
            key_draft.chmod(0o600)
            commitment = sha256_of(key_draft)
            write_whole(folder / "answers.csv", key.form().to_csv())
            readme = _README.format(kit=key.kit, sheets=len(key.trials), commitment=commitment)
            write_whole(folder / "README.txt", readme.encode())
            key_draft.rename(key_file)  # first: a kit without its key is worth nothing
            folder.rename(out)
    except OSError as error:
        raise DataError(f"the reading kit {out} cannot be written: {error}") from error
    return Kit(folder=out, key_file=key_file, name=key.kit, commitment=commitment, sheets=len(key.trials))


def require_new(out: Path) -> Path:
    """The name of the key of a kit that is to be made in the folder `out`.

    Raises:
        DataError: the folder or the key exists.
    """
    key_file = out.with_name(out.name + "-key.json")
    for path in (out, key_file):
        if path.exists():
            raise DataError(f"{path} exists; take another name: a key must never be replaced while its kit is read")
    return key_file


def check_kit(key: Key, key_file: Path, folder: Path) -> None:
    """Check that a kit is the one its key was made for, and that neither was changed since.

    Raises:
        DataError: a sheet differs or is missing, or README.txt does not carry the key's commitment.
    """
    sheets = folder / "sheets"
    expected = {sheets / f"{key.number(trial.number)}.pdf": trial.sha256 for trial in key.trials}
    pictured = [trial for trial in key.trials if trial.picture_sha256]
    expected |= {sheets / f"{key.number(trial.number)}.png": trial.picture_sha256 for trial in pictured}
    for path, checksum in {**expected, folder / "sheets.pdf": key.sheets_sha256}.items():
        if not path.is_file() or sha256_of(path) != checksum:
            raise DataError(
                f"expected the sheets of {key.kit} in {folder}, but {path} is missing or another file; "
                "give the key and the kit that belong together"
            )
    readme = folder / "README.txt"
    if not readme.is_file() or sha256_of(key_file) not in readme.read_text(encoding="utf-8"):
        raise DataError(
            f"expected the commitment {sha256_of(key_file)} in {readme}; the key {key_file} was changed after the "
            "kit was made, or the README was"
        )


def _require_pairs(real: Sequence[EcgRecord], synthetic: Sequence[EcgRecord]) -> None:
    if not real or len(real) != len(synthetic):
        raise DataError(f"expected pairs of records, got {len(real)} real and {len(synthetic)} synthetic ones")
    kinds = {(record.rate, record.signal.shape[1]) for record in (*real, *synthetic)}
    if len(kinds) > 1:
        found = " and ".join(f"{samples} samples at {rate:g} Hz" for rate, samples in sorted(kinds))
        raise DataError(f"expected records of one rate and length, as both show on paper, got {found}")
    for left, right in zip(real, synthetic, strict=True):
        if dict(left.statements) != dict(right.statements):
            raise DataError(
                f"expected the same statements in a pair, got {format_statements(left.statements)} for "
                f"{left.record_id} and {format_statements(right.statements)} for {right.record_id}"
            )
        if not right.provenance.synthetic:
            raise DataError(f"expected synthetic records, got {right.record_id}, which was measured")


def _shuffled(real: Sequence[EcgRecord], synthetic: Sequence[EcgRecord], *, seed: int) -> list[_Sheet]:
    sheets = [_Sheet(_blinded(left, right.patient), left, False) for left, right in zip(real, synthetic, strict=True)]
    sheets += [_Sheet(_blinded(right, left.patient), right, True) for left, right in zip(real, synthetic, strict=True)]
    # Of the signals too: an order that followed from the seed alone would be known after the first kit.
    signals = hashlib.sha256(b"".join(sheet.shown.signal.tobytes() for sheet in sheets))
    stream = record_stream(seed, int.from_bytes(signals.digest()[:7], "big"), purpose=Purpose.READING_ORDER)
    return [sheets[position] for position in stream.permutation(len(sheets))]


def _blinded(record: EcgRecord, other: Patient) -> EcgRecord:
    """What a sheet may show of a record: signal, statements, and age and sex where its partner has them too.

    The copy claims no origin. It is drawn and thrown away, so it cannot be mistaken for a measured record.
    """
    age = None if record.patient.age is None or other.age is None else float(round(record.patient.age))
    sex = None if record.patient.sex is None or other.sex is None else record.patient.sex
    return EcgRecord(
        signal=to_microvolts(record.in_leads()).astype(np.float32) / np.float32(1000),
        rate=record.rate,
        statements=dict(sorted(record.statements.items())),
        patient=Patient(age=age, sex=sex),
    )


def _key(sheets: Sequence[_Sheet], checksums: Sequence[SheetChecksums], *, sheets_file: Path, seed: int) -> Key:
    trials = tuple(
        Trial(
            number=number,
            statements=format_statements(sheet.shown.statements),
            synthetic=sheet.synthetic,
            record_id=sheet.record.record_id,
            source=sheet.record.provenance.source,
            sha256=files.pdf,
            picture_sha256=files.picture,
        )
        for number, (sheet, files) in enumerate(zip(sheets, checksums, strict=True), start=1)
    )
    return Key(
        # Begins with letters: a spreadsheet would read 12e45 as a number.
        kit="kit-" + hashlib.sha256("".join(files.pdf for files in checksums).encode()).hexdigest()[:12],
        seed=seed,
        salt=secrets.token_hex(32),
        sheets_sha256=sha256_of(sheets_file),
        trials=trials,
    )


def _json_bytes(key: Key) -> bytes:
    return (json.dumps(to_dict(key), indent=2, ensure_ascii=False) + "\n").encode()


_README = """\
Reading kit {kit}

There are {sheets} ECGs in sheets.pdf; the folder sheets holds the same, one PDF and one PNG each. Some were measured on
patients, the others were made by a computer. Each sheet names the ECG statements it is said to show.

For each sheet fill in its row of answers.csv:

  shows_statements   yes or no: does this ECG show the statements?
  is_synthetic       yes or no: was this ECG made by a computer?
  comment            anything you wish to say; may stay empty

Leave a cell empty where you cannot decide; it is counted as no answer. Leave the first three columns as they
are. Read the sheets in any order, alone, and without comparing answers with other readers.

Paper: 25 mm/s, 10 mm/mV. Print in true size ("100 %") if you measure by hand.

Commitment: the key to this kit is a file whose SHA-256 is

  {commitment}

After the answers are in, `sha256sum` of the key must give this number: then nobody has changed the key.
"""
