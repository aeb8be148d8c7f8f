"""EcgRecord: what it refuses, what it normalises, what it gives back."""

import numpy as np
import pytest

from ecgforge.errors import DataError
from ecgforge.leads import STANDARD_LEADS
from ecgforge.record import EcgRecord, Patient


def signal(leads: int = 12, length: int = 1000) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(leads, length)).astype(np.float32)


def test_duration_is_samples_over_rate():
    assert EcgRecord(signal(), rate=100.0).duration == 10.0
    assert EcgRecord(signal(), rate=500.0).duration == 2.0


def test_signal_becomes_contiguous_float32_and_leads_standard_spelling():
    record = EcgRecord(signal(4, 10).astype(np.float64)[::2], rate=100.0, leads=("avr", "MDC_ECG_LEAD_V1"))
    assert record.signal.dtype == np.float32
    assert record.signal.flags.c_contiguous
    assert record.leads == ("aVR", "V1")


def test_lead_is_the_row_of_that_name_in_any_spelling():
    record = EcgRecord(signal(), rate=100.0)
    assert all(np.array_equal(record.lead(lead.lower()), record.signal[i]) for i, lead in enumerate(STANDARD_LEADS))


def test_in_leads_reorders_by_name():
    reverse = EcgRecord(signal()[::-1], rate=100.0, leads=STANDARD_LEADS[::-1])
    assert np.array_equal(reverse.in_leads(), signal())


def test_missing_lead_is_named():
    with pytest.raises(DataError, match="V6 missing"):
        EcgRecord(signal(2), rate=100.0, leads=("I", "II")).lead("V6")


@pytest.mark.parametrize("shape", [(11, 1000), (1000, 12), (1000,), (1, 12, 1000), ()])
def test_wrong_shape_is_a_data_error_that_shows_it(shape):
    with pytest.raises(DataError, match=r"12 leads, got \(" + ", ".join(map(str, shape))):
        EcgRecord(np.zeros(shape, dtype=np.float32), rate=100.0)


@pytest.mark.parametrize("rate", [0.0, -100.0, float("nan")])
def test_rate_must_be_above_zero(rate):
    with pytest.raises(DataError, match=f"above 0 Hz, got {rate}"):
        EcgRecord(signal(), rate=rate)


@pytest.mark.parametrize("grade", [0.0, -0.5, 1.01, float("nan")])
def test_grades_lie_above_zero_up_to_one(grade):
    with pytest.raises(DataError, match=r"\(0, 1\], got .*IMI"):
        EcgRecord(signal(), rate=100.0, statements={"SR": 1.0, "IMI": grade})


def test_unknown_lead_name_is_refused():
    with pytest.raises(DataError, match="got 'V7'"):
        EcgRecord(signal(1), rate=100.0, leads=("V7",))


def test_sex_is_male_female_or_unknown():
    assert [Patient(sex=sex).sex for sex in ("male", "female", None)] == ["male", "female", None]
    with pytest.raises(DataError, match="got 'm'"):
        Patient(sex="m")


def test_default_provenance_is_not_synthetic():
    assert EcgRecord(signal(), rate=100.0).provenance.synthetic is False
