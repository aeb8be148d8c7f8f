"""What real and synthetic ECGs can be compared in without finding a beat: spectra, lead correlations, lead laws."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.signal import welch

from ecgforge.errors import DataError
from ecgforge.evaluation.fidelity import SPLITS, split_halves
from ecgforge.leads import STANDARD_LEADS, lead_law_residual
from ecgforge.record import EcgRecord

# Hz: baseline wander, T and P waves, QRS complex, its steep parts, muscle noise and what is left below 50 Hz.
BANDS_HZ = ((0.5, 1.0), (1.0, 5.0), (5.0, 10.0), (10.0, 20.0), (20.0, 30.0), (30.0, 45.0))
_WELCH_S = 4.0  # or the whole record where it is shorter
_SHORTEST_S = 2.0  # tells 0.5 Hz from 1 Hz
_SILENCE = 1e-9  # mV^2, far below the power of rounding to whole microvolts; stands for none in a logarithm


@dataclass(frozen=True, eq=False)
class SpectrumComparison:
    """Mean log power by lead (STANDARD_LEADS) and band, real against synthetic.

    Attributes:
        bands_hz: Lower and upper edge of each band.
        real_db: (12, bands) mean over the records of 10 log10(power / mV^2).
        synthetic_db: Likewise.
        mean_difference_db: Mean absolute difference over leads and bands.
        floor_db: The same between two halves of the real records, mean over SPLITS.
    """

    bands_hz: tuple[tuple[float, float], ...]
    real_db: Float[np.ndarray, "12 F"]
    synthetic_db: Float[np.ndarray, "12 F"]
    mean_difference_db: float
    floor_db: float


@dataclass(frozen=True, eq=False)
class CorrelationComparison:
    """How leads go together: mean correlation matrices (STANDARD_LEADS), real against synthetic.

    Attributes:
        real: (12, 12) mean over records of the correlation of two leads in time.
        synthetic: Likewise.
        mean_difference: Mean absolute difference over the 66 pairs of leads.
        floor: The same between two halves of the real records, mean over SPLITS.
    """

    real: Float[np.ndarray, "12 12"]
    synthetic: Float[np.ndarray, "12 12"]
    mean_difference: float
    floor: float


@dataclass(frozen=True)
class LeadLaws:
    """Largest violation of Einthoven's and Goldberger's laws in a record, uV: median and maximum over records."""

    real_median_uv: float
    real_largest_uv: float
    synthetic_median_uv: float
    synthetic_largest_uv: float


def band_powers_db(record: EcgRecord) -> Float[np.ndarray, "12 F"]:
    """Power of each lead in BANDS_HZ, 10 log10(power / mV^2); Welch's method with windows of 4 s, or less.

    Raises:
        DataError: a lead is missing, or the record is shorter than 2 s or sampled too slowly for the bands.
    """
    if record.duration < _SHORTEST_S or record.rate < 2 * BANDS_HZ[-1][1]:
        raise DataError(
            f"expected a record of {_SHORTEST_S:g} s or more at {2 * BANDS_HZ[-1][1]:g} Hz or more for its spectrum, "
            f"got {record.duration:g} s at {record.rate:g} Hz"
        )
    window = round(min(_WELCH_S, record.duration) * record.rate)
    frequency, density = welch(record.in_leads().astype(np.float64), record.rate, nperseg=window, axis=1)
    powers = [density[:, (frequency >= low) & (frequency < high)].sum(axis=1) * frequency[1] for low, high in BANDS_HZ]
    return np.asarray(10 * np.log10(np.maximum(np.stack(powers, axis=1), _SILENCE)))


def compare_spectra(
    real: Sequence[EcgRecord], synthetic: Sequence[EcgRecord], *, rng: np.random.Generator
) -> SpectrumComparison:
    """Mean log power by lead and band; `rng` splits the real records for the floor.

    Raises:
        DataError: fewer than 2 real records, no synthetic ones, or as `band_powers_db`.
    """
    _require_both(real, synthetic)
    ours, theirs = (np.stack([band_powers_db(record) for record in side]) for side in (real, synthetic))
    return SpectrumComparison(
        bands_hz=BANDS_HZ,
        real_db=ours.mean(axis=0),
        synthetic_db=theirs.mean(axis=0),
        mean_difference_db=_power_difference(ours, theirs),
        floor_db=_floor(_power_difference, ours, real, rng),
    )


def lead_correlation(record: EcgRecord) -> Float[np.ndarray, "12 12"]:
    """Correlation in time of every two leads; NaN with a lead that is constant.

    Raises:
        DataError: a lead is missing.
    """
    signal = record.in_leads().astype(np.float64)
    centred = signal - signal.mean(axis=1, keepdims=True)
    length = np.sqrt((centred**2).sum(axis=1))
    length[length == 0] = np.nan
    return np.asarray(centred @ centred.T / np.outer(length, length))


def compare_correlations(
    real: Sequence[EcgRecord], synthetic: Sequence[EcgRecord], *, rng: np.random.Generator
) -> CorrelationComparison:
    """Mean correlation of every two leads; `rng` splits the real records for the floor.

    Raises:
        DataError: fewer than 2 real records, no synthetic ones, or as `lead_correlation`.
    """
    _require_both(real, synthetic)
    ours, theirs = (np.stack([lead_correlation(record) for record in side]) for side in (real, synthetic))
    return CorrelationComparison(
        real=np.nanmean(ours, axis=0),
        synthetic=np.nanmean(theirs, axis=0),
        mean_difference=_pair_difference(ours, theirs),
        floor=_floor(_pair_difference, ours, real, rng),
    )


def compare_lead_laws(real: Sequence[EcgRecord], synthetic: Sequence[EcgRecord]) -> LeadLaws:
    """How far the limb leads are from the laws that tie them; rounding to whole microvolts alone gives 1 to 2 uV.

    Raises:
        DataError: fewer than 2 real records, no synthetic ones, or a lead is missing.
    """
    _require_both(real, synthetic)
    ours, theirs = (
        [1000 * float(lead_law_residual(record.in_leads().astype(np.float64))) for record in side]
        for side in (real, synthetic)
    )
    return LeadLaws(float(np.median(ours)), max(ours), float(np.median(theirs)), max(theirs))


def _power_difference(ours: Float[np.ndarray, "N 12 F"], theirs: Float[np.ndarray, "M 12 F"]) -> float:
    return float(np.abs(ours.mean(axis=0) - theirs.mean(axis=0)).mean())


def _pair_difference(ours: Float[np.ndarray, "N 12 12"], theirs: Float[np.ndarray, "M 12 12"]) -> float:
    pairs = np.triu_indices(len(STANDARD_LEADS), k=1)
    return float(np.abs(np.nanmean(ours, axis=0) - np.nanmean(theirs, axis=0))[pairs].mean())


def _floor(
    difference: Callable[[np.ndarray, np.ndarray], float],
    values: Float[np.ndarray, "N 12 _"],
    records: Sequence[EcgRecord],
    rng: np.random.Generator,
) -> float:
    """Mean difference between random halves of the real records, a patient's together."""
    patients = [record.patient.patient_id or "" for record in records]
    splits = (split_halves(len(records), rng=rng, patients=patients) for _ in range(SPLITS))
    return float(np.mean([difference(values[first], values[second]) for first, second in splits]))


def _require_both(real: Sequence[EcgRecord], synthetic: Sequence[EcgRecord]) -> None:
    if len(real) < 2 or not synthetic:
        raise DataError(
            f"expected 2 or more real records and at least one synthetic one, got {len(real)} and {len(synthetic)}"
        )
