"""Spectra, lead correlations and lead laws of signals whose values are known."""

from dataclasses import replace

import numpy as np
import pytest

from ecgforge.data.simulate import simulate_record
from ecgforge.errors import DataError
from ecgforge.evaluation.signal_statistics import (
    BANDS_HZ,
    band_powers_db,
    compare_correlations,
    compare_lead_laws,
    compare_spectra,
    lead_correlation,
)
from ecgforge.leads import STANDARD_LEADS
from ecgforge.record import EcgRecord, Patient


def tone(frequency: float, *, rate: float = 100.0, amplitude: float = 1.0, seconds: float = 10) -> EcgRecord:
    times = np.arange(round(seconds * rate)) / rate
    return EcgRecord(signal=np.tile(amplitude * np.sin(2 * np.pi * frequency * times), (12, 1)), rate=rate)


@pytest.mark.parametrize("rate", [100.0, 500.0])
def test_a_tone_has_half_its_squared_amplitude_in_its_band(rate: float) -> None:
    powers = band_powers_db(tone(15.0, rate=rate, amplitude=0.2))
    assert powers.shape == (12, len(BANDS_HZ))
    assert np.allclose(powers[:, BANDS_HZ.index((10.0, 20.0))], 10 * np.log10(0.02), atol=0.05)
    assert (powers[:, [0, 1, 4, 5]] < -45).all()  # Hann's side lobes only
    short = band_powers_db(tone(15.0, rate=rate, amplitude=0.2, seconds=2.5))  # less than a window
    assert np.allclose(short[:, BANDS_HZ.index((10.0, 20.0))], 10 * np.log10(0.02), atol=0.05)


def test_ten_times_the_signal_is_twenty_decibels() -> None:
    records = [with_patient(index) for index in range(4)]
    louder = [replace(record, signal=10 * record.signal) for record in records]
    compared = compare_spectra(records, louder, rng=np.random.default_rng(0))
    assert np.allclose(compared.synthetic_db - compared.real_db, 20, atol=1e-4)
    assert compared.mean_difference_db == pytest.approx(20, abs=1e-4)
    assert 0 < compared.floor_db < 20
    same = compare_spectra(records, records, rng=np.random.default_rng(0))
    assert same.mean_difference_db == 0


def with_patient(index: int) -> EcgRecord:
    record = simulate_record("NORM,SR", seed=0, index=index)
    return replace(record, patient=Patient(patient_id=str(index)))


def test_correlations_are_numpys_and_constant_leads_are_left_out() -> None:
    record = simulate_record("NORM,SR", seed=0, index=0)
    assert np.allclose(lead_correlation(record), np.corrcoef(record.signal.astype(np.float64)), atol=1e-9)
    signal = record.signal.copy()
    signal[STANDARD_LEADS.index("V6")] = 0.5
    broken = lead_correlation(replace(record, signal=signal))
    assert np.isnan(broken[-1]).all() and np.isfinite(broken[:-1, :-1]).all()


def test_a_flipped_lead_changes_its_eleven_pairs() -> None:
    records = [with_patient(index) for index in range(4)]
    signs = np.ones((12, 1))
    signs[STANDARD_LEADS.index("V2")] = -1
    flipped = [replace(record, signal=signs * record.signal) for record in records]
    compared = compare_correlations(records, flipped, rng=np.random.default_rng(0))
    row = np.delete(compared.real[STANDARD_LEADS.index("V2")], STANDARD_LEADS.index("V2"))
    assert compared.mean_difference == pytest.approx(2 * np.abs(row).sum() / 66)
    assert 0 < compared.floor < compared.mean_difference


def test_lead_laws_in_microvolts() -> None:
    records = [simulate_record("NORM,SR", seed=0, index=index) for index in range(3)]
    off = []
    for record, error in zip(records, (0.010, 0.020, 0.050), strict=True):
        signal = record.signal.copy()
        signal[STANDARD_LEADS.index("III")] += np.float32(error)
        off.append(replace(record, signal=signal))
    laws = compare_lead_laws(records, off)
    assert laws.real_largest_uv < 0.01  # float32 rounding
    assert (laws.synthetic_median_uv, laws.synthetic_largest_uv) == pytest.approx((20, 50), abs=0.01)


def test_too_few_or_too_short_records_are_refused() -> None:
    record = simulate_record("NORM,SR", seed=0, index=0)
    with pytest.raises(DataError, match="got 1 and 1"):
        compare_spectra([record], [record], rng=np.random.default_rng(0))
    with pytest.raises(DataError, match="got 2 and 0"):
        compare_lead_laws([record, record], [])
    with pytest.raises(DataError, match=r"2 s or more at 90 Hz or more.*got 1.5 s"):
        band_powers_db(replace(record, signal=record.signal[:, :150]))
