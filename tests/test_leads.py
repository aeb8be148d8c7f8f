"""Lead names, their order, and the laws that tie twelve leads to eight."""

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgforge.errors import DataError
from ecgforge.leads import (
    MODEL_LEADS,
    STANDARD_LEADS,
    canonical_lead,
    in_order,
    lead_law_residual,
    twelve_from_eight,
    twelve_from_eight_matrix,
)


def random_eight(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(*shape, 8, 40))


@pytest.mark.parametrize("spelling", ["aVR", "avr", "AVR", "lead aVR", "LEAD_AVR", "MDC_ECG_LEAD_AVR", " aVR "])
def test_spellings_of_a_lead(spelling):
    assert canonical_lead(spelling) == "aVR"


@pytest.mark.parametrize("lead", STANDARD_LEADS)
def test_standard_spelling_is_a_fixed_point(lead):
    assert canonical_lead(lead) == canonical_lead(lead.lower()) == lead


@pytest.mark.parametrize("name", ["V7", "", "IIII", "lead"])
def test_unknown_lead_is_refused_by_name(name):
    with pytest.raises(DataError, match=f"I II III .* V6, got '{name}'"):
        canonical_lead(name)


def test_the_eight_leads_stay_as_they_are_among_twelve():
    eight = random_eight(3)
    kept = twelve_from_eight(eight)[..., [STANDARD_LEADS.index(lead) for lead in MODEL_LEADS], :]
    assert np.array_equal(kept, eight)


def test_reconstructed_leads_obey_every_law():
    twelve = twelve_from_eight(random_eight())
    lead = {name: twelve[row] for row, name in enumerate(STANDARD_LEADS)}
    np.testing.assert_allclose(lead["III"], lead["II"] - lead["I"], atol=1e-14)
    np.testing.assert_allclose(lead["aVR"], -(lead["I"] + lead["II"]) / 2, atol=1e-14)
    np.testing.assert_allclose(lead["aVL"], lead["I"] - lead["II"] / 2, atol=1e-14)
    np.testing.assert_allclose(lead["aVF"], lead["II"] - lead["I"] / 2, atol=1e-14)
    assert lead_law_residual(twelve) < 1e-14


def test_matrix_follows_from_the_laws_in_exact_fractions():
    # aVF = II - I/2 gives II; the laws give the others.
    i, avf = np.array([Fraction(1), Fraction(0)]), np.array([Fraction(0), Fraction(1)])
    ii = avf + i / 2
    limb = [i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2]
    matrix = twelve_from_eight_matrix()
    columns = [MODEL_LEADS.index("I"), MODEL_LEADS.index("aVF")]
    assert np.array_equal(matrix[:6][:, columns], np.array(limb, dtype=float))
    assert np.count_nonzero(np.delete(matrix[:6], columns, axis=1)) == 0
    assert np.array_equal(matrix[6:], np.eye(8)[1:7])


def test_original_lead_reconstruction_is_reproduced(parity):
    arrays = parity("leads")
    config = json.loads(arrays["config"].item())
    assert tuple(config["order8"].split()) == MODEL_LEADS
    ours = twelve_from_eight(arrays["eight"])
    theirs = np.stack([in_order(twelve, config["order12"].split()) for twelve in arrays["twelve"]])
    assert ours.dtype == theirs.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-7)


def test_conversion_keeps_the_dtype():
    assert twelve_from_eight(random_eight().astype(np.float32)).dtype == np.float32


@given(st.permutations(STANDARD_LEADS))
def test_in_order_undoes_any_order(leads):
    rows = np.arange(12.0)[:, None] * np.ones(3)
    shuffled = rows[[STANDARD_LEADS.index(lead) for lead in leads]]
    assert np.array_equal(in_order(shuffled, [lead.upper() for lead in leads]), rows)


def test_in_order_names_missing_and_repeated_leads():
    with pytest.raises(DataError, match="V6 missing"):
        in_order(np.zeros((11, 4)), STANDARD_LEADS[:-1])
    with pytest.raises(DataError, match="each lead once, got V1 more than once"):
        in_order(np.zeros((2, 4)), ["V1", "v1"], wanted=["V1"])


def test_residual_is_the_largest_violation_in_mv():
    twelve = np.stack([twelve_from_eight(random_eight())] * 2)
    twelve[1, STANDARD_LEADS.index("aVF"), 7] += 0.25
    np.testing.assert_allclose(lead_law_residual(twelve), [0.0, 0.25], atol=1e-12)
