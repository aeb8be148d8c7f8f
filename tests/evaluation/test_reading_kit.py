"""The reading kit: pairs, blinding of every byte, the same kit again, key and kit that belong together."""

import csv
import dataclasses
import io
import json
import re
import stat
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ecgforge.data.manifest import sha256_of
from ecgforge.data.simulate import simulate_record
from ecgforge.data.store import EcgStore, StoreWriter
from ecgforge.errors import ConfigError, DataError, LabelError
from ecgforge.evaluation import reading_kit
from ecgforge.evaluation.reading_form import FORM_COLUMNS
from ecgforge.evaluation.reading_kit import Key, Kit, check_kit, make_kit
from ecgforge.evaluation.reading_pairs import choose_sets, draw_records, require_sets, rows_by_set, statement_set
from ecgforge.evaluation.sheet_files import pad_pdf, pad_png
from ecgforge.record import EcgRecord, Patient, Provenance
from ecgforge.rng import Purpose

SETS = ("NORM,SR", "CLBBB,SR")


def record(statements: str, *, synthetic: bool, index: int = 0, seconds: float = 2.0) -> EcgRecord:
    """A simulated record that claims to come from a hospital or from a model."""
    source = "ecgforge manmade" if synthetic else "Hospital Nord"
    return dataclasses.replace(
        simulate_record(statements, seed=int(synthetic), index=index, seconds=seconds),
        record_id=f"{'manmade' if synthetic else 'hospital'}-{index}",
        patient=Patient(patient_id="p4711", age=None if synthetic else 61.0, sex="female"),
        provenance=Provenance(synthetic=synthetic, source=source, seed=4, index=index),
    )


def pairs(sets: tuple[str, ...] = SETS) -> tuple[list[EcgRecord], list[EcgRecord]]:
    """Real and synthetic records, with the statements in another order on one side."""
    real = [record(text, synthetic=False, index=i) for i, text in enumerate(sets)]
    backwards = [",".join(reversed(text.split(","))) for text in sets]
    return real, [record(text, synthetic=True, index=i) for i, text in enumerate(backwards)]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return make_kit(*pairs(), tmp_path_factory.mktemp("readings") / "kit", seed=5)


