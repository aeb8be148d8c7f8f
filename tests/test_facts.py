"""Facts, and asking a generator for them."""

import math

import numpy as np
import pytest

from ecgforge.errors import ConfigError
from ecgforge.facts import FACTS, Facts


def test_facts_are_told_as_numbers_of_order_one() -> None:
    told = Facts(age=300, sex="female", heart_rate=72).encode(FACTS)
    np.testing.assert_allclose(told, [0.9, 1.0, 0.72], rtol=1e-6)
    assert Facts(sex="male").encode(("heart_rate", "sex")).tolist()[1] == 0.0
    assert all(math.isnan(value) for value in Facts().encode(FACTS))
    assert Facts().encode(()).shape == (0,)


def test_only_the_wanted_facts_are_left() -> None:
    facts = Facts(age=63, sex="female", heart_rate=75)
    assert facts.only(("age", "heart_rate")) == Facts(age=63, heart_rate=75)
    assert facts.only(()) == Facts()


def test_known_names_what_is_given() -> None:
    assert Facts(age=0.0, heart_rate=60).known == ("age", "heart_rate")
    assert Facts().known == ()


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"sex": "f"}, "expected the sex male or female, got 'f'"),
        ({"age": -1}, "expected an age from 0 to 300 years .*, got -1"),
        ({"heart_rate": 500}, "expected a heart rate from 20 to 300 beats per minute, got 500"),
    ],
)
def test_what_no_person_has_is_refused(facts: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Facts(**facts)
