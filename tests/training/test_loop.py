"""The loop: exact resuming, checkpoints that are never lost, and what a run leaves behind."""

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_run import TINY_NETWORK, tiny_config

from ecgforge import config as configuration
from ecgforge.checkpoints.native import Model, load_model
from ecgforge.data.store import EcgStore
from ecgforge.errors import CheckpointError, ConfigError, TrainingError
from ecgforge.training.diffusion import DiffusionLearner, scale_note
from ecgforge.training.loop import CHECKPOINT_FILE, Run, Status, make_fabric, train
from ecgforge.training.settings import DataConfig, DiffusionTraining, Stage, TrainingConfig

StartRun = Callable[..., Run]


@pytest.fixture
def start(store: EcgStore, tmp_path: Path) -> StartRun:
    """A run in a folder of this test, on one CPU process."""

    def started(config: TrainingConfig, folder: str = "run") -> Run:
        fabric = make_fabric(device="cpu", devices=1, precision=config.precision)
        fabric.launch()
        return Run(config, store, tmp_path / folder, fabric)

    return started


def learner_of(run: Run) -> DiffusionLearner:
    assert isinstance(run.learner, DiffusionLearner)
    return run.learner


def everything(run: Run) -> dict[str, torch.Tensor]:
    """All tensors that make up the state of a run, by name."""
    learner = learner_of(run)
    found = {f"network.{key}": value for key, value in learner.network.state_dict().items()}
    found |= {f"average.{key}": value for key, value in learner.average.average.items()}
    for number, moments in learner.optimizer.state_dict()["state"].items():
        found |= {f"optimizer.{number}.{key}": value for key, value in moments.items()}
    return {key: value.clone() for key, value in found.items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [key for key in a if not torch.equal(a[key], b[key])] == []


def many_steps(steps: int, **changes: object) -> DiffusionTraining:
    """A checkpoint at every report, that is every 20 steps."""
    return tiny_config(stages=(Stage(steps=steps, samples=16),), checkpoint_minutes=0.0, **changes)


# --------------------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"warmup_steps": 3, "decay_from": 0.5, "gradient_clip": 0.5},
        {"ema_decay": 0.0},
        {"stages": (Stage(steps=3, samples=32), Stage(steps=1, samples=64))},
        {"network": replace(TINY_NETWORK, kernel="s4d")},
    ],
    ids=["plain", "warmup, decay and clipping", "no averaging", "two stages", "s4d"],
)
def test_four_steps_are_two_and_two_resumed(start: StartRun, changes: dict[str, object]) -> None:
    config = tiny_config(**changes)
    whole = start(config, "whole")
    losses = [whole.take_step() for _ in range(4)]

    first = start(config, "parts")
    parts = [first.take_step() for _ in range(2)]
    first.save()
    torch.manual_seed(123)
    second = start(config, "parts")
    assert second.step == 2
    assert_same(everything(second), everything(first))
    parts += [second.take_step() for _ in range(2)]

    assert parts == losses
    assert_same(everything(second), everything(whole))


def test_the_seed_decides_everything(start: StartRun) -> None:
    runs = [start(tiny_config(seed=seed), f"run-{i}") for i, seed in enumerate((3, 3, 4))]
    losses = [[run.take_step() for _ in range(2)] for run in runs]
    assert losses[0] == losses[1] != losses[2]
    assert_same(everything(runs[0]), everything(runs[1]))


def test_an_interrupted_run_resumes_from_its_last_checkpoint(store: EcgStore, tmp_path: Path) -> None:
    config = many_steps(60)

    class Interrupted(Exception):
        pass

    def interrupt(status: Status) -> None:
        if status.step == 40:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(config, store, tmp_path / "a", device="cpu", report=interrupt)
    assert torch.load(tmp_path / "a" / CHECKPOINT_FILE, weights_only=True)["step"] == 20
    reported: list[int] = []
    resumed = train(config, store, tmp_path / "a", device="cpu", report=lambda status: reported.append(status.step))
    assert reported == [40, 60]
    whole = train(config, store, tmp_path / "b", device="cpu")
    assert_same(everything(resumed), everything(whole))
    assert log_steps(tmp_path / "a") == log_steps(tmp_path / "b") == [20, 40, 60]


