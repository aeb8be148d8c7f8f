"""Resampling keeps what both rates can hold."""

import numpy as np
import pytest

from ecgforge.errors import DataError
from ecgforge.leads import STANDARD_LEADS
from ecgforge.rates import resample, resample_record
from ecgforge.record import EcgRecord


def wave(rate: float, *, offset: float = 0.0) -> np.ndarray:
    t = np.arange(round(10 * rate)) / rate
    return np.stack([offset + np.sin(2 * np.pi * (1 + lead) * t) for lead in range(12)])


@pytest.mark.parametrize(("rate", "wanted"), [(100.0, 500.0), (500.0, 100.0), (360.0, 100.0), (100.0, 250.0)])
def test_slow_waves_survive(rate: float, wanted: float) -> None:
    made = resample(wave(rate, offset=3.0), rate=rate, wanted=wanted)
    expected = wave(wanted, offset=3.0)
    assert made.shape == expected.shape
    inner = slice(round(wanted), -round(wanted))  # the filter sees the ends
    np.testing.assert_allclose(made[:, inner], expected[:, inner], atol=5e-3)


def test_the_record_keeps_its_context() -> None:
    record = EcgRecord(signal=wave(100), rate=100, leads=STANDARD_LEADS, statements={"NORM": 1.0})
    made = resample_record(record, 500)
    assert (made.rate, made.signal.shape, made.statements) == (500, (12, 5000), {"NORM": 1.0})
    assert resample_record(record, 100) is record


def test_what_cannot_be_resampled_is_told() -> None:
    record = EcgRecord(signal=np.full((12, 100), np.nan), rate=100)
    with pytest.raises(DataError, match="without missing samples to resample"):
        resample_record(record, 500)
    with pytest.raises(DataError, match="at most 1000 times another"):
        resample(wave(100), rate=100, wanted=0.01)
    with pytest.raises(DataError, match="above 0 Hz, got 100 and -1"):
        resample(wave(100), rate=100, wanted=-1)
