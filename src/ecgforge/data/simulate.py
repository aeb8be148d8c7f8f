"""Simulated 12-lead ECGs that show the visible signs of some twenty statements: test and demo data.

Not a model of patients: every record is drawn from a healthy heart (heart.py) that its statements then change
(signs.py). Record 17 of a seed is the same alone and in a set, and at 100 Hz every fifth sample of 500 Hz.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ecgforge.data.dipole import dipole_moment, electrode_noise, twelve_leads
from ecgforge.data.heart import (
    PREMATURE_WAVES,
    Beat,
    Heart,
    atrial_activity,
    beat_waves,
    draw_beats,
    draw_heart,
    r_times,
)
from ecgforge.data.ptbxl_layout import write_ptbxl
from ecgforge.data.signs import CHANGES, COMBINATIONS, CONTRADICTIONS
from ecgforge.errors import ConfigError, LabelError
from ecgforge.labels import parse_statements, statement
from ecgforge.record import EcgRecord, Patient, Provenance
from ecgforge.rng import Purpose, record_stream

SLOWEST_RATE = 100.0  # Hz; below it the QRS complex does not fit under half the rate


@dataclass(frozen=True)
class SimulatedEcg:
    """A simulated record and what is true of it.

    Attributes:
        record: The ECG.
        r_times: R peaks within the record, s from its start.
        heart_rate: Mean ventricular rate asked for, beats a minute.
        heart: Intervals, axis and everything else the signal was made from.
    """

    record: EcgRecord
    r_times: Float[np.ndarray, " N"]
    heart_rate: float
    heart: Heart


def simulate_record(
    statements: Mapping[str, float] | Sequence[str] | str,
    *,
    seed: int,
    index: int,
    rate: int | float = 100,
    seconds: int | float = 10,
    noise: bool = True,
) -> EcgRecord:
    """One simulated 12-lead ECG, mV, standard lead order.

    Args:
        statements: "NORM,SR", ["NORM", "SR"] or {"NORM": 1.0, "SR": 1.0}; grades are kept, not drawn.
        seed: The user's seed.
        index: Record index within the seed.
        rate: Samples a second, 100 Hz or more.
        seconds: Length; a longer record begins like a shorter one.
        noise: Baseline wander and muscle noise.

    Raises:
        LabelError: a statement is unknown, has no simulated signs, or contradicts another.
        ConfigError: rate or seconds is out of range.
    """
    return simulate_with_truth(statements, seed=seed, index=index, rate=rate, seconds=seconds, noise=noise).record


def simulate_with_truth(
    statements: Mapping[str, float] | Sequence[str] | str,
    *,
    seed: int,
    index: int,
    rate: int | float = 100,
    seconds: int | float = 10,
    noise: bool = True,
    heart: Heart | None = None,
) -> SimulatedEcg:
    """As simulate_record, with R peaks and the heart behind the signal.

    Args:
        statements: As there.
        seed: As there.
        index: As there.
        rate: As there.
        seconds: As there.
        noise: As there.
        heart: This heart instead of the drawn one, for instance `replace(ecg.heart, heart_rate=75.0)`.

    Raises:
        LabelError: a statement is unknown, has no simulated signs, or contradicts another.
        ConfigError: rate or seconds is out of range.
    """
    if not rate >= SLOWEST_RATE:
        raise ConfigError(f"expected a sampling rate of {SLOWEST_RATE:g} Hz or more, got {rate}")
    if not 1 <= seconds <= 86400:
        raise ConfigError(f"expected 1 to 86400 seconds of ECG, got {seconds}")
    grades = _grades(statements)
    if heart is None:
        heart = heart_with(grades, seed=seed, index=index)
    times = np.arange(round(seconds * rate)) / rate
    beats = draw_beats(heart, float(seconds), record_stream(seed, index, purpose=Purpose.BEATS))
    signal = _clean_signal(heart, beats, times, record_stream(seed, index, purpose=Purpose.ATRIA))
    if noise:
        signal = signal + electrode_noise(times, record_stream(seed, index, purpose=Purpose.ELECTRODE_NOISE))
    record = EcgRecord(
        signal=signal.astype(np.float32),
        rate=float(rate),
        record_id=str(index),
        statements=grades,
        likelihoods={code: 100.0 if _is_diagnostic(code) else 0.0 for code in grades},
        patient=draw_patient(seed=seed, index=index),
        provenance=Provenance(synthetic=True, source="ecgforge simulator", seed=seed, index=index),
    )
    peaks = r_times(heart, beats)
    peaks = peaks[(peaks >= 0) & (peaks < seconds)]
    return SimulatedEcg(record=record, r_times=peaks, heart_rate=heart.heart_rate, heart=heart)


def heart_with(statements: Mapping[str, float] | Sequence[str] | str, *, seed: int, index: int) -> Heart:
    """The heart of a record: a healthy one, changed by each statement in the order of CHANGES.

    Raises:
        LabelError: a statement is unknown, has no simulated signs, or contradicts another.
    """
    grades = _grades(statements)
    heart = draw_heart(record_stream(seed, index, purpose=Purpose.HEART))
    for row, (code, change) in enumerate(CHANGES.items()):
        if code in grades:
            heart = change(heart, record_stream(seed, index, purpose=Purpose.STATEMENT_SIGNS + row))
    return heart


def draw_patient(*, seed: int, index: int) -> Patient:
    """Who a record belongs to: every seventh record is a second one of the patient before."""
    number = index - 1 if index % 7 == 0 and index > 0 else index
    stream = record_stream(seed, number, purpose=Purpose.PATIENT)
    age = float(np.clip(np.rint(stream.normal(60, 17)), 18, 89))
    return Patient(patient_id=str(number), age=age, sex=str(stream.choice(["male", "female"])))


def draw_statements(*, seed: int, index: int) -> dict[str, float]:
    """The statements of a record of a simulated data set, drawn from COMBINATIONS."""
    shares = np.array(list(COMBINATIONS.values()), dtype=np.float64)
    stream = record_stream(seed, index, purpose=Purpose.STATEMENTS)
    return parse_statements(str(stream.choice(list(COMBINATIONS), p=shares / shares.sum())))


def simulate_data_set(
    dest: Path,
    *,
    n: int,
    seed: int = 0,
    rates: Sequence[int] = (100,),
    seconds: int | float = 10,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `n` simulated records in PTB-XL's published layout; any PTB-XL loader reads them.

    Args:
        dest: Folder to make; must not exist or be empty.
        n: Number of records; they get ecg_id 1 to n, which is also their index.
        seed: The user's seed.
        rates: 100, 500 or both.
        seconds: Length of a record.
        progress: Called as progress(done, total).

    Returns:
        The folder.

    Raises:
        ConfigError: n, rates or seconds is out of range.
        DataError: dest is not empty or cannot be written.
    """
    if n < 1:
        raise ConfigError(f"expected at least one record, got n={n}")
    records = (
        simulate_record(draw_statements(seed=seed, index=index), seed=seed, index=index, rate=rate, seconds=seconds)
        for index in range(1, n + 1)
        for rate in rates
    )
    return write_ptbxl(records, dest, rates=rates, total=n, progress=progress)