def test_a_finished_run_is_left_as_it_is(store: EcgStore, tmp_path: Path) -> None:
    config = tiny_config()
    train(config, store, tmp_path, device="cpu")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = train(config, store, tmp_path, device="cpu")
    assert again.step == 4
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"learning_rate": 5e-3}, "learning_rate: 0.01 there, 0.005 here"),
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"data": DataConfig(folds=(1, 2))}, "data: "),
        ({"stages": (Stage(steps=5, samples=32),)}, "stages: "),
    ],
)
def test_another_run_in_the_folder_is_refused(
    start: StartRun, tmp_path: Path, changes: dict[str, object], named: str
) -> None:
    run = start(tiny_config())
    run.take_step()
    run.save()
    before = (tmp_path / "run" / CHECKPOINT_FILE).read_bytes()
    with pytest.raises(CheckpointError) as refused:
        start(tiny_config(**changes))
    assert named in str(refused.value) and CHECKPOINT_FILE in str(refused.value)
    assert (tmp_path / "run" / CHECKPOINT_FILE).read_bytes() == before


def test_a_run_may_be_lengthened_before_its_rate_falls(start: StartRun) -> None:
    """8 steps falling over the last 4, planned so from the start or lengthened from 4 steps falling over the last 2."""
    short = tiny_config(decay_from=0.5)
    long = replace(short, stages=(Stage(steps=8, samples=64),))
    whole = start(long, "whole")
    losses = [whole.take_step() for _ in range(8)]
    run = start(short)
    parts = [run.take_step() for _ in range(2)]
    run.save()
    run = start(long)
    parts += [run.take_step() for _ in range(6)]
    assert parts == losses
    assert_same(everything(run), everything(whole))
    fallen = start(short, "fallen")
    for _ in range(4):
        fallen.take_step()
    fallen.save()
    with pytest.raises(CheckpointError, match="stages: "):
        start(long, "fallen")


@pytest.mark.parametrize(("file", "named"), [("signals.npy", "signals"), ("index.csv", "statements")])
def test_other_data_in_the_same_folder_is_refused(
    start: StartRun, store: EcgStore, tmp_path: Path, file: str, named: str
) -> None:
    run = start(tiny_config())
    run.save()
    other = replace(store.manifest, sha256={**store.manifest.sha256, file: "0" * 64})
    with pytest.raises(CheckpointError, match=f"{named}: .* there, 0000"):
        Run(
            run.config,
            EcgStore(store.path, other, store.index, store.signals),
            tmp_path / "run",
            run.fabric,
        )


