"""What a cardiologist measures on an ECG: rate, intervals, axis and amplitudes of one record.

Beats come from all leads together (beats.py), the limits of their waves from neurokit2's prominence method at 500 Hz.
Against simulated hearts, whose intervals are known, in sinus rhythm at 100 Hz (bias +- spread over hearts): heart rate
within 1/min, PR -8 +- 12 ms, QRS -12 +- 8 ms, QT 16 +- 11 ms, axis 1 +- 2 degrees; at 500 Hz the same. Limits of the
method: the late S wave of right bundle branch block is not seen (QRS 45 ms short), nor most of a paced QRS complex,
which points down (60 ms short); after an inferior infarct QRS is 20 ms and QT 40 ms long; T is looked for in the first
half of RR only (QT 40 ms short above 100/min); P may be "found" where there is none, as in fibrillation. Real and
synthetic records suffer alike: compare them, and do not read a single value as a finding.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, fields
from fractions import Fraction
from multiprocessing import get_context
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.signal import resample_poly
from scipy.stats import wasserstein_distance

from ecgforge.errors import ConfigError, DataError
from ecgforge.evaluation.beats import BEFORE_S, cut_beats
from ecgforge.evaluation.fidelity import SPLITS, split_halves
from ecgforge.labels import vocabulary
from ecgforge.r_peaks import find_r_peaks
from ecgforge.record import EcgRecord

FINE_RATE = 500  # Hz; at 100 Hz a sample is 10 ms, as much as the differences of interest

# Leads whose QRS complex usually points up, as the method needs.
_DELINEATED_LEADS = ("I", "II", "V5")
_MEASURED_LEADS = ("I", "II", "aVF", "V1", "V5")
# neurokit2's 100 ms would cut every QRS complex off there; 200 ms takes noise in. Chosen on simulated hearts.
_WIDEST_QRS_MS = 160
_OWN_PEAK_S = 0.04  # a lead's R peak lies so near the joint one
_BASELINE_S = 0.02  # before the QRS onset
_LEAST_SHARE = 0.5  # of the beats must show a wave's limit
_CHUNK = 8  # records handed to a process at a time


def _quantity(unit: str, meaning: str) -> Any:
    """A field of Physiology: NaN until measured, with its unit and what it is."""
    return field(default=float("nan"), metadata={"unit": unit, "meaning": meaning})


@dataclass(frozen=True)
class Physiology:
    """The measurements of one record; NaN where one cannot be made. Units and meanings are in `QUANTITIES`."""

    record_id: str
    patient_id: str
    statements: tuple[str, ...]
    heart_rate: float = _quantity("1/min", "60 s / median RR interval")
    rr_variation: float = _quantity("1", "standard deviation of RR over its mean")
    pr: float = _quantity("ms", "P onset to QRS onset")
    qrs: float = _quantity("ms", "QRS onset to QRS end")
    qt: float = _quantity("ms", "QRS onset to T end")
    axis: float = _quantity("degrees", "frontal QRS axis: net area in I and aVF; 0 left, 90 feet")
    p_ii: float = _quantity("mV", "P peak in II, from the level before the QRS onset; signed")
    p_v1: float = _quantity("mV", "the same in V1")
    p_v5: float = _quantity("mV", "the same in V5")
    r_ii: float = _quantity("mV", "R in II: highest point of the QRS complex, from the level before its onset")
    r_v1: float = _quantity("mV", "the same in V1")
    r_v5: float = _quantity("mV", "the same in V5")
    t_ii: float = _quantity("mV", "T peak in II, from the level before the QRS onset; signed")
    t_v1: float = _quantity("mV", "the same in V1")
    t_v5: float = _quantity("mV", "the same in V5")
    peak_to_peak_ii: float = _quantity("mV", "highest less lowest value of the whole lead II")
    peak_to_peak_v1: float = _quantity("mV", "the same in V1")
    peak_to_peak_v5: float = _quantity("mV", "the same in V5")


@dataclass(frozen=True)
class Quantity:
    """A measurement of Physiology: its attribute's name, unit and meaning."""

    name: str
    unit: str
    meaning: str


QUANTITIES = tuple(
    Quantity(entry.name, entry.metadata["unit"], entry.metadata["meaning"])
    for entry in fields(Physiology)
    if entry.metadata
)


