"""What ecgdatakit, a reader that shares no code with ours, sees in a file."""

import warnings
from pathlib import Path

import ecgdatakit
import numpy as np

from ecgforge.record import EcgRecord


def read_independently(path: Path) -> ecgdatakit.ECGRecord:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it notes rates that are no whole number
        return ecgdatakit.FileParser().parse(path)


def assert_same_signal(found: ecgdatakit.ECGRecord, record: EcgRecord) -> None:
    """Leads by name and order, rate, unit, and every sample to half a microvolt."""
    assert [lead.label for lead in found.leads] == list(record.leads)
    assert {lead.sampling_rate for lead in found.leads} == {round(record.rate)}
    in_mv = found.to_physical().convert_units("mV")
    np.testing.assert_allclose([lead.samples for lead in in_mv.leads], record.signal, rtol=0, atol=0.5e-3 + 1e-6)
