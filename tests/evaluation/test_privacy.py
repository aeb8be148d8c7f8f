"""The privacy audit: copies are caught, an independent draw is not; what it measures, against closed forms."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import TINY_NETWORK
from torch import Tensor, nn

from ecgforge.checkpoints.native import Model, ModelConfig
from ecgforge.classify import Classifier
from ecgforge.data.store import EcgStore, StoreWriter
from ecgforge.diffusion.denoiser import eps_loss
from ecgforge.diffusion.flow import FlowSchedule, flow_loss, level_at
from ecgforge.diffusion.schedule import LinearSchedule
from ecgforge.errors import CheckpointError, ConfigError, DataError
from ecgforge.evaluation.denoising import attack_levels, denoising_errors, filter_errors
from ecgforge.evaluation.privacy import PrivacyAudit, PrivacySettings, audit_privacy
from ecgforge.evaluation.privacy_report import report_markdown, write_privacy_report
from ecgforge.evaluation.waveforms import comparable_waveforms, nearest_waveforms
from ecgforge.labels import vocabulary
from ecgforge.leads import MODEL_LEADS, STANDARD_LEADS
from ecgforge.models.patch_s4 import PatchS4, PatchS4Config
from ecgforge.models.sssd import SssdEcg
from ecgforge.models.wavegan import WaveGanConfig
from ecgforge.models.xresnet import XResNet1d, XResNetConfig
from ecgforge.r_peaks import find_r_peaks, mark_known_beats, measure_facts
from ecgforge.record import EcgRecord, Patient, Provenance
from ecgforge.rng import Purpose, record_stream
from ecgforge.training.flow import lead_scales
from ecgforge.training.records import select_data
from ecgforge.training.settings import FlowTraining, Stage

RATE, SAMPLES = 100, 300
SETTINGS = PrivacySettings(train_folds=(1, 2, 3), test_folds=(4,), records=150)
FEW = replace(SETTINGS, records=20)
TRAINING, HELD_OUT = 180, 120
CLASSIFIER = XResNetConfig(blocks=(1,), strides=(1,), stem=(4, 4, 8), width=8, expansion=1, head=8, dropout=0.0)


def heart(number: int) -> np.ndarray:
    """(12, L + 20) beats of a rhythm, phase, shape and lead sizes of their own, with a little noise."""
    stream = np.random.default_rng(number)
    period, phase = stream.uniform(0.6, 1.1), stream.uniform(0, 1)
    beat = (np.arange(SAMPLES + 20) / RATE / period + phase) % 1
    waves = [(0.3, 0.03, 0.2), (0.45, 0.012, 1.0), (0.5, 0.02, -0.5), (stream.uniform(0.65, 0.75), 0.05, 0.4)]
    sizes = stream.normal(0, 1, size=(12, len(waves)))
    clean = sum(
        np.outer(sizes[:, k] * height, np.exp(-(((beat - centre) / width) ** 2)))
        for k, (centre, width, height) in enumerate(waves)
    )
    return np.asarray(clean + 0.02 * stream.standard_normal(beat.shape))


def write(path: Path, signals: list[np.ndarray], *, synthetic: bool, folds: list[int] | None = None) -> EcgStore:
    with StoreWriter(path, rate=RATE, samples=signals[0].shape[1], source="beats", synthetic=synthetic) as writer:
        for number, signal in enumerate(signals):
            writer.add(
                EcgRecord(
                    signal=signal,
                    rate=RATE,
                    record_id=f"{'made' if synthetic else 'real'}-{number}",
                    statements={"NORM": 1.0, "SR": 1.0} if number % 2 else {"AFIB": 1.0},
                    patient=Patient(age=20.0 + number % 60, sex="female" if number % 3 else "male"),
                    provenance=Provenance(synthetic=synthetic, fold=folds[number] if folds else None),
                )
            )
    return EcgStore.open(path)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> EcgStore:
    """180 training records in folds 1 to 3, then 120 held-out ones in fold 4."""
    folds = [1 + number % 3 for number in range(TRAINING)] + [4] * HELD_OUT
    signals = [heart(number)[:, 10:-10] for number in range(len(folds))]
    return write(tmp_path_factory.mktemp("real") / "store", signals, synthetic=False, folds=folds)


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> EcgStore:
    """Every training record, in falling order, up to 0.1 s early or late, scaled, with new noise."""
    stream = np.random.default_rng(1)
    signals = []
    for number in reversed(range(TRAINING)):
        late = int(stream.integers(21))
        copy = 1.3 * heart(number)[:, late : late + SAMPLES]
        signals.append(copy + 0.02 * stream.standard_normal(copy.shape))
    return write(tmp_path_factory.mktemp("copies") / "store", signals, synthetic=True)


@pytest.fixture(scope="module")
def independent(tmp_path_factory: pytest.TempPathFactory) -> EcgStore:
    signals = [heart(10_000 + number)[:, 10:-10] for number in range(TRAINING)]
    return write(tmp_path_factory.mktemp("independent") / "store", signals, synthetic=True)


def classifier() -> Classifier:
    """Untrained: features that depend on the whole record."""
    torch.manual_seed(0)
    return Classifier(Model(described(CLASSIFIER, schedule=None, leads=STANDARD_LEADS), XResNet1d(CLASSIFIER)))


def described(
    network: object, *, schedule: LinearSchedule | FlowSchedule | None, leads: tuple[str, ...] = MODEL_LEADS
) -> ModelConfig:
    return ModelConfig(
        name="tiny",
        network=network,
        schedule=schedule,
        label_set="all",
        labels=vocabulary("all").labels,
        leads=leads,
        rate=float(RATE),
        trained_on="beats, folds 1,2,3",
    )


# ------------------------------------------------------------------------------------------- controls


@pytest.fixture(scope="module")
def caught(real: EcgStore, copies: EcgStore) -> PrivacyAudit:
    return audit_privacy(real, copies, settings=replace(SETTINGS, records=1000), classifier=classifier())


@pytest.fixture(scope="module")
def acquitted(real: EcgStore, independent: EcgStore) -> PrivacyAudit:
    return audit_privacy(real, independent, settings=replace(SETTINGS, records=1000), classifier=classifier())


def test_copies_are_caught_by_their_waveforms(caught: PrivacyAudit) -> None:
    found = caught.views[1].synthetic
    assert caught.views[1].view == "waveforms"
    assert found.too_near > 0.95
    assert found.attack.auroc.estimate > 0.98 and found.attack.sensitivity_at_1_percent > 0.9
    for pair in caught.views[1].pairs:  # copies are in falling order
        assert int(pair.training.removeprefix("real-")) == TRAINING - 1 - int(pair.synthetic.removeprefix("made-"))


def test_exact_copies_are_caught_by_their_features(real: EcgStore, tmp_path: Path) -> None:
    signals = [real.record(row).signal for row in range(TRAINING)]
    audit = audit_privacy(
        real, write(tmp_path / "s", signals, synthetic=True), settings=SETTINGS, classifier=classifier()
    )
    found = audit.views[0].synthetic
    assert audit.views[0].view == "features"
    assert found.too_near == 1 and found.quantiles[-1] == 0
    # Of 180 copies 150 are examined, so most of the 150 members are given away.
    assert found.attack.auroc.low > 0.8
    assert [pair.synthetic.removeprefix("made-") for pair in audit.views[0].pairs] == [
        pair.training.removeprefix("real-") for pair in audit.views[0].pairs
    ]


def test_an_independent_draw_is_not_caught(acquitted: PrivacyAudit) -> None:
    for view in acquitted.views:
        assert (
            view.synthetic.too_near < 0.08
        )  # expected 0.018, as the limit lies between the 2nd and 3rd nearest of 120
        assert view.synthetic.attack.auroc.estimate == pytest.approx(0.5, abs=0.1)  # deviation 0.034
        assert view.synthetic.attack.sensitivity_at_1_percent < 0.06


def test_real_records_in_the_place_of_synthetic_ones_are_not_caught(caught: PrivacyAudit) -> None:
    for view in caught.views:
        assert view.control is not None
        assert (view.control.name, view.control.records) == ("real records of fold 3", 60)
        assert view.control.attack.members == 120
        assert view.control.too_near < 0.08
        assert view.control.attack.auroc.estimate == pytest.approx(0.5, abs=0.12)


class Memory(nn.Module):
    """The best denoiser for a distribution that consists of these records: the end of all overfitting."""

    def __init__(self, records: np.ndarray, schedule: LinearSchedule | FlowSchedule) -> None:
        super().__init__()
        self.records = torch.from_numpy(records)
        self.schedule = schedule

    def forward(self, x: Tensor, told: Tensor, condition: Tensor, beats: Tensor | None = None) -> Tensor:
        flow = isinstance(self.schedule, FlowSchedule)
        level = level_at(float(torch.exp(4 * told[0]))) if flow else self.schedule.level(int(told[0]))
        known = self.records.flatten(1)
        away = torch.cdist(x.flatten(1), level.alpha * known).square()
        weights = torch.softmax(-away / (2 * level.sigma**2), dim=1)
        x_0_hat = (weights @ known).reshape(x.shape)
        return (level.alpha * x - x_0_hat if flow else x - level.alpha * x_0_hat) / level.sigma


def remembering(real: EcgStore, rows: range, schedule: LinearSchedule | FlowSchedule) -> Model:
    if isinstance(schedule, FlowSchedule):
        network = PatchS4Config(length=SAMPLES, features=8, layers=1, condition_features=8, state_size=4, facts=())
        scales = (0.25,) * len(MODEL_LEADS)
    else:
        network, scales = replace(TINY_NETWORK, length=SAMPLES), ()
    signals = real.signals_mv(list(rows))[:, [STANDARD_LEADS.index(lead) for lead in MODEL_LEADS]]
    config = replace(described(network, schedule=schedule), scales_mv=scales)
    return Model(config, Memory(signals / np.float32(scales[0] if scales else 1), schedule))


@pytest.mark.parametrize("schedule", [LinearSchedule(), FlowSchedule()], ids=["linear", "flow"])
def test_a_model_that_learnt_records_by_heart_is_caught(
    real: EcgStore, independent: EcgStore, schedule: LinearSchedule | FlowSchedule
) -> None:
    audit = audit_privacy(real, independent, settings=SETTINGS, model=remembering(real, range(TRAINING), schedule))
    assert [view.view for view in audit.views] == ["waveforms"]
    assert len(audit.model_attacks) == 5 and audit.model_attacks[-1].noise == "all"
    for attack in audit.model_attacks:
        assert attack.error.auroc.estimate > 0.95 and attack.relative.auroc.estimate > 0.95
        assert attack.control.auroc.estimate == pytest.approx(0.5, abs=0.12)
        assert (attack.error.members, attack.error.non_members) == (150, 120)


def test_a_model_that_learnt_other_records_is_not_caught(
    real: EcgStore, copies: EcgStore, independent: EcgStore
) -> None:
    model = remembering(independent, range(60), FlowSchedule())
    attack = audit_privacy(real, copies, settings=SETTINGS, model=model).model_attacks[-1]
    assert attack.error.auroc.estimate == pytest.approx(0.5, abs=0.12)
    assert attack.relative.auroc.estimate == pytest.approx(0.5, abs=0.12)


# ------------------------------------------------------------------------------------ denoising errors


def test_error_of_a_noise_predicting_network_is_its_loss(real: EcgStore) -> None:
    torch.manual_seed(2)
    network = SssdEcg(replace(TINY_NETWORK, length=SAMPLES)).eval()
    model = Model(described(replace(TINY_NETWORK, length=SAMPLES), schedule=LinearSchedule()), network)
    rows, level = [3, 200], LinearSchedule().level(60)
    errors = denoising_errors(model, real, rows, levels=[level], seed=7)
    with torch.no_grad():
        losses = eps_loss(
            network,
            LinearSchedule(),
            torch.from_numpy(real.signals_mv(rows)[:, [STANDARD_LEADS.index(lead) for lead in MODEL_LEADS]]),
            torch.from_numpy(real.labels(vocabulary("all"))[rows]),
            step=torch.full((2,), 60.0),
            eps=the_noise(seed=7).expand(2, -1, -1),
        )
    # x0_hat - x0 = -(sigma / alpha) (eps_hat - eps)
    np.testing.assert_allclose(errors[:, 0], (level.sigma / level.alpha) ** 2 * losses.numpy(), rtol=1e-4)


def test_error_of_a_velocity_predicting_network_is_its_loss(real: EcgStore) -> None:
    torch.manual_seed(2)
    config = FlowTraining(
        name="tiny-flow",
        network=PatchS4Config(length=SAMPLES, patch=4, features=8, layers=1, condition_features=8, state_size=4),
        stages=(Stage(steps=1, samples=SAMPLES),),
    )
    data = select_data(real, config, folds=(1,))
    network = PatchS4(config.network).eval()
    for parameter in network.parameters():  # the gates start at zero and would hide the condition
        nn.init.normal_(parameter, std=0.1)
    scales = lead_scales(data)
    described_flow = replace(described(config.network, schedule=FlowSchedule()), scales_mv=tuple(scales[:, 0].tolist()))
    picks = np.array([1, 4])
    rows = data.rows[picks]
    errors = denoising_errors(Model(described_flow, network), real, rows, levels=[level_at(0.7)], seed=7)
    records = [real.record(int(row)) for row in rows]
    facts = np.stack([measure_facts(record).encode(config.network.facts) for record in records])
    beats = np.stack([mark_known_beats(find_r_peaks(record), SAMPLES) for record in records])
    with torch.no_grad():
        losses = flow_loss(
            partial(network, beats=torch.from_numpy(beats)),
            torch.from_numpy(data.signals_mv(picks) / scales),
            torch.from_numpy(np.concatenate([data.condition[picks], facts], axis=1)),
            ratio=torch.full((2,), 0.7),
            eps=the_noise(seed=7).expand(2, -1, -1),
        )
    # x0_hat - x0 = -sin(t) (v_hat - v)
    np.testing.assert_allclose(errors[:, 0], level_at(0.7).sigma ** 2 * losses.numpy(), rtol=1e-4)


def the_noise(*, seed: int) -> Tensor:
    stream = record_stream(seed, 0, purpose=Purpose.DENOISING_NOISE)
    return torch.from_numpy(stream.standard_normal((len(MODEL_LEADS), SAMPLES), dtype=np.float32))


def test_errors_do_not_depend_on_the_company(real: EcgStore) -> None:
    model = remembering(real, range(50), LinearSchedule())
    levels, said = attack_levels(model.config), []
    together = denoising_errors(
        model, real, np.arange(40, 60), levels=levels, draws=2, progress=lambda done, total: said.append((done, total))
    )
    assert together.shape == (20, 4) and said == [(16, 20), (20, 20)]
    np.testing.assert_allclose(denoising_errors(model, real, [57], levels=levels, draws=2), together[17:18], rtol=1e-4)
    first, second = (denoising_errors(model, real, [57], levels=levels, seed=seed) for seed in (0, 1))
    assert not np.allclose(first, second)


def test_attack_levels_are_at_the_same_noise_over_signal() -> None:
    flow = attack_levels(replace(described(TINY_NETWORK, schedule=FlowSchedule()), scales_mv=(0.2,) * 8))
    np.testing.assert_allclose([level.sigma / level.alpha for level in flow], [0.1, 0.3, 1, 3])
    linear = attack_levels(described(TINY_NETWORK, schedule=LinearSchedule()))
    # In mV; the papers' 200 steps lie this close to each other.
    np.testing.assert_allclose([level.sigma / level.alpha for level in linear], [0.025, 0.075, 0.25, 0.75], rtol=0.05)


class Filter(nn.Module):
    """Predicts the noise with one gain for each lead and frequency."""

    def __init__(self, power: np.ndarray) -> None:
        super().__init__()
        self.power = torch.from_numpy(power)  # (C, F) of the signal, where white noise of variance 1 has L

    def forward(self, x: Tensor, told: Tensor, condition: Tensor, beats: Tensor | None = None) -> Tensor:
        level = LinearSchedule().level(int(told[0]))
        gain = level.alpha * self.power / (level.alpha**2 * self.power + level.sigma**2 * x.shape[-1])
        x_0_hat = torch.fft.irfft(gain * torch.fft.rfft(x.double()), n=x.shape[-1])
        return ((x - level.alpha * x_0_hat) / level.sigma).float()


@pytest.mark.parametrize("length", [SAMPLES, SAMPLES - 1], ids=["even", "odd"])
def test_filter_errors_are_those_of_the_filter(real: EcgStore, length: int) -> None:
    rows = np.arange(6)
    signals = real.signals_mv(rows)[:, [STANDARD_LEADS.index(lead) for lead in MODEL_LEADS], :length]
    power = (np.abs(np.fft.rfft(signals.astype(np.float64))) ** 2).mean(axis=0)
    model = Model(described(replace(TINY_NETWORK, length=length), schedule=LinearSchedule()), Filter(power))
    levels = attack_levels(model.config)
    measured = denoising_errors(model, real, rows, levels=levels, draws=40)
    np.testing.assert_allclose(filter_errors(model.config, real, rows, levels=levels), measured, rtol=0.05)


# ------------------------------------------------------------------------------------------ waveforms


def test_distance_of_waveforms_by_hand() -> None:
    """Sines of whole periods within what is compared: correlations are cosines of the phase."""
    time = np.arange(100 + 40) / 50  # 2 s and 0.4 s to either side

    def pair(phase: float, other: float) -> np.ndarray:
        return np.stack([np.sin(2 * np.pi * 2 * time + phase), 3 * np.sin(2 * np.pi * 6 * time + other)])

    queries = np.stack([pair(0.0, 0.0), pair(0.5, 0.5)]).astype(np.float32)
    references = np.stack([np.zeros_like(pair(0, 0)), pair(0.0, np.pi), pair(1.0, 3.0)]).astype(np.float32)
    distance, row = nearest_waveforms(queries, references)
    # Shifting by s samples turns the phases by 2 pi f s / 50; the best of the 41 shifts counts.
    turns = 2 * np.pi * np.arange(-20, 21) / 50
    expected = np.array(
        [
            [1 - np.max(np.cos(a - p + 2 * turns) + np.cos(b - q + 6 * turns)) / 2 for a, b in ((0, np.pi), (1, 3))]
            for p, q in ((0, 0), (0.5, 0.5))
        ]
    )
    np.testing.assert_allclose(distance, expected.min(axis=1), atol=1e-5)
    np.testing.assert_array_equal(row, 1 + expected.argmin(axis=1))


def test_a_shifted_scaled_copy_is_at_distance_0() -> None:
    long = np.stack([heart(number) for number in range(5)])
    waveforms = comparable_waveforms(long, rate=RATE)
    # 8 samples at 50 Hz; away from the filter's edges, which the query leaves out.
    distance, row = nearest_waveforms(2 * waveforms[:, :, 8:-8], waveforms[:, :, :-16])
    np.testing.assert_allclose(distance, 0, atol=1e-5)
    np.testing.assert_array_equal(row, np.arange(5))


def test_rates_do_not_matter_to_waveforms() -> None:
    time = np.arange(2000) / 500
    fine = np.zeros((1, 12, 2000))
    fine[0, 1], fine[0, 7] = np.sin(2 * np.pi * 2 * time), np.sin(2 * np.pi * 5 * time)
    slow, fast = (comparable_waveforms(signal, rate=rate) for signal, rate in ((fine[:, :, ::5], 100.0), (fine, 500.0)))
    assert slow.shape == fast.shape == (1, 2, 200)
    np.testing.assert_allclose(slow[:, :, 50:150], fast[:, :, 50:150], atol=0.03)


def test_a_flat_lead_is_like_nothing() -> None:
    """A constant leaves rounding behind the filter, which is the same in every record."""
    signals = np.random.default_rng(0).standard_normal((8, 12, 1000)) * 0.2
    for level in (0.0, 0.1, 3.0):
        signals[:, STANDARD_LEADS.index("V2")] = level
        waveforms = comparable_waveforms(signals, rate=100)
        distance, _ = nearest_waveforms(waveforms[:4], waveforms[4:])
        if level == 0:
            expected = distance
        np.testing.assert_allclose(distance, expected, atol=1e-4)


def test_references_are_compared_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    waveforms = comparable_waveforms(np.stack([heart(number) for number in range(30)]), rate=RATE)
    expected = nearest_waveforms(waveforms[20:], waveforms[:20])
    monkeypatch.setattr("ecgforge.evaluation.waveforms._BLOCK", 7)
    said: list[tuple[int, int]] = []
    distance, row = nearest_waveforms(waveforms[20:], waveforms[:20], progress=lambda *now: said.append(now))
    np.testing.assert_allclose(distance, expected[0], atol=1e-6)
    np.testing.assert_array_equal(row, expected[1])
    assert said == [(7, 20), (14, 20), (20, 20)]


def test_waveforms_too_short_to_compare_are_refused() -> None:
    with pytest.raises(DataError, match="2 s or more"):
        comparable_waveforms(np.zeros((1, 12, 190)), rate=RATE)


# ---------------------------------------------------------------------------------- choices and errors


def test_the_same_seed_examines_the_same_records(real: EcgStore, independent: EcgStore) -> None:
    first, again = (audit_privacy(real, independent, settings=FEW) for _ in range(2))
    assert first == again
    assert (first.members, first.held_out, first.views[0].synthetic.records) == (20, 20, 20)
    assert first.training_records == TRAINING
    other = audit_privacy(real, independent, settings=replace(FEW, seed=1))
    assert other.views[0].synthetic.quantiles != first.views[0].synthetic.quantiles


def test_one_training_fold_has_no_stand_in(real: EcgStore, independent: EcgStore) -> None:
    audit = audit_privacy(real, independent, settings=replace(FEW, train_folds=(2,)))
    assert audit.views[0].control is None
    assert any("stand in" in note for note in audit.notes)


def test_twins_of_training_records_only_are_noted(real: EcgStore, tmp_path: Path) -> None:
    signals = [heart(20_000 + number)[:, 10:-10] for number in range(40)]
    for folds, noted in (([1, 2] * 20, True), ([1, 4] * 20, False)):
        twins = write(tmp_path / f"{noted}", signals, synthetic=True, folds=folds)
        audit = audit_privacy(real, twins, settings=FEW)
        assert any("twins of training records only" in note for note in audit.notes) is noted


def test_a_gan_is_audited_by_its_samples(real: EcgStore, independent: EcgStore) -> None:
    gan = Model(described(WaveGanConfig(leads=8, length=1000), schedule=None), nn.Identity())
    audit = audit_privacy(real, independent, settings=FEW, model=gan)
    assert audit.model_attacks == ()
    assert any("no denoising error" in note for note in audit.notes)
    with pytest.raises(CheckpointError, match="expected a diffusion model, got the wavegan tiny"):
        denoising_errors(gan, real, [0], levels=[level_at(1.0)])


def test_what_does_not_fit_is_refused(real: EcgStore, independent: EcgStore, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a store of synthetic records"):
        audit_privacy(real, real, settings=SETTINGS)
    with pytest.raises(DataError, match="has 1 2 3 4, got 5"):
        audit_privacy(real, independent, settings=replace(SETTINGS, test_folds=(5,)))
    with pytest.raises(ConfigError, match="got 3 as both"):
        PrivacySettings(train_folds=(1, 3), test_folds=(3,))
    with pytest.raises(ConfigError, match="2 or more records"):
        PrivacySettings(records=1)
    model = remembering(real, range(10), LinearSchedule())
    slow = Model(replace(model.config, rate=50.0), model.network)
    with pytest.raises(DataError, match="expected a store at 50 Hz, the rate of the model tiny"):
        audit_privacy(real, independent, settings=SETTINGS, model=slow)
    long = Model(replace(model.config, network=replace(TINY_NETWORK, length=1000)), model.network)
    with pytest.raises(DataError, match="records of 1000 samples or more for the model tiny"):
        audit_privacy(real, independent, settings=SETTINGS, model=long)
    judge = classifier()
    with pytest.raises(CheckpointError, match="expected a model that generates, got the classifier tiny"):
        audit_privacy(real, independent, settings=SETTINGS, model=Model(judge.config, nn.Identity()))
    judge.config = replace(judge.config, rate=500.0)
    with pytest.raises(DataError, match="the rate of the classifier tiny"):
        audit_privacy(real, independent, settings=SETTINGS, classifier=judge)
    short = write(tmp_path / "short", [heart(number)[:, :240] for number in range(3)], synthetic=True)
    with pytest.raises(DataError, match=r"records of 2\.5 s or more, got 2\.4 s"):
        audit_privacy(real, short, settings=SETTINGS, classifier=classifier())


# ---------------------------------------------------------------------------------------------- files


def test_report(caught: PrivacyAudit, real: EcgStore, copies: EcgStore, tmp_path: Path) -> None:
    written = write_privacy_report(caught, real, copies, tmp_path / "new", command="ecgforge privacy")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["nearest.png", "report.md", "results.json"]
    results = json.loads(written[0].read_text())
    found = results["views"][1]["synthetic"]
    assert found["too_near"] == caught.views[1].synthetic.too_near
    assert found["attack"]["auroc"]["estimate"] == caught.views[1].synthetic.attack.auroc.estimate
    assert results["settings"]["train_folds"] == [1, 2, 3]
    text = written[-1].read_text()
    assert "```sh\necgforge privacy\n```" in text
    assert f"| waveforms | synthetic records | {TRAINING} |" in text
    assert f"{found['too_near']:.2%} |" in text
    assert "## Attack on the model" not in text
    pair = caught.views[0].pairs[0]
    assert f"| features | {pair.synthetic} | {pair.training} | {pair.distance:.3f} |" in text


def test_report_of_an_attack_on_the_model(real: EcgStore, independent: EcgStore) -> None:
    model = remembering(real, range(TRAINING), FlowSchedule())
    audit = audit_privacy(real, independent, settings=FEW, model=model)
    text = report_markdown(audit)
    auroc = audit.model_attacks[2].relative.auroc
    assert f"| 1 | relative | {auroc.estimate:.3f} ({auroc.low:.3f} to {auroc.high:.3f}) |" in text
    assert "trained on beats, folds 1,2,3" in text
    assert text.count("| all |") == 3
