"""Where the beats of an ECG are."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import uniform_filter1d
from scipy.signal import butter, find_peaks, sosfiltfilt

from ecgforge.errors import DataError
from ecgforge.facts import FASTEST_HEART, SLOWEST_HEART, Facts
from ecgforge.leads import MODEL_LEADS
from ecgforge.record import EcgRecord

SLOWEST_RATE = 100.0  # Hz
SHORTEST_S = 1.0

# Between the P and T waves below and muscle noise above lies the QRS complex; compared on PTB-XL and simulated ECGs.
_QRS_BAND = (6.0, 20.0)
_WAVE_BAND = (1.0, 40.0)
_SMOOTHING_S = 0.1
_THRESHOLD = 0.35  # of the record's usual QRS height
_REFRACTORY_S = 0.25  # no two beats closer: 240 a minute
FEWEST_BEATS = 3  # two RR intervals: fewer say little
_REACH_S = 0.08  # from the centre of the QRS complex to its peak


def find_r_peaks(record: EcgRecord, *, leads: Sequence[str] = MODEL_LEADS) -> Int[np.ndarray, " N"]:
    """Sample positions of the R peaks, ascending: where the eight independent leads together are largest.

    A QRS complex that is small or negative in one lead is not in all of them, so the leads' joint power between 6 and
    20 Hz finds the complexes, and the root of their summed squares (1-40 Hz) their peaks. That joint peak may lie
    some ms from the R peak of a single lead.

    Args:
        record: At least 1 s at 100 Hz or more.
        leads: Others to look at, where not all eight are there.

    Raises:
        DataError: a lead is missing, or the record is shorter than 1 s or sampled below 100 Hz.
    """
    if record.rate < SLOWEST_RATE or record.duration < SHORTEST_S:
        raise DataError(
            f"expected a record of {SHORTEST_S:g} s or more at {SLOWEST_RATE:g} Hz or more to find beats in, "
            f"got {record.duration:g} s at {record.rate:g} Hz"
        )
    signal = np.nan_to_num(record.in_leads(leads).astype(np.float64))
    smoothing = max(1, round(_SMOOTHING_S * record.rate))
    power = uniform_filter1d(_joint_size(signal, _QRS_BAND, record.rate) ** 2, smoothing)
    activity = np.sqrt(np.maximum(power, 0))  # the filter's running sum may end a hair below 0
    # Padded by a sample, so that a complex cut by the record's edge counts.
    complexes, _ = find_peaks(
        np.pad(activity, 1),
        height=max(_THRESHOLD * _usual_height(activity, record.rate), np.finfo(np.float32).eps),
        distance=max(1, round(_REFRACTORY_S * record.rate)),
    )
    size = _joint_size(signal, _WAVE_BAND, record.rate)
    reach = round(_REACH_S * record.rate)
    peaks = [_highest_near(size, int(centre) - 1, reach) for centre in complexes]
    return np.unique(np.array(peaks, dtype=np.int64))


def measure_heart_rate(record: EcgRecord) -> float | None:
    """Beats per minute from the median RR interval; None with fewer than three beats.

    Raises:
        DataError: as find_r_peaks.
    """
    return rate_of_peaks(find_r_peaks(record), record.rate)


def rate_of_peaks(peaks: Int[np.ndarray, " N"], rate: float) -> float | None:
    """Beats per minute from the median distance of R peaks at a sampling rate (Hz); None with fewer than three."""
    return 60 * rate / float(np.median(np.diff(peaks))) if len(peaks) >= FEWEST_BEATS else None


def mark_beats(positions: Int[np.ndarray, " N"], samples: int) -> Float[np.ndarray, " L"]:
    """Beats as a signal: 1 at each R peak, 0 elsewhere."""
    marks = np.zeros(samples, dtype=np.float32)
    marks[positions] = 1
    return marks


def mark_known_beats(peaks: Int[np.ndarray, " N"], samples: int) -> Float[np.ndarray, " L"]:
    """Measured beats as a signal of the first `samples` samples; NaN where fewer than three were found.

    What so few say of a record is not worth telling a network.
    """
    if len(peaks) < FEWEST_BEATS:
        return np.full(samples, np.nan, dtype=np.float32)
    return mark_beats(peaks[peaks < samples], samples)


def bridge_gaps(peaks: Int[np.ndarray, " N"], missing: Bool[np.ndarray, " L"]) -> Int[np.ndarray, " M"]:
    """R peaks with those that a gap hides put where the rhythm around it expects them: evenly, at its median interval.

    Args:
        peaks: (N,) sample positions, ascending; those within a gap are not believed.
        missing: (L,) which samples nothing is known of.

    Returns:
        (M,) sample positions, ascending; nothing is guessed where no interval is free of gaps.
    """
    known = peaks[~missing[peaks]]
    hidden = np.append(0, np.cumsum(missing))
    between = [bool(hidden[q] - hidden[p]) for p, q in pairwise(known)]
    whole = [q - p for (p, q), gap in zip(pairwise(known), between, strict=True) if not gap]
    if not whole:
        return known
    typical = float(np.median(whole))
    guessed = [np.arange(known[0] - typical, 0, -typical), np.arange(known[-1] + typical, len(missing) - 1, typical)]
    for (p, q), gap in zip(pairwise(known), between, strict=True):
        if gap:
            guessed.append(np.linspace(p, q, max(1, round((q - p) / typical)) + 1)[1:-1])
    places = np.concatenate(guessed).round().astype(known.dtype)
    return np.sort(np.concatenate([known, places[missing[places]]]))


def measure_facts(record: EcgRecord) -> Facts:
    """Age and sex as recorded, the heart rate as measured (see facts_of).

    Raises:
        DataError: as find_r_peaks.
    """
    return facts_of(record, find_r_peaks(record))


def facts_of(record: EcgRecord, peaks: Int[np.ndarray, " N"]) -> Facts:
    """Age and sex as recorded, the heart rate of the R peaks; none where it is one that nobody can be asked for.

    Fewer than 20 beats a minute are three beats found in a record that is flat for the rest, or a heart about to stop.
    """
    rate = rate_of_peaks(peaks, record.rate)
    if rate is not None and not SLOWEST_HEART <= rate <= FASTEST_HEART:
        rate = None
    return Facts(age=record.patient.age, sex=record.patient.sex, heart_rate=rate)


def _joint_size(signal: Float[np.ndarray, "C L"], band: tuple[float, float], rate: float) -> Float[np.ndarray, " L"]:
    """Root of the leads' summed squares within a band (Hz), mV."""
    filtered = sosfiltfilt(_band_pass(band, rate), signal)
    return np.asarray(np.sqrt((filtered**2).sum(axis=0)))


@cache
def _band_pass(band: tuple[float, float], rate: float) -> Float[np.ndarray, "sections 6"]:
    """Second-order sections; designing them takes as long as filtering a record."""
    return np.asarray(butter(2, band, "bandpass", fs=rate, output="sos"))


def _usual_height(activity: Float[np.ndarray, " L"], rate: float) -> float:
    """Median of the maxima of overlapping 2 s: one giant beat or artefact does not hide the others."""
    window = round(2 * rate)
    starts = range(0, max(1, len(activity) - window + 1), max(1, window // 2))
    return float(np.median([activity[start : start + window].max() for start in starts]))


def _highest_near(size: Float[np.ndarray, " L"], centre: int, reach: int) -> int:
    start = max(0, centre - reach)
    return start + int(size[start : centre + reach + 1].argmax())
