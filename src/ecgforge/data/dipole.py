"""Physics of the simulated ECG: a moving heart dipole seen by the twelve leads.

The heart is one current dipole at a fixed place. Its moment over a beat is a sum of Gaussian waves, each with
a direction: McSharry's dynamical model (IEEE Trans. Biomed. Eng. 50:289, 2003) in the three-dimensional form
of Sameni et al. (EURASIP J. Adv. Signal Process. 2007:043407). Leads are linear in it.

Frank's axes throughout: X to the patient's left, Y to the feet, Z to the back. Everything is a function of
continuous time, so a record at 500 Hz holds the samples of the same record at 100 Hz.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ecgforge.leads import MODEL_LEADS, twelve_from_eight

# Dower, Machado and Osborne, Clin. Cardiol. 3:87 (1980): mV of a lead per mV of Frank's X, Y, Z.
DOWER = {
    "I": (0.632, -0.235, 0.059),
    "II": (0.235, 1.066, -0.132),
    "V1": (-0.515, 0.157, -0.917),
    "V2": (0.044, 0.164, -1.387),
    "V3": (0.882, 0.098, -1.277),
    "V4": (1.213, 0.127, -0.601),
    "V5": (1.125, 0.127, -0.086),
    "V6": (0.831, 0.076, 0.230),
}

# A Gaussian wave counts as begun and ended this many standard deviations from its peak, at 4 % of it.
EDGE = 2.5
_NEGLIGIBLE = 6.0  # standard deviations beyond which a wave is not computed: 1.5e-8 of its peak

_ELECTRODES = ("RA", "LA", "LL", "V1", "V2", "V3", "V4", "V5", "V6")


@dataclass(frozen=True)
class Wave:
    """One Gaussian wave of the dipole moment.

    Attributes:
        centre: Time of the peak after the QRS onset, s; negative for P waves.
        rise: Standard deviation before the peak, s.
        fall: Standard deviation after the peak, s.
        moment: (X, Y, Z) at the peak, mV.
        plateau: How long the peak is held, s; an ST segment is a wave with a plateau.
    """

    centre: float
    rise: float
    fall: float
    moment: Float[np.ndarray, "3"]
    plateau: float = 0.0

    def shape(self, times: Float[np.ndarray, " L"]) -> Float[np.ndarray, " L"]:
        """The wave over time relative to the QRS onset (s), 1 at its peak."""
        before = np.minimum(times - self.centre, 0.0) / self.rise
        after = np.maximum(times - self.centre - self.plateau, 0.0) / self.fall
        return np.asarray(np.exp(-0.5 * (before**2 + after**2)))


def wave_between(
    onset: float, end: float, moment: Float[np.ndarray, "3"], *, peak_at: float = 0.5, plateau: float = 0.0
) -> Wave:
    """The wave from `onset` to `end` (s), its peak after the share `peak_at` of the way."""
    sloping = end - onset - plateau
    rise, fall = peak_at * sloping / EDGE, (1 - peak_at) * sloping / EDGE
    return Wave(centre=onset + EDGE * rise, rise=rise, fall=fall, moment=moment, plateau=plateau)


def dipole_moment(
    beats: Sequence[tuple[float, Sequence[Wave]]], times: Float[np.ndarray, " L"]
) -> Float[np.ndarray, "3 L"]:
    """Sum of the waves of all beats, mV; a beat is the time of its QRS onset (s) and its waves."""
    moment = np.zeros((3, len(times)))
    for onset, waves in beats:
        for wave in waves:
            start = onset + wave.centre - _NEGLIGIBLE * wave.rise
            stop = onset + wave.centre + wave.plateau + _NEGLIGIBLE * wave.fall
            part = slice(*np.searchsorted(times, (start, stop)))
            moment[:, part] += np.outer(wave.moment, wave.shape(times[part] - onset))
    return moment


def rotate(
    moment: Float[np.ndarray, "3"],
    *,
    frontal_degrees: float | Float[np.ndarray, " N"] = 0.0,
    horizontal_degrees: float = 0.0,
) -> Float[np.ndarray, " 3 *N"]:
    """Turn a moment in the frontal plane, by one angle or by each of many, and then in the horizontal one.

    From the left, a positive frontal turn goes to the feet, as the electrical axis counts, and a positive
    horizontal turn to the back.
    """
    x, y, z = moment
    frontal, horizontal = np.deg2rad(frontal_degrees), np.deg2rad(horizontal_degrees)
    x, y = x * np.cos(frontal) - y * np.sin(frontal), x * np.sin(frontal) + y * np.cos(frontal)
    x, z = x * np.cos(horizontal) - z * np.sin(horizontal), x * np.sin(horizontal) + z * np.cos(horizontal)
    return np.stack([x, y, z])


def twelve_leads(moment: Float[np.ndarray, "3 L"]) -> Float[np.ndarray, "12 L"]:
    """The twelve leads of a dipole moment, mV, standard order; Einthoven's and Goldberger's laws hold."""
    seen = {lead: np.asarray(DOWER[lead]) @ moment for lead in DOWER}
    seen["aVF"] = seen["II"] - seen["I"] / 2
    return twelve_from_eight(np.stack([seen[lead] for lead in MODEL_LEADS]))


def electrode_noise(times: Float[np.ndarray, " L"], stream: np.random.Generator) -> Float[np.ndarray, "12 L"]:
    """Baseline wander and muscle noise in the twelve leads, mV.

    Noise arises at the nine electrodes and reaches the leads as differences, so it keeps the lead laws too.
    It is a sum of cosines, wander of 0.05 to 0.4 Hz and noise of 5 to 45 Hz: below half of any rate used.
    """
    wander = stream.uniform(0.01, 0.04) * _random_cosines(times, stream, low=0.05, high=0.4, count=5)
    muscle = stream.uniform(0.002, 0.008) * _random_cosines(times, stream, low=5.0, high=45.0, count=24)
    at = dict(zip(_ELECTRODES, wander + muscle, strict=True))
    wilson = (at["RA"] + at["LA"] + at["LL"]) / 3
    seen = {lead: at[lead] - wilson for lead in _ELECTRODES[3:]}
    seen["I"] = at["LA"] - at["RA"]
    seen["aVF"] = at["LL"] - (at["RA"] + at["LA"]) / 2
    return twelve_from_eight(np.stack([seen[lead] for lead in MODEL_LEADS]))


def _random_cosines(
    times: Float[np.ndarray, " L"], stream: np.random.Generator, *, low: float, high: float, count: int
) -> Float[np.ndarray, "E L"]:
    """One row an electrode: unit-variance noise between `low` and `high` Hz."""
    shape = (len(_ELECTRODES), count)
    frequencies = stream.uniform(low, high, shape)
    phases = stream.uniform(0, 2 * np.pi, shape)
    rows = [
        np.cos(2 * np.pi * np.outer(own, times) + phase[:, np.newaxis]).sum(axis=0)
        for own, phase in zip(frequencies, phases, strict=True)
    ]
    return np.stack(rows) * float(np.sqrt(2 / count))
