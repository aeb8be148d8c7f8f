"""Reading, converting and plotting start without torch; `import ecgforge` is light."""

import subprocess
import sys

import pytest


def loaded_by(statement: str, candidates: list[str]) -> list[str]:
    """Which of the packages are loaded in a fresh interpreter after the statement."""
    code = f"import sys; {statement}; print(*(name for name in {candidates} if name in sys.modules))"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def test_import_ecgforge_is_light():
    heavy = ["torch", "lightning_fabric", "pandas", "matplotlib", "scipy", "wfdb"]
    assert loaded_by("import ecgforge", heavy) == []


def test_the_plot_command_loads_matplotlib_only_when_it_draws():
    assert loaded_by("import ecgforge.serving.plot_command", ["matplotlib", "pandas", "torch"]) == []


@pytest.mark.parametrize("module", ["config", "ecg_paper", "formats", "data"])
def test_rooms_below_the_networks_load_no_torch(module):
    assert loaded_by(f"import ecgforge.{module}", ["torch", "lightning_fabric", "ecgforge"]) == ["ecgforge"]
