"""The simulator: lead laws, rates and intervals as asked, the signs of each statement, determinism."""

from dataclasses import replace

import neurokit2
import numpy as np
import pytest
from scipy.signal import find_peaks

from ecgforge.data.dipole import EDGE, Wave, dipole_moment, rotate, wave_between
from ecgforge.data.signs import CHANGES, COMBINATIONS
from ecgforge.data.simulate import (
    SimulatedEcg,
    draw_patient,
    draw_statements,
    heart_with,
    simulate_record,
    simulate_with_truth,
)
from ecgforge.errors import ConfigError, LabelError
from ecgforge.leads import STANDARD_LEADS, lead_law_residual

RATE = 1000
INDICES = (1, 2, 3)


def clean(statements: str, *, index: int = 1, seconds: float = 10.0, **changes: object) -> SimulatedEcg:
    """A noise-free ECG at 1 kHz, its heart changed as asked."""
    heart = replace(heart_with(statements, seed=7, index=index), **changes)
    return simulate_with_truth(statements, seed=7, index=index, rate=RATE, seconds=seconds, noise=False, heart=heart)


def beat(ecg: SimulatedEcg, *, before: float, after: float) -> np.ndarray:
    """(12, L) around the first R peak that has that much room on both sides."""
    r = next(time for time in ecg.r_times if time > before and time + after < ecg.record.duration)
    return ecg.record.signal[:, round((r - before) * RATE) : round((r + after) * RATE)]


def extent(signal: np.ndarray, threshold: float) -> tuple[int, int]:
    """First and last sample of the leads' root mean square above a share of its peak."""
    size = np.sqrt((signal.astype(np.float64) ** 2).mean(axis=0))
    above = np.flatnonzero(size > threshold * size.max())
    return int(above[0]), int(above[-1])


def qrs_of(ecg: SimulatedEcg) -> np.ndarray:
    """(12, L) of the QRS complexes alone: no atria, no repolarisation."""
    none = (0.0, 0.0, 0.0)
    alone = replace(ecg.heart, p_right=none, p_left=none, st=none, t=none, atrial_waves=none, paced=False)
    bare = simulate_with_truth("SR", seed=7, index=1, rate=RATE, noise=False, heart=alone)
    return beat(bare, before=0.2, after=0.3)


def lead(signal: np.ndarray, name: str) -> np.ndarray:
    return signal[STANDARD_LEADS.index(name)]


# Physics


def test_a_wave_begins_and_ends_at_four_percent_of_its_peak() -> None:
    wave = wave_between(0.1, 0.3, np.array([1.0, 2.0, 3.0]), peak_at=0.6, plateau=0.05)
    shape = wave.shape(np.array([0.1, wave.centre, wave.centre + 0.05, 0.3]))
    np.testing.assert_allclose(shape, [np.exp(-(EDGE**2) / 2), 1, 1, np.exp(-(EDGE**2) / 2)])


def test_the_dipole_moment_is_the_sum_of_the_waves() -> None:
    times = np.arange(0, 2, 0.001)
    waves = (
        Wave(0.1, 0.02, 0.03, np.array([1.0, 0.0, -1.0])),
        Wave(0.15, 0.01, 0.01, np.array([0.0, 2.0, 0.0])),
    )
    moment = dipole_moment([(0.3, waves), (1.2, waves)], times)
    expected = sum(np.outer(wave.moment, wave.shape(times - onset)) for onset in (0.3, 1.2) for wave in waves)
    np.testing.assert_allclose(moment, expected, atol=1e-7)


