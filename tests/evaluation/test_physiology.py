"""Measurements against simulated hearts whose rate, intervals and axis are known; comparisons in closed form."""

from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest

from ecgforge.data.simulate import SimulatedEcg, simulate_with_truth
from ecgforge.errors import ConfigError, DataError
from ecgforge.evaluation.physiology import (
    QUANTITIES,
    Physiology,
    compare_physiology,
    compare_rhythms,
    measure_record,
    measure_records,
)
from ecgforge.leads import STANDARD_LEADS
from ecgforge.record import EcgRecord


@cache
def hearts(statements: str, rate: int = 100) -> tuple[tuple[SimulatedEcg, Physiology], ...]:
    ecgs = [simulate_with_truth(statements, seed=1, index=index, rate=rate) for index in range(4)]
    return tuple((ecg, measure_record(ecg.record)) for ecg in ecgs)


@pytest.mark.parametrize("statements", ["NORM,SR", "AFIB", "STACH", "SBRAD", "CLBBB,SR", "PACE"])
def test_heart_rate_is_that_of_the_beats(statements: str) -> None:
    for ecg, measured in hearts(statements):
        rr = np.diff(ecg.r_times)
        # A beat sits within a sample or two (10 ms each); a beat at the edge may count for one side only.
        assert measured.heart_rate == pytest.approx(60 / np.median(rr), rel=0.02)
        assert measured.rr_variation == pytest.approx(rr.std() / rr.mean(), abs=0.02)


@pytest.mark.parametrize("rate", [100, 500])
def test_intervals_and_axis_of_narrow_complexes(rate: int) -> None:
    """Bias as the module states it, with two standard errors of four hearts and a sample of 10 ms to spare."""
    errors = np.array(
        [
            (
                measured.pr - 1000 * ecg.heart.pr,
                measured.qrs - 1000 * ecg.heart.qrs,
                measured.qt - 1000 * ecg.heart.qt,
                measured.axis - ecg.heart.axis,
            )
            for ecg, measured in hearts("NORM,SR", rate)
        ]
    )
    assert np.all(np.abs(errors.mean(axis=0) - (-8, -12, 16, 1)) < (20, 15, 20, 4))
    assert np.all(errors.std(axis=0) < (25, 20, 25, 6))


def test_intervals_follow_the_heart() -> None:
    """One heart with one thing changed: the measurement changes by as much, in whole samples of 10 ms."""
    base = simulate_with_truth("NORM,SR", seed=1, index=1)
    usual = measure_record(base.record)
    late = with_heart(base, pr=base.heart.pr + 0.08)
    assert late.pr - usual.pr == pytest.approx(80, abs=15)
    assert late.qt == pytest.approx(usual.qt, abs=15)
    long = with_heart(base, qtc=base.heart.qtc + 0.05)
    assert long.qt - usual.qt == pytest.approx(50 * base.heart.rr ** (1 / 3), abs=15)
    assert long.qrs == pytest.approx(usual.qrs, abs=15)
    # Turning the heart changes which parts of the complex I and aVF see first and last.
    turned = with_heart(base, axis=-20.0)
    assert turned.axis == pytest.approx(-20, abs=8)
    broad = hearts("CLBBB,SR")[1][1]
    assert broad.qrs > usual.qrs + 30


def with_heart(ecg: SimulatedEcg, **changes: float) -> Physiology:
    heart = replace(ecg.heart, **changes)
    return measure_record(simulate_with_truth("NORM,SR", seed=1, index=1, heart=heart).record)


def test_amplitudes_are_those_of_the_clean_beat() -> None:
    ecg = simulate_with_truth("NORM,SR", seed=1, index=0, rate=500, noise=False)
    measured = measure_record(ecg.record)
    # Without noise the level between the waves is 0 and R is the lead's maximum; the median over beats and the
    # choice of the baseline just before the QRS complex cost some uV.
    for lead in ("II", "V5"):
        assert getattr(measured, f"r_{lead.lower()}") == pytest.approx(ecg.record.lead(lead).max(), abs=0.05)
    for lead in ("II", "V1", "V5"):
        assert getattr(measured, f"peak_to_peak_{lead.lower()}") == np.ptp(ecg.record.lead(lead))
    assert 0.05 < measured.p_ii < 0.25
    assert 0.1 < measured.t_ii < 0.6
    inverted = measure_record(simulate_with_truth("INVT,SR", seed=1, index=0).record)
    assert inverted.t_v5 < 0 < measured.t_v5


def test_amplitudes_scale_with_the_signal_and_nothing_else_does() -> None:
    record = simulate_with_truth("NORM,SR", seed=1, index=2).record
    one, two = measure_record(record), measure_record(replace(record, signal=2 * record.signal))
    for quantity in QUANTITIES:
        factor = 2 if quantity.unit == "mV" else 1
        assert getattr(two, quantity.name) == pytest.approx(factor * getattr(one, quantity.name), rel=1e-4)