@dataclass(frozen=True)
class _WaveLimits:
    """Where the waves of a record's usual beat begin and end, s after the R peak; NaN where unknown."""

    p_onset: float
    p_end: float
    qrs_onset: float
    qrs_end: float
    t_onset: float
    t_end: float


# The keys of neurokit2's result, in the order of _WaveLimits.
_LIMIT_KEYS = (
    "ECG_P_Onsets", "ECG_P_Offsets", "ECG_R_Onsets", "ECG_R_Offsets", "ECG_T_Onsets", "ECG_T_Offsets",
)  # fmt: skip


def measure_record(record: EcgRecord) -> Physiology:
    """Rate, intervals, axis and amplitudes of one record, from its median beat.

    Raises:
        DataError: a lead is missing, or the record is shorter than 1 s or sampled below 100 Hz.
    """
    peaks = find_r_peaks(record)
    rates = _rate_and_variation(peaks, record.rate)
    signal = _at_fine_rate(record.in_leads(_MEASURED_LEADS), record.rate)
    fine_peaks = np.rint(peaks * (FINE_RATE / record.rate)).astype(np.int64)
    limits = _wave_limits(signal, fine_peaks)
    beats = cut_beats(signal, fine_peaks, rate=FINE_RATE)
    values = {**rates, **_intervals(limits)}
    if len(beats) and np.isfinite(limits.qrs_onset):
        values |= _shape(np.median(beats, axis=0), limits)
    for lead in ("II", "V1", "V5"):
        values[f"peak_to_peak_{lead.lower()}"] = float(np.ptp(record.lead(lead)))
    return Physiology(
        record_id=record.record_id,
        patient_id=record.patient.patient_id or "",
        statements=tuple(record.statements),
        **values,
    )


def measure_records(
    records: Sequence[EcgRecord], *, processes: int = 1, progress: Callable[[int, int], None] | None = None
) -> list[Physiology]:
    """`measure_record` of each record, in order; about 0.06 s of processor time each.

    Args:
        records: The records.
        processes: Worker processes of one thread each; 1 measures in this one.
        progress: Called with (records done, records in all).

    Raises:
        ConfigError: processes is below 1.
        DataError: as `measure_record`, or a process died.
    """
    if processes < 1:
        raise ConfigError(f"expected 1 or more processes, got {processes}")
    measured = []
    for done, physiology in enumerate(_measured(records, processes), start=1):
        measured.append(physiology)
        if progress is not None:
            progress(done, len(records))
    return measured


def _measured(records: Sequence[EcgRecord], processes: int) -> Iterator[Physiology]:
    if processes == 1:
        yield from map(measure_record, records)
        return
    # Spawned, because a caller that holds a network has threads, which do not survive a fork.
    try:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            yield from pool.map(measure_record, records, chunksize=_CHUNK)
    except BrokenProcessPool as error:
        raise DataError(
            "a measuring process ended abruptly (out of memory, or a script that does not start its work under "
            'if __name__ == "__main__"?); try again with one process'
        ) from error


def _rate_and_variation(peaks: Int[np.ndarray, " N"], rate: float) -> dict[str, float]:
    rr = np.diff(peaks) / rate
    return {
        "heart_rate": float(60 / np.median(rr)) if len(rr) >= 2 else float("nan"),
        "rr_variation": float(rr.std() / rr.mean()) if len(rr) >= 3 else float("nan"),
    }


def _at_fine_rate(signal: Float[np.ndarray, "C L"], rate: float) -> Float[np.ndarray, "C L2"]:
    ratio = Fraction(FINE_RATE / rate).limit_denominator(1000)
    return np.asarray(
        resample_poly(signal.astype(np.float64), ratio.numerator, ratio.denominator, axis=1, padtype="line")
    )


# ----------------------------------------------------------------------------------------- limits of waves


def _wave_limits(signal: Float[np.ndarray, "C L"], peaks: Int[np.ndarray, " N"]) -> _WaveLimits:
    """Median over the beats of a lead, then over leads; robust against a lead in which the method fails."""
    rows = [_MEASURED_LEADS.index(lead) for lead in _DELINEATED_LEADS]
    by_lead = np.stack([_limits_in_lead(signal[row], peaks) for row in rows])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a limit that no lead shows is NaN
        return _WaveLimits(*(float(limit) for limit in np.nanmedian(by_lead, axis=0)))


