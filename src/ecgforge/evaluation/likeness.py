"""How near a synthetic data set is to the real one, measured on test records: features, waves, signals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ecgforge.evaluation.fidelity import Fidelity, measure_fidelity
from ecgforge.evaluation.physiology import (
    Physiology,
    QuantityComparison,
    RhythmRates,
    compare_physiology,
    compare_rhythms,
)
from ecgforge.evaluation.signal_statistics import (
    CorrelationComparison,
    LeadLaws,
    SpectrumComparison,
    compare_correlations,
    compare_lead_laws,
    compare_spectra,
)
from ecgforge.record import EcgRecord


@dataclass(frozen=True, eq=False)
class Sample:
    """What likeness is measured on.

    Attributes:
        features: Of all test records, from the real-trained classifier of the first seed.
        records: Test records drawn at random, whose waves and signals are measured.
        waves: Of these records, in the same order.
    """

    features: Float[np.ndarray, "N F"]
    records: Sequence[EcgRecord]
    waves: Sequence[Physiology]


@dataclass(frozen=True, eq=False)
class Likeness:
    """How near a synthetic data set is to the real one, on the test folds.

    Attributes:
        name: Of the data set.
        measured: Real and synthetic records whose waves and signals were measured.
        fidelity: On the features of the real-trained classifier of the first seed.
        physiology: Measured quantities, real against synthetic.
        rhythms: Heart rate by rhythm statement.
        spectra: Power by lead and frequency band.
        correlations: How leads go together.
        lead_laws: How far the limb leads are from the laws that tie them.
    """

    name: str
    measured: tuple[int, int]
    fidelity: Fidelity
    physiology: tuple[QuantityComparison, ...]
    rhythms: tuple[RhythmRates, ...]
    spectra: SpectrumComparison
    correlations: CorrelationComparison
    lead_laws: LeadLaws


def measure_likeness(name: str, real: Sample, synthetic: Sample) -> Likeness:
    """Compare a synthetic data set with the real one.

    Raises:
        DataError: fewer than 2 real records, no synthetic ones, or records too short for their spectrum.
    """
    sides = real.records, synthetic.records
    return Likeness(
        name=name,
        measured=(len(real.records), len(synthetic.records)),
        fidelity=measure_fidelity(real.features, synthetic.features),
        physiology=compare_physiology(real.waves, synthetic.waves, rng=np.random.default_rng(0)),
        rhythms=compare_rhythms(real.waves, synthetic.waves),
        spectra=compare_spectra(*sides, rng=np.random.default_rng(0)),
        correlations=compare_correlations(*sides, rng=np.random.default_rng(0)),
        lead_laws=compare_lead_laws(*sides),
    )
