"""R peaks against the simulator's known beats; cutting and summarising by hand-made signals; the figure."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgforge.data.simulate import SimulatedEcg, simulate_with_truth
from ecgforge.ecg_paper import save_figure
from ecgforge.errors import ConfigError, DataError
from ecgforge.evaluation.beats import (
    BeatSummary,
    cut_beats,
    draw_beats,
    summarise_beats,
    write_beats_csv,
)
from ecgforge.leads import STANDARD_LEADS
from ecgforge.r_peaks import facts_of, find_r_peaks, measure_facts, measure_heart_rate
from ecgforge.record import EcgRecord

# Rhythms, and complexes that are broad, split or small; one record each. All beats are to be found, and nothing else.
HEARTS = ("NORM,SR", "AFIB", "AFLT", "STACH", "SBRAD", "CLBBB,SR", "CRBBB,SR", "PACE", "IMI,SR", "LVOLT,SR")


@pytest.mark.parametrize("rate", [100, 500])
@pytest.mark.parametrize("statements", HEARTS)
def test_finds_every_beat_and_nothing_else(statements: str, rate: int) -> None:
    ecg = simulate_with_truth(statements, seed=3, index=5, rate=rate)
    found = find_r_peaks(ecg.record) / rate
    # A beat within 0.1 s of an edge may be cut; its peak may be found or not.
    inside = ecg.r_times[(ecg.r_times > 0.1) & (ecg.r_times < 9.9)]
    nearest = np.abs(found[:, np.newaxis] - inside)
    # 40 ms: in a split or broad complex the leads' joint peak is another one than the dipole's.
    assert nearest.min(axis=0).max() < 0.04
    spurious = (nearest.min(axis=1) > 0.04) & (found > 0.1) & (found < 9.9)
    assert not spurious.any()


def test_narrow_beats_are_found_within_a_sample() -> None:
    errors = np.concatenate([offsets(simulate_with_truth("NORM,SR", seed=0, index=index)) for index in range(6)])
    assert abs(errors.mean()) < 0.003
    assert errors.std() < 0.010  # a sample at 100 Hz


def offsets(ecg: SimulatedEcg) -> np.ndarray:
    found = find_r_peaks(ecg.record) / ecg.record.rate
    inside = ecg.r_times[(ecg.r_times > 0.1) & (ecg.r_times < 9.9)]
    return np.array([found[np.abs(found - time).argmin()] - time for time in inside])


def test_scale_sign_and_offset_do_not_matter() -> None:
    record = simulate_with_truth("NORM,SR", seed=1, index=0).record
    peaks = find_r_peaks(record)
    changed = replace(record, signal=-3 * record.signal + 2.0)
    assert np.array_equal(find_r_peaks(changed), peaks)


def test_nothing_is_found_in_nothing() -> None:
    flat = EcgRecord(signal=np.full((12, 1000), 0.3), rate=100)
    assert len(find_r_peaks(flat)) == 0
    summary = summarise_beats([flat])
    assert (summary.beats, summary.records) == (0, 1)
    assert np.isnan(summary.median).all()


def test_a_heart_too_slow_to_ask_for_is_unknown() -> None:
    """Three beats in ten seconds are 17 a minute: no reason to refuse the record's data set."""
    record = EcgRecord(signal=np.zeros((12, 1000)), rate=100)
    for second in (1.5, 5.5, 8.5):
        record.signal[:, int(100 * second) + np.arange(-3, 4)] += np.array([0.1, 0.3, 0.8, 1.2, 0.8, 0.3, 0.1])
    assert len(find_r_peaks(record)) == 3 and measure_heart_rate(record) == pytest.approx(17.1, abs=0.2)
    assert measure_facts(record).heart_rate is None
    assert facts_of(record, np.array([100, 200, 300, 400])).heart_rate == 60


def test_unusable_records_are_refused() -> None:
    record = simulate_with_truth("NORM,SR", seed=1, index=0).record
    with pytest.raises(DataError, match=r"1 s or more at 100 Hz or more.*got 10 s at 50 Hz"):
        find_r_peaks(replace(record, rate=50.0, signal=record.signal[:, :500]))
    with pytest.raises(DataError, match=r"got 0\.5 s"):
        find_r_peaks(replace(record, signal=record.signal[:, :50]))
    with pytest.raises(DataError, match="missing"):
        find_r_peaks(EcgRecord(signal=np.zeros((1, 1000)), rate=100, leads=("II",)))
    with pytest.raises(DataError, match="one sampling rate, got 100, 500 Hz"):
        summarise_beats([record, replace(record, rate=500.0)])
    with pytest.raises(DataError, match="at least one record"):
        summarise_beats([])


