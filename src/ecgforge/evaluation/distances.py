"""Euclidean distances between two sets of feature vectors, block by block, so that they never all lie in memory.

Differences are taken before they are squared. The faster way through one matrix product (|x|^2 + |y|^2 - 2 x y)
loses digits where two vectors almost agree, and exact copies are what the searches here must not miss.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist

from ecgforge.errors import ConfigError, DataError

_BLOCK = 4_000_000  # distances held at a time: 32 MB


def squared_distance_blocks(
    queries: Float[np.ndarray, "M H"], references: Float[np.ndarray, "N H"]
) -> Iterator[tuple[slice, Float[np.ndarray, "m N"]]]:
    """Squared distances of all pairs: consecutive rows of `queries`, and their distances to all `references`."""
    rows = max(1, _BLOCK // max(1, len(references)))
    for start in range(0, len(queries), rows):
        block = slice(start, min(start + rows, len(queries)))
        yield block, cdist(queries[block], references, "sqeuclidean")


def squared_radii(features: Float[np.ndarray, "N H"], *, k: int) -> Float[np.ndarray, " N"]:
    """Squared distance of each vector to its k-th nearest other one.

    Raises:
        ConfigError: k is not from 1 to N - 1.
    """
    if not 1 <= k < len(features):
        raise ConfigError(f"expected k from 1 to {len(features) - 1} for {len(features)} records, got {k}")
    radii = np.empty(len(features))
    for block, distances in squared_distance_blocks(features, features):
        own = np.arange(block.start, block.stop)
        distances[own - block.start, own] = np.inf  # a record is no neighbour of itself, its copies are
        radii[block] = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return radii


def nearest(
    queries: Float[np.ndarray, "M H"], references: Float[np.ndarray, "N H"]
) -> tuple[Float[np.ndarray, " M"], Int[np.ndarray, " M"]]:
    """Distance of each query to its nearest reference, and that one's row; the first of equally near ones."""
    distance, row = np.empty(len(queries)), np.empty(len(queries), dtype=np.int64)
    for block, distances in squared_distance_blocks(queries, references):
        row[block] = distances.argmin(axis=1)
        distance[block] = np.sqrt(distances.min(axis=1))
    return distance, row


def checked_features(features: Float[np.ndarray, "N H"], *, name: str) -> Float[np.ndarray, "N H"]:
    """The features as float64.

    Raises:
        DataError: fewer than 2 records, or a value that is not finite.
    """
    if len(features) < 2:
        raise DataError(f"expected 2 or more {name} records, got {len(features)}")
    broken = int((~np.isfinite(features)).any(axis=1).sum())
    if broken:
        raise DataError(
            f"expected finite features, got NaN or infinite ones in {broken} of {len(features)} {name} records; "
            "leave those records out"
        )
    return features.astype(np.float64)