def test_what_cannot_be_measured_is_nan() -> None:
    flat = measure_record(EcgRecord(signal=np.zeros((12, 1000)), rate=100))
    assert flat.peak_to_peak_ii == 0
    names = {quantity.name for quantity in QUANTITIES if not quantity.name.startswith("peak_to_peak")}
    assert all(np.isnan(getattr(flat, name)) for name in names)
    brief = measure_record(simulate_with_truth("NORM,SR", seed=1, index=0, seconds=1).record)
    assert np.isnan(brief.heart_rate) and np.isnan(brief.qrs)


def test_noise_and_short_records_do_no_harm() -> None:
    stream = np.random.default_rng(0)
    for samples in (100, 150, 250, 1000):
        noise = EcgRecord(signal=stream.normal(size=(12, samples)), rate=100)
        assert np.isfinite(measure_record(noise).peak_to_peak_ii)


def test_every_quantity_has_a_unit_and_a_field() -> None:
    measured = [entry.name for entry in fields(Physiology)][3:]
    assert [quantity.name for quantity in QUANTITIES] == measured
    assert all(quantity.unit and quantity.meaning for quantity in QUANTITIES)


def test_records_are_measured_in_order() -> None:
    records = [ecg.record for ecg, _ in hearts("NORM,SR")[:3]]
    calls: list[tuple[int, int]] = []
    alone = measure_records(records, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert alone == [measured for _, measured in hearts("NORM,SR")[:3]]
    with pytest.raises(ConfigError, match="1 or more processes"):
        measure_records(records, processes=0)


def test_processes_keep_the_order() -> None:
    ramps = [  # no beats, so that the workers need not load what delineates them
        EcgRecord(signal=np.tile(np.linspace(0, size, 200), (12, 1)), rate=100, record_id=str(size))
        for size in range(1, 18)
    ]
    spread = measure_records(ramps, processes=2)
    assert [(each.record_id, each.peak_to_peak_v1) for each in spread] == [(str(size), size) for size in range(1, 18)]


# --------------------------------------------------------------------------------------------- comparison


def patients(heart_rates: np.ndarray, *, statements: tuple[str, ...] = ("SR",)) -> list[Physiology]:
    return [
        Physiology(record_id=str(number), patient_id=str(number), statements=statements, heart_rate=float(rate))
        for number, rate in enumerate(heart_rates)
    ]


def test_comparison_in_closed_form() -> None:
    """Shifted copies are apart by the shift, in the quantity's unit; missing values only lower the share."""
    stream = np.random.default_rng(1)
    rates = stream.normal(70, 10, size=400)
    shifted = np.append(rates + 7, [np.nan] * 100)
    result = {entry.quantity.name: entry for entry in compare(patients(rates), patients(shifted))}
    rate = result["heart_rate"]
    assert rate.quantity.unit == "1/min"
    assert rate.distance == pytest.approx(7)
    assert rate.synthetic.median == pytest.approx(rate.real.median + 7)
    assert (rate.real.measurable, rate.synthetic.measurable) == (1.0, 0.8)
    assert rate.real.lower == np.quantile(rates, 0.25)
    # Two samples of 200 from one normal distribution: the means alone differ by 10 sqrt(2 / 200) = 1 on average 0.8.
    assert 0.5 < rate.floor < 2.5
    assert np.isnan(result["qt"].distance) and result["qt"].real.measurable == 0


def compare(real: list[Physiology], synthetic: list[Physiology]) -> tuple:
    return compare_physiology(real, synthetic, rng=np.random.default_rng(0))


def test_the_floor_is_of_the_halves_that_can_be_measured() -> None:
    """Of 40 records four have a heart rate: some halves have none of them."""
    rates = np.full(40, np.nan)
    rates[:4] = 60, 70, 80, 90
    assert 0 < compare(patients(rates), patients(rates))[0].floor < 30


def test_comparison_is_repeatable_and_refuses_too_little() -> None:
    real = patients(np.random.default_rng(2).normal(70, 10, size=40))
    floors = [compare(real, real)[0].floor for _ in range(2)]
    assert floors[0] == floors[1]
    assert compare(real, real)[0].distance == 0
    with pytest.raises(DataError, match="got 1 and 40"):
        compare(real[:1], real)
    with pytest.raises(DataError, match="got 40 and 0"):
        compare(real, [])


def test_heart_rates_by_rhythm() -> None:
    real = patients(np.full(3, 70.0)) + patients(np.array([110.0, 120, 130]), statements=("NORM", "STACH"))
    synthetic = patients(np.full(2, 75.0)) + patients(np.array([100.0, np.nan]), statements=("STACH",))
    synthetic += patients(np.array([50.0]), statements=("SBRAD",))
    rates = {entry.statement: entry for entry in compare_rhythms(real, synthetic)}
    assert set(rates) == {"SR", "STACH"}  # no real SBRAD
    tachycardia = rates["STACH"]
    assert (tachycardia.real_records, tachycardia.synthetic_records) == (3, 2)
    assert (tachycardia.real.median, tachycardia.synthetic.median) == (120, 100)
    assert tachycardia.synthetic.measurable == 0.5


def test_measured_leads_are_standard_ones() -> None:
    record = simulate_with_truth("NORM,SR", seed=1, index=3).record
    order = list(reversed(STANDARD_LEADS))
    reordered = replace(record, signal=record.in_leads(order), leads=tuple(order))
    assert measure_record(reordered) == measure_record(record)
