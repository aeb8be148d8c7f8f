"""How alike two ECGs are as plain signals, whoever trained no classifier: the best correlation over small shifts.

Two leads that see the heart from the front and from the side, II and V2, between 0.5 and 12 Hz. That keeps where the
beats are and how they look, and drops baseline wander, muscle noise and mains hum, so that a copy with other noise
counts as a copy. Correlations do not see the amplitude: a scaled copy counts too.
"""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from jaxtyping import Float, Int
from scipy.signal import butter, resample_poly, sosfiltfilt

from ecgforge.errors import DataError
from ecgforge.leads import STANDARD_LEADS

LEADS = ("II", "V2")
BAND = (0.5, 12.0)  # Hz
RATE = 50  # Hz; a shift is a whole number of these samples
LARGEST_SHIFT_S = 0.4
SHORTEST_S = 2.0

_SHIFT = round(LARGEST_SHIFT_S * RATE)
_STRIDE = 2  # samples compared are 40 ms apart, which is enough below 12.5 Hz
_NO_SIGNAL_MV = 1e-6
_BLOCK = 1024  # references at a time

Progress = Callable[[int, int], None]


def comparable_waveforms(signals_mv: Float[np.ndarray, "N 12 L"], *, rate: float) -> Float[np.ndarray, "N 2 S"]:
    """Leads II and V2 at 50 Hz, 0.5 to 12 Hz.

    Args:
        signals_mv: Records in standard lead order, mV.
        rate: Their samples per second (Hz).

    Raises:
        DataError: the records are shorter than 2 s, or sampled too slowly for the band.
    """
    seconds = signals_mv.shape[-1] / rate
    if seconds < SHORTEST_S or rate < RATE:
        raise DataError(
            f"expected records of {SHORTEST_S:g} s or more at {RATE} Hz or more to compare waveforms, "
            f"got {seconds:g} s at {rate:g} Hz"
        )
    pair = signals_mv[:, [STANDARD_LEADS.index(lead) for lead in LEADS]].astype(np.float64)
    ratio = Fraction(RATE / rate).limit_denominator(1000)
    # Filtered at one rate, so that records of any rate are treated alike to their very ends.
    even = resample_poly(pair, ratio.numerator, ratio.denominator, axis=-1, padtype="line")
    return np.asarray(sosfiltfilt(butter(2, BAND, "bandpass", fs=RATE, output="sos"), even), dtype=np.float32)


def nearest_waveforms(
    queries: Float[np.ndarray, "M 2 S"], references: Float[np.ndarray, "N 2 S"], *, progress: Progress | None = None
) -> tuple[Float[np.ndarray, " M"], Int[np.ndarray, " M"]]:
    """Distance of each query to its nearest reference, and that one's row; the first of equally near ones.

    The distance is 1 - r, r being the mean of the two leads' correlations at the shift, up to 0.4 s to either side,
    where it is largest: 0 for a copy, however scaled, and 1 for waveforms that have nothing in common. The query is
    compared without its first and last 0.4 s, for which a shifted reference may have no samples.

    Args:
        queries: From comparable_waveforms.
        references: From comparable_waveforms.
        progress: Called with (references compared, references in all).
    """
    length = queries.shape[-1] - 2 * _SHIFT
    sought = _unit_vectors(queries[:, :, _SHIFT : _SHIFT + length : _STRIDE])
    best, row = np.full(len(queries), -np.inf, dtype=np.float32), np.zeros(len(queries), dtype=np.int64)
    for start in range(0, len(references), _BLOCK):
        block = references[start : start + _BLOCK]
        alike = np.full((len(queries), len(block)), -np.inf, dtype=np.float32)
        for shift in range(2 * _SHIFT + 1):
            window = _unit_vectors(block[:, :, shift : shift + length : _STRIDE])
            np.maximum(alike, sought @ window.T, out=alike)
        found = alike.argmax(axis=1)
        highest = alike[np.arange(len(queries)), found]
        row = np.where(highest > best, start + found, row)
        best = np.maximum(best, highest)
        if progress:
            progress(start + len(block), len(references))
    return np.maximum(0, 1 - best.astype(np.float64)), row


def _unit_vectors(waveforms: Float[np.ndarray, "N 2 W"]) -> Float[np.ndarray, "N F"]:
    """Both leads one after the other, so that the product of two rows is the mean of the leads' correlations.

    A lead without signal is 0 and correlates with nothing; rounding is no signal, which is all a filter leaves of a
    constant.
    """
    centred = waveforms - waveforms.mean(axis=-1, keepdims=True)
    size = np.linalg.norm(centred, axis=-1, keepdims=True)
    leads = np.sqrt(waveforms.shape[1])
    return np.ascontiguousarray(
        (centred / np.where(size > _NO_SIGNAL_MV, size * leads, np.inf)).reshape(len(waveforms), -1)
    )
