"""From one sampling rate to another."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
from jaxtyping import Float
from scipy.signal import resample_poly

from ecgforge.errors import DataError
from ecgforge.record import EcgRecord

_LARGEST_DENOMINATOR = 1000


def resample(signal: Float[np.ndarray, "C L"], *, rate: float, wanted: float) -> Float[np.ndarray, "C L2"]:
    """The signal at another rate: scipy's polyphase filter with the ratio of the rates as a fraction.

    A line through both ends is taken off first, so that an offset rings at neither end. A higher rate adds samples,
    not detail: nothing appears above half the old rate.

    Raises:
        DataError: a rate is not above 0, or more than 1000 times the other.
    """
    if rate == wanted:
        return signal
    if not (rate > 0 and wanted > 0):
        raise DataError(f"expected sampling rates above 0 Hz, got {rate:g} and {wanted:g}")
    ratio = Fraction(wanted / rate).limit_denominator(_LARGEST_DENOMINATOR)
    if not 1 / _LARGEST_DENOMINATOR <= ratio <= _LARGEST_DENOMINATOR:
        raise DataError(f"expected a rate at most {_LARGEST_DENOMINATOR} times another, got {rate:g} and {wanted:g} Hz")
    return np.asarray(resample_poly(signal, ratio.numerator, ratio.denominator, axis=1, padtype="line"))


def resample_record(record: EcgRecord, wanted: float) -> EcgRecord:
    """The record at another rate (Hz), see `resample`.

    Raises:
        DataError: as resample, or the record has missing samples, which would spread.
    """
    if record.rate == wanted:
        return record
    if not np.isfinite(record.signal).all():
        raise DataError("expected a record without missing samples to resample; fill them first, or keep the rate")
    return replace(record, signal=resample(record.signal, rate=record.rate, wanted=wanted), rate=wanted)