def _limits_in_lead(lead: Float[np.ndarray, " L"], peaks: Int[np.ndarray, " N"]) -> Float[np.ndarray, "6"]:
    import neurokit2  # takes seconds

    unknown = np.full(len(_LIMIT_KEYS), np.nan)
    if len(peaks) < 3:
        return unknown
    reach, room = round(_OWN_PEAK_S * FINE_RATE), FINE_RATE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # neurokit2 warns of what becomes NaN here
        try:
            # Room at both ends: neurokit2 drops limits at sample 0, and the rows no longer fit the beats.
            cleaned = np.pad(neurokit2.ecg_clean(lead, sampling_rate=FINE_RATE), room, mode="edge")
            own = np.array([_highest(cleaned, int(peak) + room, reach) for peak in peaks])
            _, found = neurokit2.ecg_delineate(
                cleaned, own, sampling_rate=FINE_RATE, method="prominence", max_r_basepoint_interval=_WIDEST_QRS_MS
            )
        except (ValueError, IndexError, ZeroDivisionError):  # its ways to say that it found nothing
            return unknown
    places = [np.asarray(found[key], dtype=np.float64) for key in _LIMIT_KEYS]
    if any(len(place) != len(peaks) for place in places):
        return unknown
    after_r = (np.stack(places) - peaks - room) / FINE_RATE
    shown = np.isfinite(after_r).mean(axis=1) >= _LEAST_SHARE
    return np.array([np.nanmedian(row) if enough else np.nan for row, enough in zip(after_r, shown, strict=True)])


def _highest(lead: Float[np.ndarray, " L"], centre: int, reach: int) -> int:
    return centre - reach + int(lead[centre - reach : centre + reach + 1].argmax())


def _intervals(limits: _WaveLimits) -> dict[str, float]:
    return {
        "pr": 1000 * (limits.qrs_onset - limits.p_onset),
        "qrs": 1000 * (limits.qrs_end - limits.qrs_onset),
        "qt": 1000 * (limits.t_end - limits.qrs_onset),
    }


# --------------------------------------------------------------------------------------- shape of the beat


def _shape(beat: Float[np.ndarray, "C L"], limits: _WaveLimits) -> dict[str, float]:
    """Axis and amplitudes of a record's median beat (leads _MEASURED_LEADS, mV)."""
    level = _between(beat, limits.qrs_onset - _BASELINE_S, limits.qrs_onset)
    above = beat - np.median(level, axis=1, keepdims=True)
    complexes = _between(above, limits.qrs_onset, limits.qrs_end)
    area_i, area_avf = (complexes[_MEASURED_LEADS.index(lead)].sum() for lead in ("I", "aVF"))
    values = {"axis": float("nan")}
    if complexes.shape[1]:
        # Goldberger's leads are shorter than Einthoven's by sqrt(3)/2.
        values["axis"] = float(np.rad2deg(np.arctan2(area_avf * 2 / np.sqrt(3), area_i)))
    p, t = _between(above, limits.p_onset, limits.p_end), _between(above, limits.t_onset, limits.t_end)
    for lead in ("II", "V1", "V5"):
        row = _MEASURED_LEADS.index(lead)
        values[f"p_{lead.lower()}"] = _largest(p[row])
        values[f"r_{lead.lower()}"] = float(complexes[row].max()) if complexes.shape[1] else float("nan")
        values[f"t_{lead.lower()}"] = _largest(t[row])
    return values


def _between(beat: Float[np.ndarray, "C L"], start_s: float, end_s: float) -> Float[np.ndarray, "C L2"]:
    """The part of a beat between two times after its R peak; empty where one is unknown."""
    if not np.isfinite(start_s + end_s):
        return beat[:, :0]
    first, last = (max(0, round((time + BEFORE_S) * FINE_RATE)) for time in (start_s, end_s))
    return beat[:, first : last + 1]


def _largest(part: Float[np.ndarray, " L"]) -> float:
    """The value furthest from 0, with its sign."""
    return float(part[np.abs(part).argmax()]) if len(part) else float("nan")