def test_how_often_to_save_may_change(start: StartRun) -> None:
    run = start(tiny_config())
    run.take_step()
    run.save()
    assert start(tiny_config(checkpoint_minutes=99.0, sample_minutes=7.0)).step == 1


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "other tensors"])
def test_a_damaged_checkpoint_is_refused_and_kept(start: StartRun, tmp_path: Path, damage: str) -> None:
    start(tiny_config()).save()
    path = tmp_path / "run" / CHECKPOINT_FILE
    content = {"cut": path.read_bytes()[: path.stat().st_size // 2], "text": b"not torch", "empty": b""}
    if damage == "other tensors":
        torch.save({"weight": torch.zeros(3)}, path)
    else:
        path.write_bytes(content[damage])
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    with pytest.raises(CheckpointError, match=CHECKPOINT_FILE):
        start(tiny_config())
    assert {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()} == before


# ------------------------------------------------------------------------------------ numbers gone wrong


def test_a_loss_that_is_not_finite_names_the_records(start: StartRun, tmp_path: Path) -> None:
    run = start(tiny_config())
    run.take_step()
    run.take_step()
    run.save()
    intact = (tmp_path / "run" / CHECKPOINT_FILE).read_bytes()
    with torch.no_grad():
        learner_of(run).network.output.bias[3] = math.nan
    with pytest.raises(TrainingError, match=r"step 2, records( bumps-\d+){4};"):
        run.take_step()
    assert run.step == 2
    assert (tmp_path / "run" / CHECKPOINT_FILE).read_bytes() == intact
    assert start(tiny_config()).step == 2


def test_weights_that_are_not_finite_are_never_saved(start: StartRun, tmp_path: Path) -> None:
    run = start(tiny_config())
    run.take_step()
    run.save()
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    run.take_step()
    with torch.no_grad():
        learner_of(run).network.statements.weight[0, 0] = math.inf
    with pytest.raises(TrainingError, match=r"after step 2, statements\.weight first"):
        run.save()
    assert {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()} == before


# ----------------------------------------------------------------------------------- what a run is worth


def test_the_loss_goes_down(store: EcgStore, tmp_path: Path) -> None:
    statuses: list[Status] = []
    config = tiny_config(stages=(Stage(steps=80, samples=64),), batch_size=16, learning_rate=3e-2)
    train(config, store, tmp_path, device="cpu", report=statuses.append)
    assert [status.step for status in statuses] == [20, 40, 60, 80]
    # The network starts at zero, where the loss is the variance of the noise.
    assert statuses[0].loss < 1.1
    assert statuses[-1].loss < 0.9 * statuses[0].loss


def test_status_counts_and_estimates(store: EcgStore, tmp_path: Path) -> None:
    statuses: list[Status] = []
    stages = (Stage(steps=20, samples=16), Stage(steps=5, samples=64))
    config = tiny_config(stages=stages, warmup_steps=50)
    train(config, store, tmp_path, device="cpu", report=statuses.append)
    first, last = statuses
    assert (first.step, first.total, last.step, last.total) == (20, 25, 25, 25)
    assert first.learning_rate == pytest.approx(1e-2 * 20 / 50)
    assert last.seconds_left == 0
    # 20 steps of 4 records took 80 / speed seconds; 5 steps of four times the length are as many samples.
    assert first.seconds_left == pytest.approx(80 / first.records_per_second)


def log_steps(folder: Path) -> list[int]:
    with (folder / "log.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def test_log_has_a_row_a_report(store: EcgStore, tmp_path: Path) -> None:
    statuses: list[Status] = []
    train(many_steps(45), store, tmp_path, device="cpu", report=statuses.append)
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [20, 40, 45]
    for row, status in zip(rows, statuses, strict=True):
        assert float(row["loss"]) == pytest.approx(status.loss, abs=1e-6)
        assert float(row["learning_rate"]) == pytest.approx(1e-2)
        assert float(row["records_per_second"]) == pytest.approx(status.records_per_second, abs=0.1)


def test_the_folder_holds_configuration_and_averaged_model(store: EcgStore, tmp_path: Path) -> None:
    config = tiny_config()
    run = train(config, store, tmp_path, device="cpu")
    settings = configuration.load_json(tmp_path / "config.json")
    assert configuration.from_dict(DiffusionTraining, settings) == config

    model = load_model(tmp_path / "model")
    weights = model.network.state_dict()
    for name, value in learner_of(run).average.average.items():
        assert torch.equal(weights[name], value), name
    live = dict(learner_of(run).network.named_parameters())
    assert any(not torch.equal(weights[name], value) for name, value in live.items())
    assert model.config.network == config.network and model.config.schedule == config.schedule
    assert (model.config.name, model.config.rate, model.config.leads) == ("tiny", 100.0, config.data.leads)
    assert model.config.trained_on == "bumps, folds 1,2,3,4,5,6,7,8, 4 steps of 4 records"
    assert not list(tmp_path.rglob("*.tmp"))


def test_without_averaging_the_live_weights_are_saved(store: EcgStore, tmp_path: Path) -> None:
    run = train(tiny_config(ema_decay=0.0), store, tmp_path, device="cpu")
    weights = load_model(tmp_path / "model").network.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in learner_of(run).network.state_dict().items())


def test_pictures_are_drawn_without_disturbing_the_run(start: StartRun) -> None:
    config = tiny_config(network=replace(TINY_NETWORK, length=250))
    run, quiet = start(config, "run"), start(config, "quiet")
    run.take_step()
    picture = run.draw_samples()
    assert picture is not None and picture.name == "step-0000001.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    run.take_step()
    for _ in range(2):
        quiet.take_step()
    assert_same(everything(run), everything(quiet))


@pytest.mark.parametrize(("label_set", "labels"), [("superdiagnostic", 5), ("form", 19)])
def test_models_of_other_label_sets_draw_what_they_know(start: StartRun, label_set: str, labels: int) -> None:
    network = replace(TINY_NETWORK, length=250, labels=labels)
    picture = start(tiny_config(network=network, data=DataConfig(label_set=label_set))).draw_samples()
    assert picture is not None and picture.is_file()


def test_precision_of_mixed_training(start: StartRun) -> None:
    exact, mixed = start(tiny_config(), "exact"), start(tiny_config(precision="bf16-mixed"), "mixed")
    assert mixed.take_step() == pytest.approx(exact.take_step(), rel=0.02)
    assert {value.dtype for value in learner_of(mixed).network.parameters()} == {torch.float32}


def test_inputs_of_mixed_training_keep_their_digits() -> None:
    """Only products are rounded: a level of 1001 would be 1000 in bfloat16."""
    fabric = make_fabric(device="cpu", devices=1, precision="bf16-mixed")
    double = fabric.setup_module(torch.nn.Identity())
    assert float(double(torch.tensor(1001.0))) == 1001.0
    linear = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(linear.weight)
    assert fabric.setup_module(linear)(torch.tensor([1001.0])).tolist() == [1000.0]


def test_scale_of_the_data_against_the_schedule(start: StartRun, store: EcgStore) -> None:
    run = start(tiny_config())
    data = learner_of(run).data
    signals = store.signals_mv(data.rows)[:, data.lead_rows]
    rms = float((signals**2).mean() ** 0.5)
    assert f"rms {rms:.3f} mV" in scale_note(tiny_config(), data)
    assert "schedule 0.0" in scale_note(tiny_config(), data) and ": fits" in scale_note(tiny_config(), data)
    short = tiny_config(schedule=replace(tiny_config().schedule, T=50))
    assert "does not fit" in scale_note(short, data)


def test_training_leaves_small_numbers_as_they_were(store: EcgStore, tmp_path: Path) -> None:
    """Denormals are flushed for speed while training, not for the rest of the process."""
    train(tiny_config(), store, tmp_path / "run", device="cpu")
    assert float(torch.tensor(1e-310, dtype=torch.float64) * 1) == 1e-310


# ------------------------------------------------------------------------------------------ a model to start from


def test_a_run_begins_with_the_weights_of_the_model_it_starts_from(store: EcgStore, tmp_path: Path) -> None:
    """A step of next to no length leaves them where they were, in the network and in the average."""
    train(tiny_config(), store, tmp_path / "first")
    first = load_model(tmp_path / "first" / "model")
    run = train(
        tiny_config(seed=1, learning_rate=1e-30, stages=(Stage(steps=1, samples=64),)),
        store,
        tmp_path / "second",
        start=first,
    )
    assert_same(dict(first.network.state_dict()), dict(learner_of(run).network.state_dict()))
    second = load_model(tmp_path / "second" / "model")
    assert_same(dict(first.network.state_dict()), dict(second.network.state_dict()))
    assert first.config.trained_on in second.config.trained_on
    assert "started from tiny (" in second.config.trained_on


def test_a_started_run_goes_on_as_if_never_stopped_and_only_with_its_start(store: EcgStore, tmp_path: Path) -> None:
    train(tiny_config(seed=1), store, tmp_path / "first")
    first = load_model(tmp_path / "first" / "model")
    fabric = make_fabric(device="cpu", devices=1, precision="32-true")
    whole = train(tiny_config(), store, tmp_path / "whole", start=first)
    stopped = Run(tiny_config(), store, tmp_path / "stopped", fabric, start=first)
    stopped.take_step()
    stopped.save()
    with pytest.raises(CheckpointError, match="start_from"):
        train(tiny_config(), store, tmp_path / "stopped")
    assert_same(everything(whole), everything(train(tiny_config(), store, tmp_path / "stopped", start=first)))


def test_a_start_of_another_shape_is_refused_by_name(store: EcgStore, tmp_path: Path) -> None:
    train(tiny_config(), store, tmp_path / "first")
    first = load_model(tmp_path / "first" / "model")
    wider = tiny_config(network=replace(TINY_NETWORK, skip_channels=8))
    with pytest.raises(ConfigError, match="differs in network; train the preset it came from"):
        train(wider, store, tmp_path / "wider", start=first)
    assert not (tmp_path / "wider").exists()
    unsaved = Model(replace(first.config, weights_sha256=""), first.network)
    with pytest.raises(ConfigError, match="a saved model to start from, got tiny without a checksum"):
        train(tiny_config(), store, tmp_path / "unsaved", start=unsaved)


def test_a_run_from_before_starts_were_known_goes_on(store: EcgStore, tmp_path: Path) -> None:
    train(tiny_config(), store, tmp_path / "run")
    checkpoint = tmp_path / "run" / CHECKPOINT_FILE
    state = torch.load(checkpoint, weights_only=True)
    del state["identity"]["start_from"]
    torch.save(state, checkpoint)
    assert train(tiny_config(), store, tmp_path / "run").step == 4
