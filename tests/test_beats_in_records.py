"""Beats that PatchS4 is told: drawn for what is asked, and cut with the windows of long records."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ecgforge.checkpoints.native import load_model
from ecgforge.diffusion.flow import level_at
from ecgforge.diffusion.windows import windowed
from ecgforge.facts import Facts
from ecgforge.generate import Generator
from ecgforge.r_peaks import bridge_gaps
from ecgforge.sampling import Job, SamplingOptions

PLAIN = SamplingOptions(steps=2, guidance=1.0)


@pytest.fixture(scope="module")
def generator(tiny_patch_model: Path) -> Generator:
    return Generator(load_model(tiny_patch_model))


def beats_of(generator: Generator, job: Job, *, seed: int = 0, samples: int = 1000) -> np.ndarray:
    condition = generator.condition(job, others="absent")
    return np.flatnonzero(generator._draw_beats(job, condition, seed=seed, samples=samples))


@pytest.mark.parametrize("heart_rate", [45.0, 80.0, 130.0])
def test_beats_come_at_the_heart_rate_asked_for(generator: Generator, heart_rate: float) -> None:
    drawn = [beats_of(generator, Job(i, {"SR": 1.0}, Facts(heart_rate=heart_rate)), samples=3000) for i in range(8)]
    rates = [6000 / np.median(np.diff(beats)) for beats in drawn]
    assert np.median(rates) == pytest.approx(heart_rate, rel=0.05)


def test_beats_belong_to_the_record(generator: Generator) -> None:
    job = Job(3, {"AFIB": 1.0})
    assert np.array_equal(beats_of(generator, job), beats_of(generator, job))
    assert not np.array_equal(beats_of(generator, job), beats_of(generator, replace(job, index=4)))
    assert not np.array_equal(beats_of(generator, job), beats_of(generator, job, seed=1))


def test_the_network_hears_of_the_beats(generator: Generator) -> None:
    condition = torch.from_numpy(generator.condition(Job(0, {"SR": 1.0}), others="absent")[None])
    x = torch.randn(1, 8, generator.length, generator=torch.Generator().manual_seed(0))
    level = level_at(1.0)
    beats = torch.zeros(1, generator.length)
    beats[0, 50::80] = 1
    silent = generator.denoiser(condition, options=PLAIN)(x, level)
    told = generator.denoiser(condition, beats=beats, options=PLAIN)(x, level)
    assert float((told - silent).abs().max()) > 1e-3


def test_each_window_of_a_long_record_has_its_own_beats(generator: Generator) -> None:
    length = generator.length
    total = length + length // 2 + 4
    condition = torch.from_numpy(generator.condition(Job(0, {"SR": 1.0}), others="absent")[None])
    x = torch.randn(1, 8, total, generator=torch.Generator().manual_seed(0))
    beats = torch.zeros(1, total)
    beats[0, 30::70] = 1
    level = level_at(1.0)

    def window_at(start: int) -> object:
        return generator.denoiser(condition, beats=beats[:, start : start + length], options=PLAIN)

    expected = windowed(window_at, length=length, overlap=length // 2)(x, level)
    assert torch.equal(generator.denoiser(condition, beats=beats, options=PLAIN)(x, level), expected)
    first = generator.denoiser(condition, beats=beats[:, :length].flip(1), options=PLAIN)
    assert not torch.allclose(first(x[:, :, :length], level), window_at(0)(x[:, :, :length], level), atol=1e-3)


def missing_in(samples: int, *gaps: tuple[int, int]) -> np.ndarray:
    missing = np.zeros(samples, dtype=bool)
    for first, behind in gaps:
        missing[first:behind] = True
    return missing


def test_beats_hidden_by_a_gap_are_put_where_an_even_rhythm_has_them() -> None:
    peaks = np.arange(40, 1000, 80)
    missing = missing_in(1000, (0, 130), (400, 590), (900, 1000))
    false = np.sort(np.append(peaks, 410))  # what is found within a gap is not believed
    np.testing.assert_array_equal(bridge_gaps(false, missing), peaks)
    np.testing.assert_array_equal(bridge_gaps(peaks, missing_in(1000)), peaks)


def test_a_gap_that_hides_no_whole_interval_hides_no_beat() -> None:
    peaks = np.array([100, 190, 285, 370])
    np.testing.assert_array_equal(bridge_gaps(peaks, missing_in(450, (200, 280))), peaks)


def test_where_no_interval_is_whole_nothing_is_guessed() -> None:
    np.testing.assert_array_equal(bridge_gaps(np.array([100, 300]), missing_in(450, (150, 250))), [100, 300])
    assert len(bridge_gaps(np.array([], dtype=np.int64), missing_in(450, (150, 250)))) == 0
