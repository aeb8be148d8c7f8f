"""Every function's shape annotation is executed: jaxtyping checks them with beartype while the tests run."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

hook = install_import_hook("ecgforge", "typechecking.check")
hook.__enter__()

# The same examples every time, so that what passes once passes again; --hypothesis-profile=default searches anew.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

PARITY_FOLDER = Path(__file__).resolve().parents[1].parent / "shared" / "parity"


@pytest.fixture(scope="session")
def parity() -> Callable[[str], dict[str, np.ndarray]]:
    """Reference arrays made with the original networks: parity("leads") is leads.npz as a dict."""
    if not PARITY_FOLDER.is_dir():
        pytest.skip("the reference arrays (../shared/parity) are not here")

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(PARITY_FOLDER / f"{name}.npz") as arrays:
            return {key: arrays[key] for key in arrays.files}

    return load
