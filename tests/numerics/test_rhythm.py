"""The rhythm model: its density, its draws, and how the denoiser is told of beats."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm

from ecgforge.models.patch_s4 import BeatEmbedding, PatchS4, PatchS4Config
from ecgforge.models.rhythm import MEMORY, RhythmModel
from ecgforge.r_peaks import mark_beats
from ecgforge.rng import record_stream

K = 5


@pytest.fixture
def model() -> RhythmModel:
    torch.manual_seed(0)
    model = RhythmModel(K)
    torch.nn.init.normal_(model.output.weight, std=0.5)
    return model


def told(*values: float) -> np.ndarray:
    return np.array([*values, *[0.0] * (K - len(values))], dtype=np.float32)


def test_the_density_integrates_to_one(model: RhythmModel) -> None:
    grid = torch.linspace(-8, 8, 40_001, dtype=torch.float64)
    past = torch.full((1, MEMORY), torch.nan, dtype=torch.float64)
    past[0, -2:] = torch.tensor([0.7, 0.9])
    size = len(grid)
    condition = torch.from_numpy(told(1.0, math.nan)).double().expand(size, -1)
    density = model.double().log_likelihood(grid.exp(), past.expand(size, -1), condition).exp()
    assert float(torch.trapezoid(density, grid).detach()) == pytest.approx(1, abs=1e-5)


def test_draws_follow_the_density(model: RhythmModel) -> None:
    """Kolmogorov-Smirnov of 2,000 second intervals against the mixture's closed form."""
    told_ = torch.from_numpy(told(1.0))[None]
    stream = record_stream(0, 0)
    with torch.no_grad():
        drawn = [model._draw_interval([0.8], told_, stream) for _ in range(2000)]
        past = torch.tensor([[math.nan] * (MEMORY - 1) + [0.8]])
        shares, means, scales = (part[0].double().numpy() for part in model(past, told_))
    inside = [interval for interval in drawn if 0.25 < interval < 4]

    def distribution(x: np.ndarray) -> np.ndarray:
        return (np.exp(shares) * norm.cdf((np.asarray(x)[..., None] - means) / scales)).sum(-1)

    low, high = distribution(np.log([0.25, 4.0]))
    test = kstest(np.log(inside), lambda x: (distribution(x) - low) / (high - low))
    assert len(inside) > 1500 and test.pvalue > 0.01


def test_beats_lie_in_the_record_and_follow_from_the_stream(model: RhythmModel) -> None:
    for index in range(20):
        beats = model.draw_beats(told(1.0), seconds=10, stream=record_stream(3, index))
        again = model.draw_beats(told(1.0), seconds=10, stream=record_stream(3, index))
        assert np.array_equal(beats, again)
        assert (np.diff(beats) >= 0.249).all() and beats[0] >= 0 and beats[-1] < 10
        assert 10 - beats[-1] < 4
    assert not np.array_equal(beats, model.draw_beats(told(1.0), seconds=10, stream=record_stream(3, 0)))


@pytest.mark.parametrize("heart_rate", [40, 75, 160])
def test_an_asked_heart_rate_is_met(model: RhythmModel, heart_rate: float) -> None:
    rates = []
    for index in range(20):
        beats = model.draw_beats(told(1.0), seconds=10, stream=record_stream(0, index), heart_rate=heart_rate)
        rates.append(60 / np.median(np.diff(beats)))
    # The random weights' rhythm is wild; its median interval still is the one asked for, up to a beat at the edge.
    assert np.median(rates) == pytest.approx(heart_rate, rel=0.05)


def test_long_records_keep_their_rhythm(model: RhythmModel) -> None:
    beats = model.draw_beats(told(1.0), seconds=600, stream=record_stream(0, 0))
    first, last = (np.diff(beats[(beats > start) & (beats < start + 200)]) for start in (0, 400))
    assert np.median(first) == pytest.approx(np.median(last), rel=0.1)


def test_embedding_equals_the_definition_beat_by_beat() -> None:
    torch.manual_seed(0)
    embedding = BeatEmbedding(4, 16).double()
    torch.nn.init.normal_(embedding.output.weight)
    positions = [3, 17, 18, 39]
    beats = torch.from_numpy(mark_beats(np.array(positions), 40)).double()[None]
    rows = []
    for start in range(0, 40, 4):
        marks = [float(start + i in positions) for i in range(4)]
        behind = min((start - p for p in positions if p <= start), default=math.inf)
        ahead = min((p - start for p in positions if p >= start), default=math.inf)
        near = [math.exp(-distance / reach) for distance in (behind, ahead) for reach in (4, 16, 64)]
        rows.append([*marks, *near, 1.0])
    hidden = torch.nn.functional.silu(embedding.hidden(torch.tensor(rows, dtype=torch.float64)))
    torch.testing.assert_close(embedding(beats)[0], embedding.output(hidden))


def test_unknown_beats_are_no_beats_of_their_own_kind() -> None:
    """None means NaN everywhere, and that differs from a record without beats."""
    torch.manual_seed(0)
    config = PatchS4Config(length=64, labels=K, facts=(), features=8, layers=1, condition_features=8, state_size=4)
    network = PatchS4(config)
    for value in network.parameters():
        torch.nn.init.normal_(value, std=0.3)
    x, level, condition = torch.randn(2, 8, 64), torch.zeros(2), torch.zeros(2, K)
    silent = network(x, level, condition)
    assert torch.equal(network(x, level, condition, torch.full((2, 64), torch.nan)), silent)
    assert not torch.allclose(network(x, level, condition, torch.zeros(2, 64)), silent, atol=1e-3)


def test_a_slow_rhythm_asked_to_be_fast_fills_the_record(model: RhythmModel) -> None:
    """Intervals of 1.5 s at 150 a minute: a quarter of their length, and as many as that takes."""
    for value in (model.output.weight, model.output.bias):
        torch.nn.init.zeros_(value)
    torch.nn.init.constant_(model.output.bias[6:12], math.log(1.5 / 0.8) / 0.3)
    torch.nn.init.constant_(model.output.bias[12:], -20.0)
    beats = model.draw_beats(told(1.0), seconds=10, stream=record_stream(0, 0), heart_rate=150)
    np.testing.assert_allclose(np.diff(beats), 0.4, rtol=0.05)
    assert len(beats) in (24, 25, 26)
