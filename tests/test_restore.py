"""Completing, inpainting and varying records with a model that is exact: an untrained PatchS4.

It predicts the velocity 0, which is the exact one for independent normal samples of unit variance.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ecgforge.checkpoints.native import Model, ModelConfig
from ecgforge.data.simulate import simulate_record
from ecgforge.diffusion.flow import FlowSchedule
from ecgforge.diffusion.schedule import LinearSchedule
from ecgforge.errors import ConfigError, DataError
from ecgforge.generate import Generator
from ecgforge.labels import vocabulary
from ecgforge.leads import MODEL_LEADS, STANDARD_LEADS, lead_law_residual, twelve_from_eight
from ecgforge.models.patch_s4 import PatchS4, PatchS4Config
from ecgforge.models.sssd import SssdConfig, SssdEcg
from ecgforge.r_peaks import find_r_peaks
from ecgforge.rates import resample_record
from ecgforge.record import EcgRecord, Patient
from ecgforge.restore import _beats, complete, inpaint, vary
from ecgforge.sampling import SamplingOptions

SCALES = tuple(0.1 + 0.05 * number for number in range(8))
LENGTH = 400
FEW = SamplingOptions(sampler="unipc", steps=30)


@pytest.fixture(scope="module")
def generator() -> Generator:
    network = PatchS4Config(length=LENGTH, features=8, layers=1, condition_features=8, state_size=4)
    config = ModelConfig(
        name="white noise",
        network=network,
        schedule=FlowSchedule(),
        label_set="all",
        labels=vocabulary("all").labels,
        leads=MODEL_LEADS,
        rate=100.0,
        scales_mv=SCALES,
        weights_sha256="0" * 64,
    )
    return Generator(Model(config, PatchS4(network).requires_grad_(False)))


@pytest.fixture(scope="module")
def record() -> EcgRecord:
    eight = np.random.default_rng(0).standard_normal((8, LENGTH)) * np.array(SCALES)[:, None]
    return EcgRecord(
        signal=twelve_from_eight(eight),
        rate=100,
        record_id="white",
        statements={"NORM": 1.0},
        patient=Patient(patient_id="7", age=50),
    )


def only(record: EcgRecord, *leads: str) -> EcgRecord:
    return replace(record, signal=record.in_leads(leads), leads=leads)


def test_leads_that_follow_from_the_given_ones_are_exact(generator: Generator, record: EcgRecord) -> None:
    """I and II determine the six limb leads."""
    made = complete(generator, only(record, "I", "II"), options=FEW)[0]
    assert made.leads == STANDARD_LEADS
    np.testing.assert_array_equal(made.in_leads(("I", "II")), record.in_leads(("I", "II")))
    np.testing.assert_allclose(made.signal[:6], record.in_leads(STANDARD_LEADS)[:6], atol=2e-6)
    assert lead_law_residual(made.signal) < 2e-6


def test_other_leads_are_drawn_from_the_model(generator: Generator, record: EcgRecord) -> None:
    made = complete(generator, only(record, "I", "II"), n=3, seed=4, options=FEW)
    chest = np.stack([one.in_leads(MODEL_LEADS[1:7]) for one in made]) / np.array(SCALES[1:7])[:, None]
    np.testing.assert_allclose(chest.std(axis=(0, 2)), 1, atol=0.1)
    assert abs(np.corrcoef(chest[0].ravel(), chest[1].ravel())[0, 1]) < 0.1
    again = complete(generator, only(record, "I", "II"), n=3, seed=4, options=FEW)
    assert all((a.signal == b.signal).all() for a, b in zip(made, again, strict=True))


def test_one_combination_of_leads_leaves_the_other_open(generator: Generator, record: EcgRecord) -> None:
    """II = I/2 + aVF: what lies across it is drawn with the variance of the exact posterior."""
    made = complete(generator, only(record, "II"), n=4, options=FEW)
    s_i, s_avf = SCALES[0], SCALES[7]
    share = (s_i / 2) ** 2 / ((s_i / 2) ** 2 + s_avf**2)
    second = record.in_leads(("II",))[0]
    first = np.stack([one.in_leads(("I",))[0] for one in made])
    np.testing.assert_allclose((first - 2 * share * second).std(), s_i * np.sqrt(1 - share), rtol=0.1)


def test_gaps_are_filled_and_the_rest_stays(generator: Generator, record: EcgRecord) -> None:
    made = inpaint(generator, record, gaps=[(1.0, 2.5)], options=FEW)[0]
    there = np.ones(LENGTH, dtype=bool)
    there[100:250] = False
    np.testing.assert_array_equal(made.signal[:, there], record.signal[:, there])
    assert np.isfinite(made.signal).all()
    filled = made.in_leads(MODEL_LEADS)[:, ~there] / np.array(SCALES)[:, None]
    np.testing.assert_allclose(filled.std(axis=1), 1, atol=0.25)
    assert made.provenance.synthetic and "white completed" in made.provenance.source
    assert (made.patient.age, made.patient.patient_id) == (50, None)


def distance_of(one: EcgRecord, record: EcgRecord) -> float:
    eight = record.in_leads(MODEL_LEADS)
    change = one.in_leads(MODEL_LEADS) - eight
    return float(np.sqrt(np.square(change).mean() / np.square(eight).mean()))


@pytest.mark.parametrize("distance", [0.1, 0.3, 0.5, 1.0, 1.3])
@pytest.mark.parametrize("steps", [None, 60])
def test_variants_lie_as_far_away_as_asked(
    generator: Generator, record: EcgRecord, distance: float, steps: int | None
) -> None:
    made = vary(generator, record, distance=distance, n=2, options=SamplingOptions(steps=steps))
    for one in made:
        assert distance_of(one, record) == pytest.approx(distance, rel=0.1)
    assert not np.allclose(made[0].signal, made[1].signal, atol=1e-3)


def test_what_is_made_of_a_generated_record_does_not_follow_its_noise(generator: Generator) -> None:
    """All seeds are 0 by default: the record's own noise must not come again."""
    made = generator.sample("NORM", seed=0)[0]
    chest = made.in_leads(MODEL_LEADS[1:7])
    completed = complete(generator, only(made, "I", "II"), seed=0, options=FEW)[0].in_leads(MODEL_LEADS[1:7])
    filled = inpaint(generator, made, gaps=[(1, 3)], seed=0, options=FEW)[0].in_leads(MODEL_LEADS[1:7])
    far = vary(generator, made, distance=1.41, n=1, seed=0)[0].in_leads(MODEL_LEADS[1:7])
    for ours, own in ((completed, chest), (filled[:, 100:300], chest[:, 100:300]), (far, chest)):
        assert abs(np.corrcoef(ours.ravel(), own.ravel())[0, 1]) < 0.12


