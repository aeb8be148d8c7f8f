"""The linear schedule: products and levels, for every number of sampling steps."""

import math
from itertools import pairwise

import numpy as np
import pytest

from ecgforge.diffusion.schedule import CLEAN, LinearSchedule
from ecgforge.errors import ConfigError

SCHEDULE = LinearSchedule()
LATE = LinearSchedule(T=50, beta_T=0.99)  # most of its log-SNR lies in the last steps, where levels crowd


def test_alpha_bar_is_the_running_product() -> None:
    beta = [1e-4 + (0.02 - 1e-4) * t / 199 for t in range(200)]
    expected = [math.prod(1 - b for b in beta[: t + 1]) for t in range(200)]
    np.testing.assert_allclose(SCHEDULE.alpha_bar, expected, rtol=1e-12)
    assert SCHEDULE.alpha_bar[0] == pytest.approx(1 - 1e-4)
    assert SCHEDULE.alpha_bar[-1] == pytest.approx(0.132, abs=5e-4)


def test_levels_keep_the_variance() -> None:
    for level in SCHEDULE.levels():
        assert level.alpha**2 + level.sigma**2 == pytest.approx(1, abs=1e-14)
        assert level.alpha**2 == pytest.approx(SCHEDULE.alpha_bar[int(level.step)])
    assert SCHEDULE.level(0).sigma == pytest.approx(0.01)  # mV of noise left before the last step


def test_half_log_snr() -> None:
    level = SCHEDULE.level(57)
    assert math.exp(2 * level.half_log_snr) == pytest.approx(level.alpha**2 / level.sigma**2)
    assert CLEAN.half_log_snr == math.inf


def test_all_levels_are_the_default() -> None:
    assert [level.step for level in SCHEDULE.levels()] == list(range(199, -1, -1))
    for spacing in ("log-snr", "time"):
        assert SCHEDULE.levels(200, spacing=spacing) == SCHEDULE.levels()


@pytest.mark.parametrize("spacing", ["log-snr", "time"])
@pytest.mark.parametrize(
    "schedule", [SCHEDULE, LinearSchedule(T=2), LinearSchedule(T=50, beta_T=0.3), LATE], ids=["200", "2", "50", "late"]
)
def test_every_count_gives_that_many_falling_whole_steps(schedule: LinearSchedule, spacing: str) -> None:
    for count in range(1, schedule.T + 1):
        steps = [level.step for level in schedule.levels(count, spacing=spacing)]
        assert len(steps) == count and all(step == int(step) for step in steps)
        assert steps[0] == schedule.T - 1  # one step starts from pure noise as well
        assert count == 1 or steps[-1] == 0
        assert all(before > after for before, after in pairwise(steps)), count


def test_twenty_levels_are_evenly_spaced_in_log_snr() -> None:
    levels = SCHEDULE.levels(20)
    half_log_snr = np.array([level.half_log_snr for level in levels])
    ideal = np.linspace(half_log_snr[0], half_log_snr[-1], 20)
    early = np.array([level.step for level in levels]) > 10  # later, steps are too few to choose from
    assert early.sum() >= 10
    assert np.abs(half_log_snr - ideal)[early].max() < 0.07


def test_ten_levels_are_evenly_spaced_in_time() -> None:
    steps = [level.step for level in SCHEDULE.levels(10, spacing="time")]
    assert steps == [199, 177, 155, 133, 111, 88, 66, 44, 22, 0]


@pytest.mark.parametrize("count", [0, -1, 201])
def test_impossible_counts_are_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"1 to 200 sampling steps .*got {count}"):
        SCHEDULE.levels(count)


@pytest.mark.parametrize(
    "settings",
    [{"T": 1}, {"beta_0": 0.0}, {"beta_T": 1.0}, {"beta_0": 0.03}, {"beta_0": math.nan}],
)
def test_impossible_schedules_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="T >= 2 and 0 < beta_0 <= beta_T < 1"):
        LinearSchedule(**settings)


def test_terminal_snr_of_signals_in_mv() -> None:
    assert SCHEDULE.terminal_snr(0.27) == pytest.approx(0.011, abs=5e-4)
    assert SCHEDULE.terminal_snr(1.0) == pytest.approx(0.152, abs=1e-3)
    assert SCHEDULE.terminal_snr(2.0) == pytest.approx(4 * SCHEDULE.terminal_snr(1.0))
