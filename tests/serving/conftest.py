"""A generator that samples in milliseconds, ten seconds of ECG out of an untrained network; a kit; a browser."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from browsing import BROWSER, DRIVER
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from tiny_run import TINY_NETWORK

from ecgforge.checkpoints.native import ModelConfig, save_model
from ecgforge.data.simulate import simulate_record
from ecgforge.diffusion.schedule import LinearSchedule
from ecgforge.evaluation.reading_kit import Kit, make_kit
from ecgforge.generate import Generator
from ecgforge.labels import vocabulary
from ecgforge.leads import MODEL_LEADS
from ecgforge.models.sssd import SssdEcg
from ecgforge.record import Provenance


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    torch.manual_seed(1)
    network = replace(TINY_NETWORK, length=1000)
    config = ModelConfig(
        name="tiny",
        network=network,
        schedule=LinearSchedule(T=200),
        label_set="all",
        labels=vocabulary("all").labels,
        leads=MODEL_LEADS,
        rate=100.0,
    )
    folder = tmp_path_factory.mktemp("model")
    save_model(config, SssdEcg(network).state_dict(), folder)
    return Generator.load(folder)


@pytest.fixture(scope="session")
def knowing(tiny_patch_model: Path) -> Generator:
    """A generator that knows age, sex and heart rate; records of 4 s."""
    return Generator.load(tiny_patch_model)


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """A reading kit of two pairs."""
    kinds = (Provenance(source="Hospital Nord"), Provenance(synthetic=True, source="manmade"))
    simulated = [
        [simulate_record(text, seed=seed, index=i, seconds=10.0) for i, text in enumerate(("NORM,SR", "CLBBB,SR"))]
        for seed in range(2)
    ]
    real, synthetic = (
        [replace(record, record_id=f"{kind.source}-{i}", provenance=kind) for i, record in enumerate(records)]
        for kind, records in zip(kinds, simulated, strict=True)
    )
    return make_kit(real, synthetic, tmp_path_factory.mktemp("readings") / "kit", seed=5)


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the browser puts files."""
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def browser(downloads: Path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1400"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()