def test_turns_keep_the_length_and_count_from_left_to_feet_and_back() -> None:
    left = np.array([1.0, 0.0, 0.0])
    np.testing.assert_allclose(rotate(left, frontal_degrees=90.0), [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(rotate(left, horizontal_degrees=90.0), [0, 0, 1], atol=1e-12)
    turned = rotate(np.array([1.0, 2.0, 3.0]), frontal_degrees=33.0, horizontal_degrees=-21.0)
    assert np.linalg.norm(turned) == pytest.approx(np.sqrt(14))


@pytest.mark.parametrize("statements", COMBINATIONS)
def test_every_combination_obeys_the_lead_laws(statements: str) -> None:
    record = simulate_record(statements, seed=3, index=4, rate=500)
    assert record.signal.shape == (12, 5000) and np.isfinite(record.signal).all()
    assert lead_law_residual(record.signal.astype(np.float64)) < 1e-6
    assert 0.3 < np.abs(record.signal).max() < 6


# Rhythm


@pytest.mark.parametrize("asked", [45.0, 60.0, 72.5, 110.0])
def test_heart_rate_is_as_asked(asked: float) -> None:
    ecg = clean("SR", seconds=60, heart_rate=asked)
    counted = 60 * (len(ecg.r_times) - 1) / (ecg.r_times[-1] - ecg.r_times[0])
    assert counted == pytest.approx(asked, abs=1)
    assert ecg.heart_rate == asked


def test_heart_rate_by_autocorrelation() -> None:
    ecg = clean("SR", seconds=20, heart_rate=75.0, respiratory_share=0.0)
    trace = lead(ecg.record.signal, "II") - lead(ecg.record.signal, "II").mean()
    spectrum = np.abs(np.fft.rfft(trace, 2 * len(trace))) ** 2
    lags = np.fft.irfft(spectrum)[: len(trace)]
    period = (400 + int(lags[400:1500].argmax())) / RATE
    assert 60 / period == pytest.approx(75, abs=1)


def test_r_times_are_the_peaks_of_the_signal() -> None:
    ecg = clean("NORM,SR")
    trace = lead(ecg.record.signal, "II")
    peaks, _ = find_peaks(trace, height=0.6 * trace.max(), distance=300)
    assert len(peaks) == len(ecg.r_times)
    assert np.abs(peaks / RATE - ecg.r_times).max() < 0.015


@pytest.mark.parametrize(
    ("statements", "low", "high"),
    [("SBRAD", 40, 60), ("STACH", 100, 135), ("AFLT", 74, 151), ("PACE", 58, 76)],
)
def test_rhythm_statements_have_their_rate(statements: str, low: float, high: float) -> None:
    for index in INDICES:
        intervals = np.diff(clean(statements, index=index).r_times)
        assert low < 60 / intervals.mean() < high


def test_irregularity_of_each_rhythm() -> None:
    def spread(statements: str) -> float:
        intervals = np.diff(clean(statements, seconds=60).r_times)
        return float(intervals.std() / intervals.mean())

    assert spread("PACE") < 1e-6 and spread("AFLT") < 1e-6
    assert spread("SR") < 0.04
    assert 0.08 < spread("SARRH") < 0.2
    assert 0.12 < spread("AFIB") < 0.4


def test_premature_beats_are_early_wide_and_followed_by_a_compensatory_pause() -> None:
    ecg = clean("PVC,SR", seconds=30, respiratory_share=0.0)
    intervals = np.diff(ecg.r_times)
    usual = ecg.heart.rr
    early = np.flatnonzero(intervals < 0.8 * usual)
    assert len(early) >= 3
    early = early[early < len(intervals) - 1]
    np.testing.assert_allclose(intervals[early] + intervals[early + 1], 2 * usual, rtol=0.03)


# Intervals, measured on the noise-free signal


@pytest.mark.parametrize("pr", [0.13, 0.16, 0.20, 0.28])
def test_pr_interval_is_as_asked(pr: float) -> None:
    ecg = clean("SR", pr=pr, heart_rate=60.0)
    room = ecg.heart.pr + 0.06
    before_qrs = room - _r_delay(ecg)
    atrial = beat(ecg, before=room, after=0.0)[:, : round((before_qrs - 0.005) * RATE)]
    onset, _ = extent(atrial[:, : round((0.06 + ecg.heart.p_duration) * RATE)], 0.06)
    assert before_qrs - onset / RATE == pytest.approx(pr, abs=0.012)


def _r_delay(ecg: SimulatedEcg) -> float:
    qrs = qrs_of(ecg)
    return 0.2 - extent(qrs, 0.03)[0] / RATE


@pytest.mark.parametrize(
    ("statements", "low", "high"),
    [("NORM", 0.07, 0.11), ("CLBBB", 0.125, 0.16), ("CRBBB", 0.12, 0.16), ("PACE", 0.13, 0.18)],
)
def test_qrs_duration(statements: str, low: float, high: float) -> None:
    for index in INDICES:
        ecg = clean(statements, index=index)
        onset, end = extent(qrs_of(ecg), 0.05)
        assert low < (end - onset) / RATE < high
        assert (end - onset) / RATE == pytest.approx(ecg.heart.qrs, abs=0.02)


@pytest.mark.parametrize("heart_rate", [50.0, 75.0, 110.0])
def test_qt_interval_follows_fridericia(heart_rate: float) -> None:
    ecg = clean("SR", qtc=0.40, heart_rate=heart_rate, respiratory_share=0.0)
    expected = 0.40 * (60 / heart_rate) ** (1 / 3)
    delay = _r_delay(ecg)
    after = beat(ecg, before=0.0, after=expected - delay + 0.06)
    late = after[:, round(0.15 * RATE) :]
    _, end = extent(late, 0.04)
    assert delay + 0.15 + end / RATE == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize("axis", [-60.0, -10.0, 45.0, 85.0])
def test_electrical_axis_is_as_asked(axis: float) -> None:
    qrs = qrs_of(clean("SR", axis=axis))
    net_i, net_avf = lead(qrs, "I").sum(), lead(qrs, "aVF").sum()
    assert np.rad2deg(np.arctan2(net_avf * 2 / np.sqrt(3), net_i)) == pytest.approx(axis, abs=3)


# Signs


def _atrial_energy(statements: str, index: int) -> float:
    """Mean square of lead II where P would be, phase-locked to the beat."""
    ecg = clean(statements, index=index, seconds=60, heart_rate=60.0)
    windows = [
        lead(ecg.record.signal, "II")[round((r - 0.26) * RATE) : round((r - 0.09) * RATE)]
        for r in ecg.r_times
        if r > 0.3
    ]
    return float(np.mean(windows, axis=0).var())


def test_no_p_wave_in_atrial_fibrillation() -> None:
    for index in INDICES:
        assert _atrial_energy("AFIB", index) < 0.2 * _atrial_energy("SR", index)


def test_flutter_waves_run_at_300_a_minute() -> None:
    ecg = clean("AFLT", seconds=20)
    silent = {name: replace(part, moment=(0.0, 0.0, 0.0)) for name, part in ecg.heart.strokes.items()}
    atria = clean("AFLT", seconds=20, strokes=silent, t=(0.0, 0.0, 0.0), st=(0.0, 0.0, 0.0)).record.signal
    for name in ("II", "III", "aVF", "V1"):
        assert np.ptp(lead(atria, name)) > 0.1, name
        spectrum = np.abs(np.fft.rfft(lead(atria, name)))
        assert spectrum.argmax() / 20 == pytest.approx(5)


def test_normal_ecg_looks_normal() -> None:
    for index in INDICES:
        ecg = clean("NORM,SR", index=index)
        qrs = qrs_of(ecg)
        r = np.array([lead(qrs, name).max() for name in ("V1", "V2", "V3", "V4")])
        assert (np.diff(r) > 0).all()  # R grows from V1 to V4
        assert -lead(qrs, "V1").min() > lead(qrs, "V1").max()
        assert lead(qrs, "V6").max() > -2 * lead(qrs, "V6").min()
        assert abs(lead(qrs, "aVR").min()) > lead(qrs, "aVR").max()
        whole = beat(ecg, before=0.25, after=0.45)
        p, t = whole[:, :150], whole[:, 400:]
        for name in ("I", "II", "V4", "V5", "V6"):
            assert lead(t, name).max() > 0.05 and lead(p, name).max() > 0.01, name
        assert 0.05 < lead(p, "II").max() < 0.25
        assert lead(t, "aVR").min() < -0.05 and lead(p, "aVR").min() < -0.03


def test_inferior_infarct_has_q_waves_in_the_inferior_leads() -> None:
    for index in INDICES:
        qrs = qrs_of(clean("IMI", index=index))
        for name in ("II", "III", "aVF"):
            trace = lead(qrs, name)
            q = trace[: trace.argmax()].min()
            assert q < -0.1 and -q > 0.25 * trace.max(), name
        assert lead(qrs, "V6").min() > -0.1


def test_anterior_infarct_has_no_r_in_the_anterior_leads() -> None:
    for index in INDICES:
        ecg = clean("AMI", index=index)
        qrs, t = qrs_of(ecg), beat(ecg, before=0.0, after=0.45)[:, 200:]
        for name in ("V1", "V2", "V3"):
            trace = lead(qrs, name)
            assert trace.min() < -0.6 and trace.max() < 0.3, name  # 3 mm of R in V3 is the limit
            assert lead(t, name).min() < -0.05, name


def test_left_bundle_branch_block() -> None:
    ecg = clean("CLBBB")
    qrs, t = qrs_of(ecg), beat(ecg, before=0.0, after=0.45)[:, 200:]
    assert lead(qrs, "V1").min() < -0.8 and lead(qrs, "V1").max() < 0.1
    for name in ("I", "V6"):
        assert lead(qrs, name).max() > 0.3 and lead(qrs, name).min() > -0.05  # no Q, no S
        assert lead(t, name).min() < -0.05
    assert lead(t, "V1").max() > 0.1


def test_right_bundle_branch_block() -> None:
    ecg = clean("CRBBB")
    qrs = qrs_of(ecg)
    v1 = lead(qrs, "V1")
    late = round((0.2 - _r_delay(ecg) + 0.08) * RATE)  # 80 ms after the QRS onset
    assert v1[late:].max() == v1.max() > 0.4  # rsR'
    assert lead(qrs, "I")[late:].min() < -0.2 and lead(qrs, "V6")[late:].min() < -0.2  # broad S
    assert v1[:late].min() < 0


def test_voltage_statements() -> None:
    for index in INDICES:
        low, high = qrs_of(clean("LVOLT", index=index)), qrs_of(clean("LVH", index=index))
        assert np.ptp(low[:6], axis=1).max() < 0.5
        assert lead(high, "V5").max() - lead(high, "V1").min() > 3.5
        normal = qrs_of(clean("NORM", index=index))
        assert lead(normal, "V5").max() - lead(normal, "V1").min() < 3.5
        assert np.ptp(normal[:6], axis=1).max() > 0.5


def test_inverted_t_and_st_depression() -> None:
    for index in INDICES:
        inverted = beat(clean("INVT", index=index), before=0.0, after=0.45)[:, 150:]
        depressed = clean("STD_", index=index)
        st_point = beat(depressed, before=0.3, after=0.16)
        for name in ("II", "V4", "V5", "V6"):
            assert lead(inverted, name).min() < -0.1 and lead(inverted, name).max() < 0.05, name
            assert lead(st_point, name)[-1] < -0.05, name


def test_pacemaker_spike_precedes_every_qrs_complex() -> None:
    ecg = clean("PACE")
    v3 = lead(ecg.record.signal, "V3")
    for r in ecg.r_times[ecg.r_times > 0.2]:
        onset = r - _r_delay(ecg)
        window = v3[round((onset - 0.05) * RATE) : round((onset + 0.01) * RATE)]
        assert window.max() > 0.3
        assert window.argmax() / RATE == pytest.approx(0.05 - 0.012, abs=0.01)


# Determinism


@pytest.mark.parametrize("statements", ["NORM,SR", "AFIB", "PVC,SR", "PACE"])
def test_a_slower_rate_takes_every_fifth_sample(statements: str) -> None:
    fast = simulate_record(statements, seed=5, index=17, rate=500)
    slow = simulate_record(statements, seed=5, index=17, rate=100)
    np.testing.assert_allclose(slow.signal, fast.signal[:, ::5], atol=2e-6)


def test_a_longer_record_begins_like_a_shorter_one() -> None:
    short = simulate_record("AFIB", seed=5, index=17, seconds=10)
    long = simulate_record("AFIB", seed=5, index=17, seconds=25)
    np.testing.assert_allclose(long.signal[:, :1000], short.signal, atol=2e-6)


def test_a_record_is_decided_by_seed_and_index_alone() -> None:
    again = [simulate_record("SR,LVH", seed=5, index=index).signal for index in (17, 3)]
    np.testing.assert_array_equal(again[0], simulate_record(["LVH", "SR"], seed=5, index=17).signal)
    assert np.abs(again[0] - again[1]).max() > 0.1
    assert np.abs(again[0] - simulate_record("SR,LVH", seed=6, index=17).signal).max() > 0.1


def test_noise_keeps_the_beats() -> None:
    noisy = simulate_with_truth("SR", seed=5, index=1)
    silent = simulate_with_truth("SR", seed=5, index=1, noise=False)
    np.testing.assert_array_equal(noisy.r_times, silent.r_times)
    gap = noisy.record.signal - silent.record.signal
    assert 0.005 < gap.std() < 0.1


def test_an_independent_detector_finds_the_same_beats() -> None:
    ecg = simulate_with_truth("NORM,SR", seed=5, index=2, rate=500)
    trace = neurokit2.ecg_clean(ecg.record.lead("II"), sampling_rate=500)
    _, found = neurokit2.ecg_peaks(trace, sampling_rate=500)
    peaks = found["ECG_R_Peaks"] / 500
    inner = [time for time in ecg.r_times if 0.3 < time < 9.7]
    assert all(np.abs(peaks - time).min() < 0.03 for time in inner)
    assert abs(len(peaks) - len(ecg.r_times)) <= 1


# What a record says, and what is refused


def test_the_record_says_what_it_is() -> None:
    record = simulate_record({"IMI": 0.5, "SR": 1.0}, seed=5, index=17)
    assert record.statements == {"IMI": 0.5, "SR": 1.0}
    assert record.likelihoods == {"IMI": 100.0, "SR": 0.0}
    origin = record.provenance
    assert (origin.synthetic, origin.source, origin.seed, origin.index) == (True, "ecgforge simulator", 5, 17)
    assert (record.rate, record.leads, record.record_id) == (100.0, STANDARD_LEADS, "17")
    assert record.patient == draw_patient(seed=5, index=17)
    assert draw_patient(seed=5, index=14) == draw_patient(seed=5, index=13)


def test_every_combination_is_possible_and_every_sign_is_in_one() -> None:
    for statements in COMBINATIONS:
        assert heart_with(statements, seed=1, index=1).heart_rate > 0
    drawn = {code for index in range(400) for code in draw_statements(seed=1, index=index)}
    assert drawn == set(CHANGES)


def test_refuses_what_it_cannot_show() -> None:
    with pytest.raises(LabelError, match=r"the simulator shows NORM .*; got WPW"):
        simulate_record("WPW", seed=1, index=1)
    with pytest.raises(LabelError, match="unknown ECG statement"):
        simulate_record("NOSUCH", seed=1, index=1)
    with pytest.raises(LabelError, match="the simulator shows"):
        simulate_record([], seed=1, index=1)
    for contradiction in ("SR,AFIB", "NORM,LVH", "CLBBB,CRBBB", "1AVB,AFLT"):
        with pytest.raises(LabelError, match="contradict"):
            simulate_record(contradiction, seed=1, index=1)
    with pytest.raises(ConfigError, match="100 Hz or more"):
        simulate_record("SR", seed=1, index=1, rate=50)
    with pytest.raises(ConfigError, match="seconds"):
        simulate_record("SR", seed=1, index=1, seconds=0)
    with pytest.raises(ConfigError, match="seed"):
        simulate_record("SR", seed=-1, index=1)
