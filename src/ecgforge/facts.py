"""Facts: what can be asked for besides statements, and how a network is told."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from ecgforge.errors import ConfigError

Fact = Literal["age", "sex", "heart_rate"]
FACTS: tuple[Fact, ...] = get_args(Fact)

SLOWEST_HEART, FASTEST_HEART = 20.0, 300.0  # beats per minute
LARGEST_AGE = 300  # what PTB-XL writes for 90 or older
_OLDEST = 90  # who is older is not told apart
_SEXES = {"male": 0.0, "female": 1.0}


@dataclass(frozen=True)
class Facts:
    """Age, sex and heart rate, each as far as known.

    Attributes:
        age: Years; 90 and above are one.
        sex: "male" or "female".
        heart_rate: Beats per minute.

    Raises:
        ConfigError: a value no person has.
    """

    age: float | None = None
    sex: str | None = None
    heart_rate: float | None = None

    def __post_init__(self) -> None:
        if self.sex not in (None, *_SEXES):
            raise ConfigError(f"expected the sex male or female, got {self.sex!r}")
        if self.age is not None and not 0 <= self.age <= LARGEST_AGE:
            raise ConfigError(
                f"expected an age from 0 to {LARGEST_AGE} years (PTB-XL's 300: 90 or older), got {self.age:g}"
            )
        if self.heart_rate is not None and not SLOWEST_HEART <= self.heart_rate <= FASTEST_HEART:
            raise ConfigError(
                f"expected a heart rate from {SLOWEST_HEART:g} to {FASTEST_HEART:g} beats per minute, "
                f"got {self.heart_rate:g}"
            )

    @property
    def known(self) -> tuple[Fact, ...]:
        """Names of those that are given."""
        return tuple(fact for fact in FACTS if getattr(self, fact) is not None)

    def only(self, wanted: Sequence[Fact]) -> "Facts":
        """Those of the facts that are wanted; the others are left open."""
        return Facts(**{fact: getattr(self, fact) for fact in wanted})

    def encode(self, wanted: Sequence[Fact]) -> Float[np.ndarray, " F"]:
        """The facts a network knows, as numbers of order 1; NaN where nothing is given.

        Age in 100 years, sex 0 for male and 1 for female, heart rate in 100 beats per minute.
        """
        values: dict[Fact, float] = {
            "age": math.nan if self.age is None else min(self.age, _OLDEST) / 100,
            "sex": math.nan if self.sex is None else _SEXES[self.sex],
            "heart_rate": math.nan if self.heart_rate is None else self.heart_rate / 100,
        }
        return np.array([values[fact] for fact in wanted], dtype=np.float32)
