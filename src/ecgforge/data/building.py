"""The folder a store is built in: only a finished store gets its name, and only stores are ever removed."""

from pathlib import Path

from ecgforge.data.manifest import STORE_FILES
from ecgforge.errors import DataError


def require_free(dest: Path, *, overwrite: bool) -> None:
    """Check that a store may be built at `dest`.

    Raises:
        DataError: something is there that may not be replaced.
    """
    if not dest.exists():
        return
    if not dest.is_dir() or _foreign_files(dest):
        raise DataError(f"expected a new name for the store, got {dest}, which is not a store; take another name")
    if not overwrite and any(dest.iterdir()):
        raise DataError(f"{dest} exists; take another name, or overwrite it (--overwrite on the command line)")


def _foreign_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in STORE_FILES)


def remove_store(folder: Path) -> None:
    """Remove a store or the remains of one, and nothing that a store does not consist of.

    Raises:
        DataError: the folder holds other files.
    """
    foreign = _foreign_files(folder)
    if foreign:
        raise DataError(f"{folder} holds files that belong to no store ({', '.join(foreign)}); move them away first")
    for name in STORE_FILES:
        (folder / name).unlink(missing_ok=True)
    folder.rmdir()


def move_into_place(building: Path, dest: Path) -> None:
    """Give a finished store its name; an older store stays beside it as NAME.replaced until that is done."""
    if not dest.exists():
        building.rename(dest)
        return
    replaced = dest.with_name(dest.name + ".replaced")
    if replaced.exists():
        remove_store(replaced)
    dest.rename(replaced)
    try:
        building.rename(dest)
    except OSError:
        replaced.rename(dest)
        raise
    remove_store(replaced)