def test_records_longer_than_the_model_are_filled_too(generator: Generator, record: EcgRecord) -> None:
    longer = replace(record, signal=np.concatenate([record.signal, record.signal[:, :200]], axis=1))
    made = inpaint(generator, longer, gaps=[(3.5, 4.5)], options=FEW)[0]
    assert made.signal.shape == (12, 600)
    np.testing.assert_array_equal(made.signal[:, :350], longer.signal[:, :350])
    assert made.in_leads(("V3",))[0, 350:450].std() == pytest.approx(SCALES[3], rel=0.3)


def test_a_model_of_millivolts_completes_as_well(record: EcgRecord) -> None:
    network = SssdConfig(
        length=LENGTH,
        layers=1,
        residual_channels=4,
        skip_channels=4,
        step_features=8,
        step_hidden=8,
        step_out=8,
        label_features=4,
        state_size=4,
    )
    torch.manual_seed(0)
    config = ModelConfig(
        name="untrained",
        network=network,
        schedule=LinearSchedule(T=20),
        label_set="all",
        labels=vocabulary("all").labels,
        leads=MODEL_LEADS,
        rate=100.0,
        weights_sha256="0" * 64,
    )
    generator = Generator(Model(config, SssdEcg(network).requires_grad_(False)))
    made = complete(generator, only(record, "I", "V2"), options=SamplingOptions(steps=3))[0]
    np.testing.assert_array_equal(made.in_leads(("I", "V2")), record.in_leads(("I", "V2")))
    assert vary(generator, record, distance=0.5, n=1)[0].signal.shape == (12, LENGTH)  # with all of its 20 steps
    with pytest.raises(ConfigError, match="statement tables for unknown statements and guidance"):
        complete(generator, only(record, "I"), options=SamplingOptions(steps=3, guidance=3.0))
    with pytest.raises(DataError, match="each lead once, got I more"):
        complete(generator, only(record, "I", "I"), options=SamplingOptions(steps=3))
    with pytest.raises(ConfigError, match="must be told what holds"):
        complete(generator, replace(only(record, "I"), statements={}), options=SamplingOptions(steps=3))


