"""Lead names, their standard order, and the linear laws that tie 12 leads to 8.

Leads are named, never numbered. Einthoven: III = II - I. Goldberger: aVR = -(I + II)/2, aVL = I - II/2,
aVF = II - I/2. So four of the twelve leads carry no information of their own, and the generators work on
eight: I, V1-V6, aVF, the order of SSSD-ECG (arXiv 2301.08227, section III.A).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from ecgforge.errors import DataError

STANDARD_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
MODEL_LEADS = ("I", "V1", "V2", "V3", "V4", "V5", "V6", "aVF")
NLE_LEADS = ("I", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")  # the same eight as SSSD-ECG-nle orders them
LIMB_LEADS = STANDARD_LEADS[:6]

_CANONICAL = {name.upper(): name for name in STANDARD_LEADS}

# Each limb lead as (share of I, share of aVF): with II = I/2 + aVF the laws above give the rest.
_LIMB_FROM_I_AND_AVF = {
    "I": (1.0, 0.0),
    "II": (0.5, 1.0),
    "III": (-0.5, 1.0),
    "aVR": (-0.75, -0.5),
    "aVL": (0.75, -0.5),
    "aVF": (0.0, 1.0),
}


def canonical_lead(name: str) -> str:
    """Standard spelling of a lead name: "avr", "AVR", "lead aVR" and "MDC_ECG_LEAD_AVR" all give "aVR".

    Raises:
        DataError: the name is none of the twelve leads.
    """
    bare = name.strip().upper().removeprefix("MDC_ECG_LEAD_").removeprefix("LEAD").strip(" _-")
    if bare not in _CANONICAL:
        raise DataError(f"expected one of the leads {' '.join(STANDARD_LEADS)}, got {name!r}")
    return _CANONICAL[bare]


def twelve_from_eight_matrix() -> Float[np.ndarray, "12 8"]:
    """Matrix M with twelve = M @ eight; rows are STANDARD_LEADS, columns MODEL_LEADS.

    Source: facts of SSSD-ECG's lead reconstruction; equals Einthoven's and Goldberger's laws.
    """
    matrix = np.zeros((len(STANDARD_LEADS), len(MODEL_LEADS)))
    for row, lead in enumerate(STANDARD_LEADS):
        if lead in _LIMB_FROM_I_AND_AVF:
            share_i, share_avf = _LIMB_FROM_I_AND_AVF[lead]
            matrix[row, MODEL_LEADS.index("I")] = share_i
            matrix[row, MODEL_LEADS.index("aVF")] = share_avf
        else:
            matrix[row, MODEL_LEADS.index(lead)] = 1.0
    return matrix


def twelve_from_eight(eight: Float[np.ndarray, "*B 8 L"]) -> Float[np.ndarray, "*B 12 L"]:
    """All twelve leads in standard order from the model's eight, mV; dtype kept."""
    return np.matmul(twelve_from_eight_matrix().astype(eight.dtype), eight)


def in_order(
    signal: Float[np.ndarray, "C L"], leads: Sequence[str], *, wanted: Sequence[str] = STANDARD_LEADS
) -> Float[np.ndarray, "C2 L"]:
    """Rows of `signal` picked by lead name into the order `wanted`; names in any spelling.

    Raises:
        DataError: a wanted lead is missing or occurs twice.
    """
    names = [canonical_lead(lead) for lead in leads]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"expected each lead once, got {' '.join(repeated)} more than once")
    missing = [lead for lead in wanted if lead not in names]
    if missing:
        raise DataError(f"expected leads {' '.join(wanted)}, got {' '.join(names)}: {' '.join(missing)} missing")
    return signal[[names.index(lead) for lead in wanted]]


def complete_twelve(signal: Float[np.ndarray, "C L"], leads: Sequence[str]) -> Float[np.ndarray, "12 L"]:
    """Twelve leads in standard order from a model's leads: its eight in any order, or all twelve, mV.

    Raises:
        DataError: the leads are neither.
    """
    if len(leads) == len(STANDARD_LEADS):
        return in_order(signal, leads)
    return twelve_from_eight(in_order(signal, leads, wanted=MODEL_LEADS))


def lead_law_residual(twelve: Float[np.ndarray, "*B 12 L"]) -> Float[np.ndarray, "*B"]:
    """Largest violation (mV) of III = II - I, aVR = -(I+II)/2, aVL = I - II/2, aVF = II - I/2 over time."""
    i, ii, iii, avr, avl, avf = (twelve[..., row, :] for row in range(len(LIMB_LEADS)))
    gaps = (iii - (ii - i), avr + (i + ii) / 2, avl - (i - ii / 2), avf - (ii - i / 2))
    return np.asarray(np.max(np.abs(np.stack(gaps)), axis=(0, -1)))
