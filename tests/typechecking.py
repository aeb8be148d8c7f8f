"""The type checker that the tests run annotations with: beartype that takes an int for a float, as mypy does."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
