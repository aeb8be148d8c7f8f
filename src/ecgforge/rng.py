"""Counter-based random streams: one per (seed, record index).

Record 17 of a seed is record 17 at any batch size, in any order, on any number of processes, because its
stream is keyed by its own index and never by how many draws others made. Philox (Salmon et al. 2011) gives
2^128 independent streams from one key pair.
"""

from enum import IntEnum, unique

import numpy as np

from ecgforge.errors import ConfigError

_LARGEST = 2**63 - 1


@unique
class Purpose(IntEnum):
    """What a record's random numbers are for; each purpose has a stream of its own.

    A number, once used, stays: records and trainings of a seed depend on it.
    """

    # Generating, completing, copying
    NOISE = 0
    RHYTHM = 3
    COMPLETION = 9
    TOP_UP = 8
    # Training
    ORDER = 1
    EXAMPLE = 2
    RARE_STATEMENT = 6
    DROPOUT = 7
    WINDOW = 10
    CRITIC_SHUFFLE = 11
    GENERATOR_SHUFFLE = 12
    # Simulating
    HEART = 100
    BEATS = 101
    ATRIA = 102
    ELECTRODE_NOISE = 103
    PATIENT = 104
    STATEMENTS = 105
    STATEMENT_SIGNS = 110  # and the numbers up to 199: one for each statement that has signs
    # Evaluating
    KEPT_REAL = 4
    COPIED = 5
    REAL_READING = 200
    SYNTHETIC_READING = 201
    READING_ORDER = 202
    DENOISING_NOISE = 300
    RELEASE = 301
    BEAT_RECORDS = 400


def record_stream(seed: int, index: int, *, purpose: int = Purpose.NOISE) -> np.random.Generator:
    """The random stream that belongs to record `index` of `seed`.

    Args:
        seed: The user's seed, 0 to 2^63 - 1.
        index: Record index within the seed, 0 to 2^63 - 1.
        purpose: A `Purpose`, which keeps independent uses of the same record apart.

    Raises:
        ConfigError: seed, index or purpose is out of range.
    """
    for name, value in (("seed", seed), ("index", index), ("purpose", purpose)):
        if not 0 <= value <= _LARGEST:
            raise ConfigError(f"expected {name} from 0 to {_LARGEST}, got {value}")
    # The counter's top word separates purposes: two purposes would meet only after 2^192 draws.
    return np.random.Generator(np.random.Philox(key=(seed, index), counter=(0, 0, 0, purpose)))