# ---------------------------------------------------------------------------------------------- comparison


@dataclass(frozen=True)
class Spread:
    """A quantity over many records: quartiles in its unit, and the share of records where it could be measured."""

    lower: float
    median: float
    upper: float
    measurable: float


@dataclass(frozen=True)
class QuantityComparison:
    """One quantity, real against synthetic.

    Attributes:
        quantity: What is measured, and its unit.
        real: Of the real records.
        synthetic: Of the synthetic ones.
        distance: Wasserstein distance of the two distributions, in the quantity's unit: how far the average
            measurement has to move. NaN where one side has none.
        floor: The same distance between halves of the real records. The axis is compared as a number, not as an angle.
    """

    quantity: Quantity
    real: Spread
    synthetic: Spread
    distance: float
    floor: float


@dataclass(frozen=True)
class RhythmRates:
    """Heart rates of the records with one rhythm statement.

    Attributes:
        statement: Its code.
        real_records: Real records with it.
        synthetic_records: Synthetic records with it.
        real: Their heart rates, 1/min.
        synthetic: Likewise.
    """

    statement: str
    real_records: int
    synthetic_records: int
    real: Spread
    synthetic: Spread


def compare_physiology(
    real: Sequence[Physiology], synthetic: Sequence[Physiology], *, rng: np.random.Generator
) -> tuple[QuantityComparison, ...]:
    """All quantities of real against synthetic records, in the order of QUANTITIES.

    The floor is a mean over 20 random splits of the real records, a patient's together. Halves are smaller than the
    whole, so for as many synthetic records as real ones a perfect generator would lie below it, near 0.7 of it.

    Raises:
        DataError: fewer than 2 real records, no synthetic ones, or one patient only.
    """
    if len(real) < 2 or not synthetic:
        raise DataError(
            f"expected 2 or more real records and at least one synthetic one, got {len(real)} and {len(synthetic)}"
        )
    patients = [measured.patient_id for measured in real]
    splits = [split_halves(len(real), rng=rng, patients=patients) for _ in range(SPLITS)]
    comparisons = []
    for quantity in QUANTITIES:
        ours, theirs = _values(real, quantity.name), _values(synthetic, quantity.name)
        comparisons.append(
            QuantityComparison(
                quantity=quantity,
                real=_spread(ours),
                synthetic=_spread(theirs),
                distance=_distance(ours, theirs),
                floor=_mean_known([_distance(ours[first], ours[second]) for first, second in splits]),
            )
        )
    return tuple(comparisons)


def compare_rhythms(real: Sequence[Physiology], synthetic: Sequence[Physiology]) -> tuple[RhythmRates, ...]:
    """Heart rates by rhythm statement (SR, STACH, SBRAD, AFIB, ...), for the statements that both sides have."""
    compared = []
    for code in vocabulary("rhythm").labels:
        ours, theirs = ([each for each in side if code in each.statements] for side in (real, synthetic))
        if ours and theirs:
            rates = [_spread(_values(side, "heart_rate")) for side in (ours, theirs)]
            compared.append(RhythmRates(code, len(ours), len(theirs), *rates))
    return tuple(compared)


def _values(measured: Sequence[Physiology], name: str) -> Float[np.ndarray, " N"]:
    return np.array([getattr(each, name) for each in measured], dtype=np.float64)


def _spread(values: Float[np.ndarray, " N"]) -> Spread:
    known = values[np.isfinite(values)]
    lower, median, upper = np.quantile(known, (0.25, 0.5, 0.75)) if len(known) else np.full(3, np.nan)
    return Spread(float(lower), float(median), float(upper), measurable=len(known) / len(values))


def _mean_known(distances: Sequence[float]) -> float:
    """Mean of those that are known: where few records can be measured, a half may have none of them."""
    known = [distance for distance in distances if not math.isnan(distance)]
    return float(np.mean(known)) if known else math.nan


def _distance(ours: Float[np.ndarray, " N"], theirs: Float[np.ndarray, " M"]) -> float:
    ours, theirs = ours[np.isfinite(ours)], theirs[np.isfinite(theirs)]
    return float(wasserstein_distance(ours, theirs)) if len(ours) and len(theirs) else float("nan")
