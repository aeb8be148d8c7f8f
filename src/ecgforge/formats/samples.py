"""Signals as 16-bit whole microvolts, as WFDB, EDF, DICOM and aECG files are written."""

from pathlib import Path

import numpy as np
from jaxtyping import Int16

from ecgforge.errors import DataError
from ecgforge.formats.metadata import require_finite, standard_leads
from ecgforge.record import EcgRecord

UV_PER_MV = 1000
LARGEST_UV = 2**15 - 1  # -2^15 is WFDB's mark of a missing sample


def microvolts(record: EcgRecord, path: Path) -> Int16[np.ndarray, "C L"]:
    """The record's signal rounded to whole microvolts.

    Args:
        record: Any subset of the twelve leads.
        path: The file to be written, for messages.

    Raises:
        DataError: a lead is repeated, or samples are missing or beyond +-32.767 mV; the message names the file.
    """
    require_finite(record.signal, standard_leads(record.leads, path), path)
    rounded = np.rint(record.signal.astype(np.float64) * UV_PER_MV)
    largest = np.abs(rounded).max(axis=1)
    if largest.max() > LARGEST_UV:
        lead = record.leads[int(largest.argmax())]
        raise DataError(
            f"{path}: expected samples within +-{LARGEST_UV / UV_PER_MV} mV, which 16 bits hold, "
            f"got {largest.max() / UV_PER_MV:g} mV in lead {lead}; is the signal in mV?"
        )
    return rounded.astype(np.int16)
