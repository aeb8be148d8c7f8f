"""The site builds without a warning, needs no network, and its reference has every public module."""

import pkgutil
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from page_blocks import DOCS, ROOT

import ecgforge

# Doors to the other modules, for people and browsers: described by the commands and by the service's own page.
DOORS = ("ecgforge.__main__", "ecgforge.serving")


def test_every_public_module_is_in_the_reference() -> None:
    named, whole = set(), []
    for page in sorted((DOCS / "reference").glob("*.md")):
        for module, options in re.findall(r"^::: ([\w.]+)\n((?:    .*\n)*)", page.read_text(), re.MULTILINE):
            assert module not in named, f"{module} is in the reference twice"
            named.add(module)
            whole += [module] if "show_submodules: true" in options else []
    packages = tuple(f"{module}." for module in whole)
    modules = {entry.name for entry in pkgutil.walk_packages(ecgforge.__path__, "ecgforge.")}
    assert named <= modules
    left_out = {name for name in modules - named if not name.startswith(packages)}
    assert {name for name in left_out if not name.startswith(DOORS)} == set()


@pytest.mark.skipif(
    find_spec("mkdocs") is None or find_spec("material") is None, reason="the extra `docs` is not installed"
)
def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for page in (
        "index.html",
        "tasks/generate.html",
        "reference/diffusion.html",
        "notebooks/copy_my_data_set.html",
        "models/default.html",
    ):
        text = (tmp_path / "site" / page).read_text()
        assert not re.findall(r'<(?:script|link rel="stylesheet"|img)[^>]*(?:src|href)="https?://', text), page
    reference = (tmp_path / "site" / "reference" / "diffusion.html").read_text()
    assert "ecgforge.diffusion.samplers.dpmpp_2m" in reference and "DPM-Solver++(2M)" in reference
