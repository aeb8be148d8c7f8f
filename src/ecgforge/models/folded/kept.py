"""Values that many calls share, computed at the first."""

from collections.abc import Callable, Hashable
from typing import TypeVar

from torch import Tensor

KEPT_LEVELS = 256  # more than the papers' T = 200
KEPT_RECORDS = 64  # what a batch's records are told stays from call to call

Key = TypeVar("Key", bound=Hashable)


def kept(values: dict[Key, Tensor], key: Key, compute: Callable[[], Tensor], *, most: int) -> Tensor:
    """The value of a key, computed at its first use; all are forgotten when there are too many."""
    found = values.get(key)
    if found is None:
        if len(values) >= most:
            values.clear()
        found = values[key] = compute()
    return found
