"""The classifier's learner: windows, validation, and which weights are kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import tiny_classifier, tiny_store

from ecgforge.checkpoints.native import load_model
from ecgforge.classify import Classifier, crop_mean, crop_starts
from ecgforge.config import resolve
from ecgforge.data.store import EcgStore, StoreWriter
from ecgforge.errors import CheckpointError, ConfigError, DataError
from ecgforge.generate import Generator
from ecgforge.models.xresnet import XResNet1d
from ecgforge.training.classifier import ClassifierLearner
from ecgforge.training.loop import Status, make_fabric, train
from ecgforge.training.settings import DataConfig, Stage


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EcgStore:
    """Records of 3.75 s, longer than the crops of 2.5 s, of which they have two."""
    return tiny_store(tmp_path_factory.mktemp("classifier"), samples=375)


def learner_on(store: EcgStore, extra: EcgStore | None = None, **changes: object) -> ClassifierLearner:
    torch.manual_seed(0)
    fabric = make_fabric(device="cpu", devices=1, precision="32-true")
    return ClassifierLearner(tiny_classifier(**changes), store, fabric, extra)


def test_crops_overlap_by_half_and_reach_the_end() -> None:
    assert crop_starts(1000, crop=250) == (0, 125, 250, 375, 500, 625, 750)  # the 7 of the paper
    assert crop_starts(250, crop=250) == (0,)
    assert crop_starts(300, crop=250) == (0, 50)
    with pytest.raises(DataError, match="250 samples or more, got 249"):
        crop_starts(249, crop=250)


def test_a_records_probability_is_the_mean_over_its_crops(store: EcgStore) -> None:
    learner = learner_on(store)
    signals = torch.from_numpy(store.signals_mv(np.arange(3)))
    whole = crop_mean(learner.network, signals, crop=100)
    learner.network.eval()
    parts = [torch.sigmoid(learner.network(signals[:, :, start : start + 100])) for start in crop_starts(375, crop=100)]
    torch.testing.assert_close(whole, torch.stack(parts).mean(dim=0).detach())


def test_four_steps_are_two_and_two_resumed(store: EcgStore) -> None:
    whole, first = learner_on(store), learner_on(store)
    losses = [whole.take_step(step) for step in range(4)]
    parts = [first.take_step(step) for step in range(2)]
    second = learner_on(store)
    second.load_state(first.state())
    assert second.score == first.score is not None
    parts += [second.take_step(step) for step in range(2, 4)]
    assert parts == losses and second.score == whole.score
    _, ours = second.model(steps_done=4)
    _, theirs = whole.model(steps_done=4)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_best_weights_by_validation_are_kept(store: EcgStore) -> None:
    learner = learner_on(store, stages=(Stage(steps=40, samples=250),), validate_every=4)
    scores, states = [], []
    for step in range(40):
        learner.take_step(step)
        if (step + 1) % 4 == 0:
            scores.append(learner.score)
            states.append({name: value.clone() for name, value in learner.network.state_dict().items()})
    _, kept = learner.model(steps_done=40)
    best = states[int(np.argmax(scores))]  # the first of equals, as the learner keeps it
    assert all(torch.equal(kept[name], best[name]) for name in best)


def test_it_learns_what_the_bumps_show(tmp_path: Path) -> None:
    """Large bumps are NORM, small ones AFIB: as easy as a task can be."""
    store = tiny_store(tmp_path, records=48, samples=375)
    statuses: list[Status] = []
    network = replace(tiny_classifier().network, dropout=0.0)
    config = tiny_classifier(network=network, stages=(Stage(steps=60, samples=250),), validate_every=20)
    train(config, store, tmp_path / "run", device="cpu", report=statuses.append)
    assert statuses[-1].loss < 0.5 * statuses[0].loss
    classifier = Classifier.load(tmp_path / "run" / "model")
    probabilities = classifier.predict(store, np.arange(6))
    assert probabilities.shape == (6, 71) and (probabilities >= 0).all() and (probabilities <= 1).all()
    features = classifier.features(store, np.arange(6))
    assert features.shape == (6, 8)
    np.testing.assert_allclose(classifier.predict(store, [4, 2]), probabilities[[4, 2]], rtol=1e-5)


def test_two_data_sets_are_learned_from_together(store: EcgStore, tmp_path: Path) -> None:
    extra = tiny_store(tmp_path, records=40, samples=375)
    alone, both = learner_on(store), learner_on(store, extra)
    assert len(both.data) == len(alone.data) + 30  # 40 records less folds 7 and 8
    ids = {name for step in range(6) for name in both._batch(step)[2]}
    assert ids == {str(name) for name in extra.index["record_id"] if int(name.split("-")[1]) % 8 < 6}
    assert len(both._validation) == 6  # of the first store only
    assert " and " in both.model(steps_done=0)[0].trained_on


def test_a_classifier_is_no_generator_and_the_reverse(store: EcgStore, tmp_path: Path) -> None:
    train(tiny_classifier(), store, tmp_path / "run", device="cpu")
    model = load_model(tmp_path / "run" / "model")
    assert isinstance(model.network, XResNet1d)
    with pytest.raises(CheckpointError, match="generates records, got tiny-classifier, a xresnet1d"):
        Generator(model)
    with pytest.raises(CheckpointError, match="statement classifier, got the patch-s4 model"):
        Classifier(load_model(Path(__file__).parents[2] / "src" / "ecgforge" / "weights" / "default"))


def test_bad_settings_are_refused(store: EcgStore) -> None:
    with pytest.raises(ConfigError, match="not among data.folds"):
        tiny_classifier(validation_folds=(6,))
    with pytest.raises(DataError, match="all agree"):
        learner_on(store, data=replace(tiny_classifier().data, folds=(2,)), batch_size=2, validation_folds=(4,))
    with pytest.raises(DataError, match="at least 8 records"):
        learner_on(store, data=DataConfig(folds=(1,), leads=tiny_classifier().data.leads))


def test_it_learns_on_the_crops_that_it_is_judged_on(store: EcgStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"samples = 250 for a store at 100 Hz, the 2.5 s .*, got 125"):
        learner_on(store, stages=(Stage(steps=2, samples=250), Stage(steps=4, samples=125)))
    with StoreWriter(tmp_path / "fast", rate=500, samples=1500, source="bumps", synthetic=True) as writer:
        for record in map(store.record, range(len(store))):
            writer.add(replace(record, signal=np.repeat(record.signal, 4, axis=1), rate=500.0))
    fast = EcgStore.open(tmp_path / "fast")
    config = tiny_classifier()
    with pytest.raises(ConfigError, match="samples = 1250 for a store at 500 Hz.*, got 250; --set '") as refused:
        train(config, fast, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
    # The message's own remedy works.
    setting = str(refused.value).partition("--set '")[2].removesuffix("'")
    train(resolve(config, overrides=[setting]), fast, tmp_path / "run", device="cpu")
    assert Classifier.load(tmp_path / "run" / "model").predict(fast, [0]).shape == (1, 71)


def test_another_rate_is_refused(store: EcgStore, tmp_path: Path) -> None:
    train(tiny_classifier(), store, tmp_path / "run", device="cpu")
    model = load_model(tmp_path / "run" / "model")
    other = Classifier(replace(model, config=replace(model.config, rate=500.0)))
    with pytest.raises(DataError, match="at 500 Hz"):
        other.predict(store, [0])


def test_a_classifier_begins_with_the_weights_it_starts_from(store: EcgStore, tmp_path: Path) -> None:
    train(tiny_classifier(), store, tmp_path / "first")
    first = load_model(tmp_path / "first" / "model")
    still = tiny_classifier(learning_rate=1e-30, weight_decay=0.0, stages=(Stage(steps=2, samples=250),))
    run = train(still, store, tmp_path / "second", start=first)
    then, now = dict(first.network.named_parameters()), dict(run.learner.named_parameters())
    assert [name for name in then if not torch.equal(then[name], now[name])] == []


def test_a_start_stays_the_best_until_better_weights_come(store: EcgStore, tmp_path: Path) -> None:
    """Steps that only harm leave the model as good as it was."""
    train(tiny_classifier(), store, tmp_path / "first")
    first = load_model(tmp_path / "first" / "model")
    harmed = train(tiny_classifier(learning_rate=100.0, seed=1), store, tmp_path / "second", start=first)
    kept, best = harmed.learner.model(steps_done=4)[1], harmed.learner.state()["best_score"]
    assert harmed.learner.score is not None and best >= harmed.learner.score
    fresh = learner_on(store)
    fresh.begin_with(first)
    assert best >= fresh.state()["best_score"] > 0 and kept.keys() == fresh.state()["best"].keys()
