"""The native kernels: kernels.cpp, compiled by the system's C++ compiler at first use and kept in the user's cache.

Nothing has to be compiled to install or use the package: without a compiler, or with ECGFORGE_NATIVE=0 in the
environment, plain PyTorch computes the same.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_COMPILERS = ("c++", "g++", "clang++")
_SOURCE = Path(__file__).with_name("kernels.cpp")
_SECONDS = 300
# No -ffast-math: linked with it, a library makes the whole process flush denormals to zero.
_FLAGS = (
    "-std=c++17",
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-ffp-contract=fast",
    "-fPIC",
    "-shared",
    "-Wno-psabi",
)
_pointer, _integer, _wide, _real = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_float
_norm = (_pointer, _wide, _pointer, _pointer, _pointer, _real)
_ARGUMENTS = {
    "ecgforge_convolve": (_pointer, _pointer, _wide, _integer, _integer, *[_pointer] * 5),
    "ecgforge_filter": (_pointer, _pointer, _wide, _integer, _integer, _integer, *[_pointer] * 5),
    "ecgforge_filter_back": (*[_pointer] * 3, _wide, _integer, _integer, _integer, *[_pointer] * 6),
    "ecgforge_norm": (*_norm, _integer, _integer),
    "ecgforge_norm_gate": (*_norm, _pointer, _integer, _integer),
    "ecgforge_tile": (_pointer, _wide, _pointer, _pointer, _integer, _integer),
    "ecgforge_untile": (_pointer, _pointer, _pointer, _wide, _integer, _integer),
    "ecgforge_modulate": (_pointer, _pointer, _pointer, _real, _pointer, _integer, _integer),
    "ecgforge_add_gated": (*[_pointer] * 4, _integer, _integer),
    "ecgforge_add_scaled": (*[_pointer] * 4, _integer, _integer),
    "ecgforge_gelu": (_pointer, _pointer, _integer, _integer),
    "ecgforge_softmax": (_pointer, _integer, _integer),
}
_PROCESSOR_FLAGS = (("-march=native",), ("-mcpu=native",), ())

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Absent:
    """Why there are no native kernels."""

    reason: str


def native_kernels() -> ctypes.CDLL | Absent:
    """The kernels, compiled if this machine has not compiled this version yet; looked for once per process."""
    if os.environ.get("ECGFORGE_NATIVE") == "0":
        return Absent("ECGFORGE_NATIVE=0 is set")
    return _found_kernels()


@cache
def _found_kernels() -> ctypes.CDLL | Absent:
    try:
        found = build(_SOURCE, folder=cache_folder())
    except RuntimeError as error:  # a user without a home folder
        found = Absent(str(error))
    if isinstance(found, Absent):
        logger.info("sampling without native kernels: %s", found.reason)
        return found
    for name, types in _ARGUMENTS.items():
        function = getattr(found, name)
        function.argtypes, function.restype = types, None
    return found


def cache_folder() -> Path:
    """Where compiled kernels are kept: $XDG_CACHE_HOME/ecgforge or ~/.cache/ecgforge."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ecgforge"


def build(source: Path, *, folder: Path, compilers: Sequence[str] = _COMPILERS) -> ctypes.CDLL | Absent:
    """Load a C++ source as a library, compiling it if `folder` has no library of this source, compiler and machine.

    Args:
        source: One file.
        folder: Kept libraries; made if it is not there.
        compilers: Commands to look for, in this order.
    """
    compiler = next(filter(None, map(shutil.which, compilers)), None)
    if compiler is None:
        return Absent(f"no C++ compiler found ({', '.join(compilers)})")
    try:
        library = folder / f"{source.stem}-{_identity(source, compiler)}.so"
        if not library.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _compile(source, library, compiler)
        return ctypes.CDLL(str(library))
    except subprocess.SubprocessError as error:
        return Absent(f"{compiler} failed on {source.name}: {error}")
    except OSError as error:  # folder not writable or not executable
        return Absent(str(error))


def _identity(source: Path, compiler: str) -> str:
    parts = [source.read_bytes(), repr((_FLAGS, _PROCESSOR_FLAGS, compiler)).encode(), *_processor()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _processor() -> Iterator[bytes]:
    """What code for the native processor depends on: a home folder may be shared by unlike machines."""
    yield " ".join((platform.system(), platform.machine(), platform.processor())).encode()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        kinds = (b"vendor_id", b"model", b"flags", b"Features", b"CPU part")
        yield from sorted({line for line in cpuinfo.read_bytes().splitlines() if line.startswith(kinds)})


def _compile(source: Path, library: Path, compiler: str) -> None:
    """Under a name of its own first, then renamed: processes that start together do not disturb each other."""
    handle, name = tempfile.mkstemp(dir=library.parent, prefix=library.stem, suffix=".part")
    os.close(handle)
    try:
        for number, processor_flags in enumerate(_PROCESSOR_FLAGS, start=1):
            command = [compiler, *_FLAGS, *processor_flags, "-o", name, str(source)]
            done = subprocess.run(command, capture_output=True, timeout=_SECONDS)
            if done.returncode == 0:
                break
            if number == len(_PROCESSOR_FLAGS):
                done.check_returncode()
        Path(name).replace(library)
    finally:
        Path(name).unlink(missing_ok=True)