def _clean_signal(
    heart: Heart, beats: Sequence[Beat], times: Float[np.ndarray, " L"], stream: np.random.Generator
) -> Float[np.ndarray, "12 L"]:
    usual = beat_waves(heart)
    moment = dipole_moment([(beat.onset, PREMATURE_WAVES if beat.premature else usual) for beat in beats], times)
    return twelve_leads(moment + atrial_activity(heart, times, beats[0].onset, stream))


def _grades(statements: Mapping[str, float] | Sequence[str] | str) -> dict[str, float]:
    """Statements in one form, each with signs to show and none against another."""
    if isinstance(statements, str):
        grades = parse_statements(statements)
    elif isinstance(statements, Mapping):
        grades = {statement(code).code: float(grade) for code, grade in statements.items()}
    else:
        grades = {statement(code).code: 1.0 for code in statements}
    unsupported = [code for code in grades if code not in CHANGES]
    if unsupported or not grades:
        raise LabelError(f"the simulator shows {' '.join(CHANGES)}; got {' '.join(unsupported) or 'none'}")
    for rivals in CONTRADICTIONS:
        together = [code for code in grades if code in rivals]
        if len(together) > 1:
            raise LabelError(f"expected one of {' '.join(together)}: they contradict each other in one ECG")
    return grades


def _is_diagnostic(code: str) -> bool:
    return "diagnostic" in statement(code).groups
