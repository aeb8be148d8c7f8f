"""The native kernels as a library: compiled once, kept, and done without where that is not possible."""

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ecgforge.models.native import library as library_module
from ecgforge.models.native.library import Absent, build, cache_folder, native_kernels

ANSWER = 'extern "C" int answer() { return 42; }'


def source(folder: Path, text: str) -> Path:
    path = folder / "answer.cpp"
    path.write_text(text)
    return path


def compiled(path: Path, folder: Path) -> ctypes.CDLL:
    library = build(path, folder=folder)
    if isinstance(library, Absent):
        pytest.skip(library.reason)
    return library


def test_library_is_compiled_once_and_again_for_another_source(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "deep"
    assert compiled(source(tmp_path, ANSWER), folder).answer() == 42
    (library,) = folder.iterdir()
    made = library.stat().st_mtime_ns
    assert compiled(source(tmp_path, ANSWER), folder).answer() == 42
    assert library.stat().st_mtime_ns == made
    assert compiled(source(tmp_path, ANSWER.replace("42", "43")), folder).answer() == 43
    assert len(list(folder.iterdir())) == 2


def test_without_a_working_compiler_the_reason_is_said(tmp_path: Path) -> None:
    path = source(tmp_path, ANSWER)
    none = build(path, folder=tmp_path / "cache", compilers=("no-such-compiler",))
    assert none == Absent("no C++ compiler found (no-such-compiler)")
    compiled(path, tmp_path / "cache")
    broken = build(source(tmp_path, "this is no C++"), folder=tmp_path / "cache")
    assert isinstance(broken, Absent) and "failed on answer.cpp" in broken.reason
    assert not list((tmp_path / "cache").glob("*.part"))
    (tmp_path / "file").write_text("")
    unwritable = build(path, folder=tmp_path / "file" / "cache")
    assert isinstance(unwritable, Absent) and "file" in unwritable.reason


def test_a_user_without_a_home_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(library_module.Path, "home", homeless)
    library_module._found_kernels.cache_clear()
    try:
        assert native_kernels() == Absent("Could not determine home directory.")
    finally:
        library_module._found_kernels.cache_clear()


def test_processes_may_compile_at_the_same_time(tmp_path: Path) -> None:
    path, folder = source(tmp_path, ANSWER), tmp_path / "cache"
    compiled(source(tmp_path, ANSWER), tmp_path / "other")
    code = (  # the module alone: its package would load torch
        "import importlib.util as util, sys; from pathlib import Path\n"
        "spec = util.spec_from_file_location('library', sys.argv[1]); library = util.module_from_spec(spec)\n"
        "sys.modules['library'] = library; spec.loader.exec_module(library)\n"
        "sys.exit(library.build(Path(sys.argv[2]), folder=Path(sys.argv[3])).answer())"
    )
    command = [sys.executable, "-c", code, library_module.__file__, path, folder]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in running] == [42, 42, 42]
    assert len(list(folder.iterdir())) == 1


def test_switch_and_place_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "ecgforge"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/ecgforge")
    monkeypatch.setenv("ECGFORGE_NATIVE", "0")
    assert native_kernels() == Absent("ECGFORGE_NATIVE=0 is set")
    monkeypatch.delenv("ECGFORGE_NATIVE")
    assert native_kernels() != Absent("ECGFORGE_NATIVE=0 is set")


def test_loading_the_kernels_leaves_denormals_alone() -> None:
    if isinstance(native_kernels(), Absent):
        pytest.skip("no native kernels")
    assert float(torch.tensor(1e-40) * 1.0) > 0
    assert np.float32(1e-40) * np.float32(1.0) > 0
