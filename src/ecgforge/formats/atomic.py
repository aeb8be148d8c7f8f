"""Files that are whole or absent: written under a temporary name beside their place, then renamed."""

import contextlib
import os
from pathlib import Path

from ecgforge.errors import DataError


def write_whole(path: Path, content: bytes) -> Path:
    """Write `content` to `path` in one step; a reader sees the old file or the new one, never a part.

    Raises:
        DataError: the file or its folder cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as problem:
        raise DataError(f"{path}: cannot be written: {problem.strerror}") from problem
    finally:
        with contextlib.suppress(OSError):  # where the folder itself is missing, so is the draft
            draft.unlink(missing_ok=True)
    return path


def with_extension(path: Path, extension: str) -> Path:
    """`path` ending in `extension`, which is added where it is not there yet: "x.v2" -> "x.v2.csv"."""
    return path if path.suffix.lower() == extension else path.with_name(path.name + extension)