def test_cutting_keeps_whole_beats_with_the_peak_in_its_place() -> None:
    signal = np.stack([np.arange(200.0), -np.arange(200.0)])
    peaks = np.array([29, 30, 100, 150, 151])
    beats = cut_beats(signal, peaks, rate=100)
    # 30 samples before and 50 from the peak on: 29 begins too late, 151 ends too early.
    assert beats.shape == (3, 2, 80)
    assert beats[:, 0, 30].tolist() == [30, 100, 150]
    assert beats[0, 0].tolist() == list(range(80))
    assert np.array_equal(beats[:, 1], -beats[:, 0])
    assert cut_beats(signal, peaks[:0], rate=100).shape == (0, 2, 80)
    assert cut_beats(signal, peaks, rate=100, before_s=0.1, after_s=0.2).shape == (5, 2, 30)


def test_summary_is_median_and_quartiles_of_all_beats() -> None:
    """Copies of one record at gains 1, 2, 3 and 4: each beat's quartiles are known."""
    record = simulate_with_truth("NORM,SR", seed=2, index=0, noise=False).record
    gains = [replace(record, signal=gain * record.signal) for gain in (1, 2, 3, 4)]
    beats = cut_beats(record.signal, find_r_peaks(record), rate=100)
    summary = summarise_beats(gains)
    assert (summary.beats, summary.records) == (4 * len(beats), 4)
    assert summary.times_s[30] == 0 and summary.times_s[0] == -0.3
    every = np.concatenate([gain * beats for gain in (1, 2, 3, 4)])
    assert np.allclose(summary.median, np.median(every, axis=0), atol=1e-6)
    assert np.allclose(summary.lower, np.quantile(every, 0.25, axis=0), atol=1e-6)
    assert np.allclose(summary.upper, np.quantile(every, 0.75, axis=0), atol=1e-6)


@pytest.fixture(scope="module")
def two_summaries() -> dict[str, BeatSummary]:
    summaries = {}
    for name, statements, rate in (("real", "NORM,SR", 100), ("block", "CLBBB,SR", 500)):
        records = [simulate_with_truth(statements, seed=0, index=index, rate=rate).record for index in range(2)]
        summaries[name] = summarise_beats(records)
    return summaries


def test_figure_shows_each_set_in_each_panel(two_summaries: dict[str, BeatSummary], tmp_path: Path) -> None:
    figure = draw_beats(two_summaries, ("V1", "v5", "II"))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["V1", "V5", "II"]
    for axes, lead in zip(figure.axes, ("V1", "V5", "II"), strict=True):
        lines = {line.get_label().split(" (")[0]: line for line in axes.lines if "beats" in str(line.get_label())}
        assert list(lines) == ["real", "block"]
        for name, line in lines.items():
            summary = two_summaries[name]
            assert np.array_equal(line.get_ydata(), summary.median[STANDARD_LEADS.index(lead)])
            assert np.allclose(line.get_xdata(), 1000 * summary.times_s)
    assert len(draw_beats(two_summaries).axes) == 12
    save_figure(figure, tmp_path / "beats.svg")
    drawn = (tmp_path / "beats.svg").read_text()
    assert drawn.count("<path") > 3 * 2 * 2  # a line and a band a set and panel, and axes


def test_figures_that_cannot_be_read_are_refused(two_summaries: dict[str, BeatSummary]) -> None:
    with pytest.raises(ConfigError, match="1 to 10 sets"):
        draw_beats({})
    with pytest.raises(ConfigError, match="different leads, got none"):
        draw_beats(two_summaries, ())
    with pytest.raises(ConfigError, match="different leads, got V1 V1"):
        draw_beats(two_summaries, ("V1", "v1"))
    with pytest.raises(DataError, match="'V9'"):
        draw_beats(two_summaries, ("V9",))


def test_numbers_are_written_beside(two_summaries: dict[str, BeatSummary], tmp_path: Path) -> None:
    table = pd.read_csv(write_beats_csv(two_summaries, tmp_path / "beats.csv"))
    assert len(table) == 12 * (80 + 400)
    block = table[(table["set"] == "block") & (table["lead"] == "V1")]
    assert np.allclose(block["time_ms"], 1000 * two_summaries["block"].times_s)
    row = STANDARD_LEADS.index("V1")
    assert np.allclose(block["upper_quartile_mv"], two_summaries["block"].upper[row], rtol=1e-4, atol=1e-5)
