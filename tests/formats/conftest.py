"""One full record for the format tests."""

import numpy as np
import pytest

from ecgforge.record import EcgRecord, Patient, Provenance


@pytest.fixture
def record() -> EcgRecord:
    return EcgRecord(
        signal=np.random.default_rng(0).normal(size=(12, 200)).astype(np.float32),
        rate=100.0,
        record_id="17",
        statements={"NORM": 0.5, "SR": 1.0},
        likelihoods={"NORM": 100.0, "SR": 0.0},
        patient=Patient(patient_id="p 4", age=56.0, sex="female"),
        provenance=Provenance(synthetic=True, source="model, “small”", seed=3, index=17, fold=9),
    )