def test_bad_input_is_told(generator: Generator, record: EcgRecord, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="something given and something missing"):
        complete(generator, record)
    with pytest.raises(DataError, match="at the model's 100 Hz, got 500 Hz"):
        complete(generator, replace(record, rate=500))
    with pytest.raises(DataError, match="record of 4 s or more, .* got 1 s"):
        complete(generator, replace(record, signal=record.signal[:, :100]))
    with pytest.raises(DataError, match="gaps within the 4 s of the record, got 3 to 5 s"):
        inpaint(generator, record, gaps=[(3, 5)])
    with pytest.raises(DataError, match=r"gaps of a sample \(0.01 s\) or more, got 1.001 to 1.002 s"):
        inpaint(generator, record, gaps=[(1.001, 1.002), (2, 2.5)])
    with pytest.raises(ConfigError, match="no duration"):
        inpaint(generator, record, gaps=[(1, 2)], options=SamplingOptions(duration=9))
    with pytest.raises(DataError, match="V6, aVF missing; `ecgforge complete` makes them"):
        vary(generator, only(record, "I", "II", "V1", "V2", "V3", "V4", "V5"), distance=0.3)
    with pytest.raises(ConfigError, match="distance above 0 and at most 1.41"):
        vary(generator, record, distance=2)
    with pytest.raises(DataError, match="without missing samples"):
        vary(generator, replace(record, signal=np.where(record.signal > 0.3, np.nan, record.signal)), distance=0.3)


def test_long_records_are_sampled_in_windows(generator: Generator) -> None:
    made = generator.sample("AFIB", options=replace(FEW, duration=9.0))[0]
    assert made.signal.shape == (12, 900)
    np.testing.assert_allclose(made.in_leads(MODEL_LEADS).std(axis=1) / np.array(SCALES), 1, atol=0.15)
    assert generator.sample("AFIB", options=replace(FEW, duration=9.01))[0].signal.shape == (12, 901)
    with pytest.raises(ConfigError, match="duration of 4 s or more and a diffusion model"):
        generator.sample("AFIB", options=replace(FEW, duration=3.0))


def test_beats_of_twelve_leads_are_those_of_training(generator: Generator) -> None:
    """Training looks at the eight independent leads; what the other four show moves nothing."""
    record = simulate_record("NORM,SR", seed=0, index=0)
    signal = record.signal.copy()
    others = [number for number, lead in enumerate(record.leads) if lead not in MODEL_LEADS]
    signal[others] = 5 * np.roll(signal[others], 30, axis=1)
    marks = np.flatnonzero(_beats(generator, replace(record, signal=signal)))
    assert np.array_equal(marks, find_r_peaks(record)) and len(marks) > 5


def test_beats_are_found_in_the_leads_that_are_whole(generator: Generator) -> None:
    ecg = resample_record(simulate_record("SR", seed=0, index=0), 100)
    short = replace(ecg, signal=ecg.signal[:, :LENGTH])
    everywhere = find_r_peaks(short)
    given = only(short, "II", "V2")
    marks = np.flatnonzero(_beats(generator, given))
    assert len(marks) == len(everywhere) > 2
    assert np.abs(marks - everywhere).max() <= 3  # the joint peak of two leads lies near that of eight
    gap = given.signal.copy()
    gap[1, 40:60] = np.nan
    one = replace(given, signal=gap)
    assert np.array_equal(np.flatnonzero(_beats(generator, one)), find_r_peaks(given, leads=("II",)))
    gap[0, 80] = np.nan
    both = np.flatnonzero(_beats(generator, replace(given, signal=gap)))
    assert np.abs(both - everywhere).max() <= 3
    gap[:, everywhere[1] - 20 : everywhere[1] + 20] = np.nan  # a beat that is hidden is put between its neighbours
    guessed = np.flatnonzero(_beats(generator, replace(given, signal=gap)))
    assert len(guessed) == len(everywhere) and abs(guessed[1] - (guessed[0] + guessed[2]) / 2) <= 1
