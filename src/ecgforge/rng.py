"""Counter-based random streams: one per (seed, record index).

Record 17 of a seed is record 17 at any batch size, in any order, on any number of processes, because its
stream is keyed by its own index and never by how many draws others made. Philox (Salmon et al. 2011) gives
2^128 independent streams from one key pair.
"""

import numpy as np

from ecgforge.errors import ConfigError

_LARGEST = 2**63 - 1


def record_stream(seed: int, index: int, *, purpose: int = 0) -> np.random.Generator:
    """The random stream that belongs to record `index` of `seed`.

    Args:
        seed: The user's seed, 0 to 2^63 - 1.
        index: Record index within the seed, 0 to 2^63 - 1.
        purpose: Keeps independent uses of the same record apart (0 sampling noise, others as the caller names).

    Raises:
        ConfigError: seed, index or purpose is out of range.
    """
    for name, value in (("seed", seed), ("index", index), ("purpose", purpose)):
        if not 0 <= value <= _LARGEST:
            raise ConfigError(f"expected {name} from 0 to {_LARGEST}, got {value}")
    # The counter's top word separates purposes: two purposes would meet only after 2^192 draws.
    return np.random.Generator(np.random.Philox(key=(seed, index), counter=(0, 0, 0, purpose)))
