"""Training on two CPU processes, started by torchrun, gives the weights of one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_run import tiny_config, tiny_store

from ecgforge.data.store import EcgStore
from ecgforge.training.loop import train
from ecgforge.training.settings import DiffusionTraining, Stage

TESTS = Path(__file__).resolve().parents[1]

SCRIPT = """
import json, os, sys
from dataclasses import replace
from pathlib import Path

from test_distributed import config_of_both
from ecgforge.data.store import EcgStore
from ecgforge.errors import ConfigError
from ecgforge.training.loop import train

store, folder = EcgStore.open(sys.argv[1]), Path(sys.argv[2])
rank = os.environ["RANK"]
try:
    train(replace(config_of_both(), batch_size=5), store, folder / "odd", device="cpu")
except ConfigError as error:
    refused = str(error)
reported = []
run = train(config_of_both(), store, folder / "run", device="cpu", report=lambda s: reported.append((s.step, s.loss)))
losses = run.take_step(), run.take_step()
found = {"refused": refused, "reported": reported, "ranks": run.fabric.world_size, "losses": losses}
(folder / f"rank-{rank}.json").write_text(json.dumps(found))
"""


def config_of_both() -> DiffusionTraining:
    """Twenty-two steps with clipping, warm-up and averaging; batches that two processes can share."""
    stages = (Stage(steps=12, samples=32), Stage(steps=10, samples=64))
    return tiny_config(stages=stages, warmup_steps=5, decay_from=0.5, gradient_clip=0.5)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EcgStore:
    return tiny_store(tmp_path_factory.mktemp("distributed"))


@pytest.fixture(scope="module")
def two_processes(data: EcgStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder a run of two processes wrote to."""
    folder = tmp_path_factory.mktemp("two")
    script = folder / "train_tiny.py"
    script.write_text(SCRIPT)
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    paths = [str(TESTS), str(TESTS / "pipeline"), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, *launcher, "--master-port", str(free_port()), str(script), str(data.path), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def one_process(data: EcgStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, float]]]:
    """The folder of the same run in this process, and what it reported."""
    folder = tmp_path_factory.mktemp("one")
    reported: list[tuple[int, float]] = []
    train(config_of_both(), data, folder, device="cpu", report=lambda s: reported.append((s.step, s.loss)))
    return folder, reported


def test_two_processes_learn_the_weights_of_one(
    two_processes: Path, one_process: tuple[Path, list[tuple[int, float]]]
) -> None:
    checkpoints = [
        torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (two_processes / "run", one_process[0])
    ]
    assert [state["step"] for state in checkpoints] == [22, 22]
    for part in ("network", "average"):
        theirs, ours = (state["learner"][part] for state in checkpoints)
        assert theirs.keys() == ours.keys()
        for name in ours:
            torch.testing.assert_close(theirs[name], ours[name], rtol=1e-5, atol=1e-5, msg=name)
    model = load_file(two_processes / "run" / "model" / "model.safetensors")
    assert all(torch.equal(model[name], value) for name, value in checkpoints[0]["learner"]["average"].items())


def test_reports_are_the_mean_over_processes_and_come_once(
    two_processes: Path, one_process: tuple[Path, list[tuple[int, float]]]
) -> None:
    first, second = (json.loads((two_processes / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert first["ranks"] == second["ranks"] == 2
    assert second["reported"] == []
    expected = one_process[1]
    assert [step for step, _ in first["reported"]] == [step for step, _ in expected] == [20, 22]
    losses = [loss for _, loss in first["reported"]]
    assert losses == pytest.approx([loss for _, loss in expected], rel=1e-4)
    log = (two_processes / "run" / "log.csv").read_text().splitlines()
    assert len(log) == 1 + 2
    # Going on, each process sees its own half of the batch.
    assert first["losses"] != second["losses"]


def test_a_batch_that_processes_cannot_share_is_refused(two_processes: Path) -> None:
    for rank in (0, 1):
        refused = json.loads((two_processes / f"rank-{rank}.json").read_text())["refused"]
        assert "divisible by the 2 devices, got 5" in refused
    assert not (two_processes / "odd").exists()
