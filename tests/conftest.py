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


@pytest.fixture(scope="session")
def tiny_patch_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PatchS4 of random weights in which nothing is zero, for records of 4 s at 100 Hz."""
    import torch  # not at the top: tests of import costs

    from ecgforge.checkpoints.native import ModelConfig, save_model
    from ecgforge.diffusion.flow import FlowSchedule
    from ecgforge.labels import vocabulary
    from ecgforge.leads import MODEL_LEADS
    from ecgforge.models.patch_s4 import PatchS4, PatchS4Config

    torch.manual_seed(5)
    size = PatchS4Config(length=400, features=8, layers=1, condition_features=8, state_size=4)
    network = PatchS4(size)
    for value in network.parameters():
        if not value.any():
            torch.nn.init.normal_(value, std=0.3)
    config = ModelConfig(
        name="tiny patches",
        network=size,
        schedule=FlowSchedule(),
        label_set="all",
        labels=vocabulary("all").labels,
        leads=MODEL_LEADS,
        rate=100.0,
        scales_mv=(0.2,) * 8,
    )
    folder = tmp_path_factory.mktemp("tiny-patches")
    save_model(config, network.state_dict(), folder)
    return folder
