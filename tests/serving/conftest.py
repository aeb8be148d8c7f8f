"""A generator that samples in milliseconds: ten seconds of ECG out of an untrained network."""

from dataclasses import replace

import pytest
import torch
from tiny_run import TINY_NETWORK

from ecgforge.checkpoints.native import ModelConfig, save_model
from ecgforge.diffusion.schedule import LinearSchedule
from ecgforge.generate import Generator
from ecgforge.labels import vocabulary
from ecgforge.leads import MODEL_LEADS
from ecgforge.models.sssd import SssdEcg


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
