"""EcgRecord: the one thing every room exchanges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from ecgforge.errors import DataError
from ecgforge.leads import STANDARD_LEADS, canonical_lead, in_order


@dataclass(frozen=True)
class Patient:
    """What is known of the person.

    Attributes:
        patient_id: Identifier within the source data set.
        age: Years; PTB-XL's 300 stands for "90 or older" and is kept as published.
        sex: "male" or "female".
    """

    patient_id: str | None = None
    age: float | None = None
    sex: str | None = None

    def __post_init__(self) -> None:
        if self.sex not in (None, "male", "female"):
            raise DataError(f"expected sex 'male', 'female' or None, got {self.sex!r}")


@dataclass(frozen=True)
class Provenance:
    """Where a record comes from, so that real and synthetic are never mistaken for each other.

    Attributes:
        synthetic: True for anything not measured on a person.
        source: Data set or model that made it, e.g. "PTB-XL 1.0.3" or "ecgforge model patch-s4 d8661acb7803".
        seed: Seed of a synthetic record.
        index: Index of a synthetic record within its seed.
        fold: Cross-validation fold of a real record.
    """

    synthetic: bool = False
    source: str = ""
    seed: int | None = None
    index: int | None = None
    fold: int | None = None


@dataclass(frozen=True, eq=False)
class EcgRecord:
    """An electrocardiogram with its context.

    Attributes:
        signal: (C, L) float32 in mV, one row a lead.
        rate: Samples per second (Hz).
        leads: Names of the rows, standard spelling.
        record_id: Identifier within the source.
        statements: SCP-ECG statement codes with their grade in (0, 1]; 1 is "present".
        likelihoods: Annotators' likelihood in percent where given (PTB-XL: 0 means unknown).
        patient: Patient facts.
        provenance: Origin.

    Raises:
        DataError: shapes, lead names, rate or grades are not as above.
    """

    signal: np.ndarray  # (C, L); checked below, so that a wrong shape is our typed error
    rate: float
    leads: tuple[str, ...] = STANDARD_LEADS
    record_id: str = ""
    statements: Mapping[str, float] = field(default_factory=dict)
    likelihoods: Mapping[str, float] = field(default_factory=dict)
    patient: Patient = Patient()
    provenance: Provenance = Provenance()

    def __post_init__(self) -> None:
        signal = np.ascontiguousarray(self.signal, dtype=np.float32)
        if signal.ndim != 2 or len(signal) != len(self.leads):
            raise DataError(
                f"expected a signal of shape (leads, samples) with {len(self.leads)} leads, got {signal.shape}"
            )
        if not self.rate > 0:
            raise DataError(f"expected a sampling rate above 0 Hz, got {self.rate}")
        bad = {code: grade for code, grade in self.statements.items() if not 0 < grade <= 1}
        if bad:
            raise DataError(f"expected statement grades in (0, 1], got {bad}")
        object.__setattr__(self, "signal", signal)
        object.__setattr__(self, "leads", tuple(canonical_lead(lead) for lead in self.leads))

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.signal.shape[1] / self.rate

    def lead(self, name: str) -> Float[np.ndarray, " L"]:
        """One lead in mV by name.

        Raises:
            DataError: the record has no such lead.
        """
        return in_order(self.signal, self.leads, wanted=(canonical_lead(name),))[0]

    def in_leads(self, wanted: Sequence[str] = STANDARD_LEADS) -> Float[np.ndarray, "C L"]:
        """The signal with its rows in the order `wanted`, mV.

        Raises:
            DataError: a wanted lead is missing.
        """
        return in_order(self.signal, self.leads, wanted=wanted)
