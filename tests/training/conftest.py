"""The small store every training test learns from."""

import pytest
from tiny_run import tiny_store

from ecgforge.data.store import EcgStore


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> EcgStore:
    return tiny_store(tmp_path_factory.mktemp("training"))