def pdf_text(content: bytes) -> str:
    """All text that a PDF of matplotlib draws, out of its compressed streams; the ligatures fi and fl are lost."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, flags=re.DOTALL)
    drawn = b"".join(zlib.decompress(stream) for stream in streams if stream[:1] == b"\x78")
    # One text comes in several pieces, between which the letters are moved closer.
    return b"".join(re.findall(rb"\(((?:\\.|[^()\\])*)\)", drawn)).decode("latin-1")


def pdfs(kit: Kit) -> list[Path]:
    """The single sheets."""
    return sorted((kit.folder / "sheets").glob("*.pdf"))


def info(content: bytes) -> bytes:
    """What a PDF says about itself."""
    (reference,) = re.findall(rb"/Info (\d+) 0 R", content)
    (found,) = re.findall(rb"\n" + reference + rb" 0 obj\n(.*?)\nendobj", content, flags=re.DOTALL)
    return found


def test_each_set_has_a_real_and_a_synthetic_sheet(kit: Kit) -> None:
    key = Key.read(kit.key_file)
    assert kit.sheets == len(key.trials) == 2 * len(SETS)
    assert [trial.number for trial in key.trials] == [1, 2, 3, 4]
    truths = {(trial.statements, trial.synthetic, trial.record_id) for trial in key.trials}
    wanted = {(text, True, f"manmade-{i}") for i, text in enumerate(SETS)}
    assert truths == wanted | {(text, False, f"hospital-{i}") for i, text in enumerate(SETS)}
    names = sorted(path.name for path in (kit.folder / "sheets").iterdir())
    assert names == [f"0{number}.{kind}" for number in range(1, 5) for kind in ("pdf", "png")]


def test_the_form_asks_and_answers_nothing(kit: Kit) -> None:
    with (kit.folder / "answers.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == FORM_COLUMNS
    shown = [trial.statements for trial in Key.read(kit.key_file).trials]
    assert rows == [[kit.name, f"{i:02d}", text, "", "", ""] for i, text in enumerate(shown, start=1)]


def test_no_sheet_tells_where_its_ecg_comes_from(kit: Kit) -> None:
    secrets = ("synthetic", "manmade", "hospital", "nord", "ecgforge", "p4711", "seed", "61 years")
    files = [*pdfs(kit), kit.folder / "sheets.pdf"]
    for path in files:
        content = path.read_bytes()
        text = pdf_text(content)
        assert "ECG 0" in text and "mm/mV" in text and "female" in text  # so the search below sees what is drawn
        assert not [word for word in secrets if word in (text + content.decode("latin-1")).casefold()]
    for trial in Key.read(kit.key_file).trials:
        text = pdf_text((kit.folder / "sheets" / f"0{trial.number}.pdf").read_bytes())
        assert f"ECG 0{trial.number}" in text
        assert all(f"{code} " in text for code in trial.statements.split(","))


def test_pictures_show_the_sheets_and_tell_nothing_else(kit: Kit) -> None:
    paths = sorted((kit.folder / "sheets").glob("*.png"))
    assert len({path.stat().st_size for path in paths}) == 1
    texts = []
    for path in paths:
        with Image.open(path) as picture:
            assert picture.size == (2970, 2100)  # A4 at 10 pixels a mm
            pixels = np.asarray(picture.convert("L"))
            texts.append({key: value.strip() for key, value in picture.text.items()})  # type: ignore[attr-defined]
        assert (pixels < 60).mean() > 0.003  # ink
    assert [text.pop("Title") for text in texts] == [f"ECG 0{number}" for number in range(1, 5)]
    assert all(text == texts[0] for text in texts)
    assert set(texts[0]) == {"Software", "Comment"} and texts[0]["Software"].startswith("Matplotlib")
    assert texts[0]["Comment"] == ""


def test_sheets_have_one_size_and_one_metadata(kit: Kit) -> None:
    contents = [path.read_bytes() for path in pdfs(kit)]
    assert len({len(content) for content in contents}) == 1
    assert len({re.sub(rb"ECG 0\d", b"", info(content)) for content in contents}) == 1
    assert not [content for content in contents if b"Date" in content]


def test_the_key_is_its_owners_only_and_not_in_the_kit(kit: Kit) -> None:
    assert kit.key_file == kit.folder.with_name("kit-key.json")
    assert stat.S_IMODE(kit.key_file.stat().st_mode) == 0o600
    in_kit = sorted(path.name for path in kit.folder.iterdir())
    assert in_kit == ["README.txt", "answers.csv", "sheets", "sheets.pdf"]
    assert [path.name for path in kit.folder.parent.iterdir() if path.name.startswith(".")] == []


def test_the_same_seed_gives_the_same_kit_but_another_salt(kit: Kit, tmp_path: Path) -> None:
    again = make_kit(*pairs(), tmp_path / "again", seed=5)
    for name in ("sheets.pdf", "answers.csv", *(f"sheets/0{i}.{kind}" for i in range(1, 5) for kind in ("pdf", "png"))):
        assert (again.folder / name).read_bytes() == (kit.folder / name).read_bytes(), name
    ours, theirs = Key.read(again.key_file), Key.read(kit.key_file)
    assert ours.salt != theirs.salt and again.commitment != kit.commitment
    assert dataclasses.replace(ours, salt=theirs.salt) == theirs


def test_the_order_depends_on_seed_and_signals() -> None:
    def order(seed: int, height: float) -> tuple[bool, ...]:
        flat = [EcgRecord(np.full((12, 2), height + i, np.float32), rate=100) for i in range(16)]
        return tuple(sheet.synthetic for sheet in reading_kit._shuffled(flat[:8], flat[8:], seed=seed))

    assert order(0, 1.0) == order(0, 1.0)
    assert sum(order(0, 1.0)) == 8
    assert len({order(0, 1.0), order(1, 1.0), order(0, 2.0), order(1, 2.0)}) == 4


def test_both_kinds_lie_on_the_microvolt_grid() -> None:
    made = record("SR", synthetic=True)
    noisy = dataclasses.replace(made, signal=made.signal + np.float32(1e-4))
    shown = reading_kit._blinded(noisy, Patient())
    steps = shown.signal.astype(np.float64) * 1000
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    np.testing.assert_allclose(shown.signal, noisy.signal, atol=0.00051)
    assert (shown.record_id, shown.provenance, dict(shown.likelihoods)) == ("", Provenance(), {})


@pytest.mark.parametrize(
    ("own", "other", "shown"),
    [
        (Patient(age=60.6, sex="male"), Patient(age=30.0, sex="female"), Patient(age=61.0, sex="male")),
        (Patient(age=60.0, sex="male"), Patient(sex="female"), Patient(sex="male")),
        (Patient(age=60.0, sex="male"), Patient(), Patient()),
        (Patient(), Patient(age=60.0, sex="male"), Patient()),
    ],
)
def test_age_and_sex_are_shown_where_both_have_them(own: Patient, other: Patient, shown: Patient) -> None:
    sheet = reading_kit._blinded(dataclasses.replace(record("SR", synthetic=False), patient=own), other)
    assert sheet.patient == shown


def test_key_and_kit_prove_that_they_belong_together(kit: Kit, tmp_path: Path) -> None:
    key = Key.read(kit.key_file)
    assert kit.commitment == sha256_of(kit.key_file)
    assert kit.commitment in (kit.folder / "README.txt").read_text()
    check_kit(key, kit.key_file, kit.folder)

    changed = json.loads(kit.key_file.read_text())
    changed["trials"][0]["synthetic"] ^= True
    forged = tmp_path / "key.json"
    forged.write_text(json.dumps(changed))
    with pytest.raises(DataError, match="the key .* was changed after the kit was made"):
        check_kit(Key.read(forged), forged, kit.folder)


@pytest.mark.parametrize("name", ["02.pdf", "02.png"])
def test_another_sheet_is_noticed(kit: Kit, name: str) -> None:
    key, sheet = Key.read(kit.key_file), kit.folder / "sheets" / name
    content = sheet.read_bytes()
    sheet.write_bytes(content.replace(b"ECG 02", b"ECG 03"))
    try:
        with pytest.raises(DataError, match=f"{name} is missing or another file"):
            check_kit(key, kit.key_file, kit.folder)
    finally:
        sheet.write_bytes(content)


def test_nothing_is_overwritten(kit: Kit) -> None:
    before = kit.key_file.read_bytes()
    with pytest.raises(DataError, match="exists; take another name"):
        make_kit(*pairs(), kit.folder, seed=6)
    assert kit.key_file.read_bytes() == before


def test_what_is_no_pair_is_refused(tmp_path: Path) -> None:
    real, made = record("SR", synthetic=False), record("SR", synthetic=True)
    for left, right, message in (
        ([], [], "pairs of records, got 0 real and 0"),
        ([real], [made, made], "got 1 real and 2 synthetic"),
        ([real], [record("SR,NORM", synthetic=True)], "same statements in a pair"),
        ([real], [record("SR", synthetic=True, seconds=3)], "200 samples at 100 Hz and 300 samples at 100 Hz"),
        ([real], [real], "hospital-0, which was measured"),
    ):
        with pytest.raises(DataError, match=message):
            make_kit(left, right, tmp_path / "kit", seed=0)
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text('{"format_version": 2}')
    with pytest.raises(DataError, match="format version 1, got 2"):
        Key.read(path)
    path.write_text('{"format_version": 1, "kit": "x"}')
    with pytest.raises(ConfigError, match="required key is missing"):
        Key.read(path)


def test_a_padded_pdf_still_finds_its_table(kit: Kit) -> None:
    content = (kit.folder / "sheets.pdf").read_bytes()
    size = len(content) + 5000
    padded = pad_pdf(content, size)
    assert len(padded) == size
    offset = int(padded.split(b"startxref\n")[1].split(b"\n")[0])
    assert padded[offset:].startswith(b"xref\n")
    first = int(re.findall(rb"\n(\d{10}) 00000 n", padded[offset:])[0])
    assert padded[first:].startswith(b"1 0 obj")
    with pytest.raises(DataError, match="well above"):
        pad_pdf(content, len(content))
    with pytest.raises(DataError, match="startxref"):
        pad_pdf(b"no pdf", 1000)


def test_a_padded_png_is_the_same_picture(kit: Kit) -> None:
    content = (kit.folder / "sheets" / "01.png").read_bytes()
    for more in (20, 21, 5000):
        padded = pad_png(content, len(content) + more)
        assert len(padded) == len(content) + more
        with Image.open(io.BytesIO(padded)) as picture, Image.open(io.BytesIO(content)) as original:
            picture.verify()  # every chunk's checksum
            assert picture.size == original.size
    with pytest.raises(DataError, match="well above"):
        pad_png(content, len(content) + 19)
    with pytest.raises(DataError, match="ends with IEND"):
        pad_png(b"no png", 1000)


# --------------------------------------------------------------------------------- which records are read


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EcgStore:
    """Records with three, two and one of a set in folds 1 and 2; one more has guessed statements."""
    path = tmp_path_factory.mktemp("pairs") / "store"
    rows = [("NORM,SR", 1, 2), ("AFIB", 1, 2), ("NORM,SR", 2, None), ("NORM,SR", 1, 2), ("AFIB", 2, 2)]
    rows += [("PACE", 2, 2), ("PACE", 1, 1), ("CLBBB,SR", 2, 2)]
    with StoreWriter(path, rate=100, samples=100, source="simulated", synthetic=True) as writer:
        for index, (text, fold, quality) in enumerate(rows):
            entry = simulate_record(text, seed=0, index=index, seconds=1)
            provenance = dataclasses.replace(entry.provenance, fold=fold)
            writer.add(dataclasses.replace(entry, provenance=provenance), label_quality=quality)
    return EcgStore.open(path)


def test_rows_by_set(store: EcgStore) -> None:
    assert rows_by_set(store)["PACE"] == [5, 6]
    assert rows_by_set(store, min_label_quality=2) == {
        "NORM,SR": [0, 2, 3],
        "AFIB": [1, 4],
        "PACE": [5],
        "CLBBB,SR": [7],
    }
    assert rows_by_set(store, folds=(1,), min_label_quality=2) == {"NORM,SR": [0, 3], "AFIB": [1]}


def test_statement_sets_have_one_spelling() -> None:
    assert statement_set(" sr, NORM ") == "NORM,SR"
    assert statement_set("SR,IMI:0.5") == "IMI:0.5,SR"
    with pytest.raises(LabelError, match="unknown ECG statement"):
        statement_set("NRM")


def test_the_most_frequent_sets_are_chosen(store: EcgStore) -> None:
    rows = rows_by_set(store, min_label_quality=2)
    assert choose_sets(rows, pairs=3, available=lambda text: True) == ("NORM,SR", "AFIB", "CLBBB,SR")
    assert choose_sets(rows, pairs=2, available=lambda text: "SR" in text) == ("NORM,SR", "CLBBB,SR")
    with pytest.raises(DataError, match="expected 1 to 4 pairs.*got 5"):
        choose_sets(rows, pairs=5, available=lambda text: True)
    with pytest.raises(DataError, match="with real and synthetic records, got none"):
        choose_sets(rows, pairs=1, available=lambda text: False)


def test_named_sets_must_be_there(store: EcgStore) -> None:
    rows = rows_by_set(store)
    assert require_sets(["sr,norm", "PACE"], available=rows.__contains__, where="store") == ("NORM,SR", "PACE")
    with pytest.raises(DataError, match="statement sets of store, which has none of exactly LVH; NORM"):
        require_sets(["LVH", "AFIB", "NORM"], available=rows.__contains__, where="store")
    with pytest.raises(DataError, match="NORM,SR more than once"):
        require_sets(["SR,NORM", "NORM,SR"], available=rows.__contains__, where="store")


def test_records_are_drawn_from_their_set_and_again_the_same(store: EcgStore) -> None:
    rows = rows_by_set(store, min_label_quality=2)
    sets = ("PACE", "NORM,SR", "AFIB")

    def drawn(seed: int, purpose: int) -> list[str]:
        return [entry.record_id for entry in draw_records(store, rows, sets, seed=seed, purpose=purpose)]

    assert drawn(0, Purpose.REAL_READING) == drawn(0, Purpose.REAL_READING)
    seen = [drawn(seed, purpose) for seed in range(20) for purpose in (Purpose.REAL_READING, Purpose.SYNTHETIC_READING)]
    assert [set(ids) for ids in zip(*seen, strict=True)] == [{"5"}, {"0", "2", "3"}, {"1", "4"}]
    assert seen[::2] != seen[1::2]
