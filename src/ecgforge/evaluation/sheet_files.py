"""The sheets of a reading kit as files: one PDF and one PNG a sheet, and all PDFs in one.

PDFs are for printing, PNGs for screens. A smooth trace makes a smaller file, so all files of a kind are brought to
one size; none has a date.
"""

import re
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_pdf import PdfPages

from ecgforge.data.manifest import sha256_of
from ecgforge.ecg_paper import draw_ecg, save_figure
from ecgforge.errors import DataError
from ecgforge.evaluation.reading_form import sheet_number
from ecgforge.formats.atomic import write_whole
from ecgforge.record import EcgRecord

Progress = Callable[[int, int], None]

_PNG_END = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
_PNG_CHUNK = 12  # bytes of a chunk's length, name and checksum


@dataclass(frozen=True)
class SheetChecksums:
    """SHA-256 of the files of one sheet."""

    pdf: str
    picture: str


def write_sheets(
    records: Sequence[EcgRecord], folder: Path, *, progress: Progress | None = None
) -> list[SheetChecksums]:
    """Draw each record: `folder`/sheets/01.pdf and 01.png, and so on; all together in `folder`/sheets.pdf.

    Args:
        records: What the sheets show, in their order; nothing is blinded here.
        folder: Is made.
        progress: Called as progress(sheets done, sheets in all).
    """
    (folder / "sheets").mkdir(parents=True)
    pdfs, pictures = [], []
    with PdfPages(folder / "sheets.pdf", metadata={"Title": "ECG sheets", "CreationDate": None}) as book:
        for trial, record in enumerate(records, start=1):
            number = sheet_number(trial, sheets=len(records))
            figure = draw_ecg(record, title=f"ECG {number}")
            pdfs.append(folder / "sheets" / f"{number}.pdf")
            pictures.append(pdfs[-1].with_suffix(".png"))
            for path in (pdfs[-1], pictures[-1]):
                save_figure(figure, path, title=f"ECG {number}")
            book.savefig(figure)
            if progress is not None:
                progress(trial, len(records))
    _bring_to_one_size(pdfs, pad_pdf)
    _bring_to_one_size(pictures, pad_png)
    return [SheetChecksums(sha256_of(pdf), sha256_of(picture)) for pdf, picture in zip(pdfs, pictures, strict=True)]


def _bring_to_one_size(paths: Sequence[Path], pad: Callable[[bytes, int], bytes]) -> None:
    size = max(path.stat().st_size for path in paths) + 64
    for path in paths:
        write_whole(path, pad(path.read_bytes(), size))


def pad_pdf(content: bytes, size: int) -> bytes:
    """A PDF as matplotlib writes it, made `size` bytes long by a comment before its cross-reference table.

    Every object keeps its offset; only that of the table itself changes (ISO 32000-1, 7.5).

    Raises:
        DataError: the end of the file is not as expected, or `size` is too small.
    """
    end = re.search(rb"startxref\n(\d+)\n%%EOF\n\Z", content)
    if end is None:
        raise DataError("expected a PDF that ends with startxref and %%EOF, got another file")
    table = int(end[1])
    offset_digits = 10
    comment = size - (len(content) - len(end[1]) + offset_digits)
    if comment < 2:
        raise DataError(f"expected a size well above {len(content)} bytes to pad a PDF to, got {size}")
    filler = b"%" + b" " * (comment - 2) + b"\n"
    offset = f"{table + comment:0{offset_digits}d}".encode()
    return content[:table] + filler + content[table : end.start(1)] + offset + content[end.end(1) :]


def pad_png(content: bytes, size: int) -> bytes:
    """A PNG made `size` bytes long by a text chunk of spaces before its end.

    Source: PNG specification (ISO/IEC 15948), 11.3.4.3 tEXt.

    Raises:
        DataError: the file does not end as a PNG does, or `size` is too small.
    """
    if not content.endswith(_PNG_END):
        raise DataError("expected a PNG that ends with IEND, got another file")
    keyword = b"tEXt" + b"Comment\0"
    spaces = size - len(content) - _PNG_CHUNK - (len(keyword) - 4)
    if spaces < 0:
        raise DataError(f"expected a size well above {len(content)} bytes to pad a PNG to, got {size}")
    data = keyword + b" " * spaces
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    return content[: -len(_PNG_END)] + chunk + _PNG_END
