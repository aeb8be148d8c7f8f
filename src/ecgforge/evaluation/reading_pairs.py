"""Which records go into a reading kit: statement sets, and a record of each at random."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from ecgforge.data.store import EcgStore
from ecgforge.errors import DataError
from ecgforge.labels import format_statements, parse_statements
from ecgforge.record import EcgRecord
from ecgforge.rng import Purpose, record_stream

TRUSTED = 2  # label quality of statements that are exact

Rows = Mapping[str, Sequence[int]]
"""Rows of a store by statement set, each set as the text of `statement_set`."""


def statement_set(text: str) -> str:
    """Statements in one spelling: "SR, norm" -> "NORM,SR".

    Raises:
        LabelError: as parse_statements.
    """
    return format_statements(dict(sorted(parse_statements(text).items())))


def rows_by_set(
    store: EcgStore, *, folds: Collection[int] | None = None, min_label_quality: int | None = None
) -> dict[str, list[int]]:
    """Rows of a store by statement set; records without statements are left out.

    Raises:
        DataError: the store has no such fold.
    """
    texts = store.index["statements"]
    spelled = {text: statement_set(text) for text in texts.unique() if text}
    rows: dict[str, list[int]] = {}
    for row in store.rows(folds=folds, min_label_quality=min_label_quality).tolist():
        if texts.iloc[row]:
            rows.setdefault(spelled[texts.iloc[row]], []).append(row)
    return rows


def choose_sets(real: Rows, *, pairs: int, available: Callable[[str], bool]) -> tuple[str, ...]:
    """The most frequent statement sets among the real records; sets of equal frequency in alphabetical order.

    Args:
        real: Rows of the real store.
        pairs: How many sets.
        available: Whether a synthetic record with a set can be had.

    Raises:
        DataError: there are fewer sets, or none.
    """
    counts = Counter({text: len(rows) for text, rows in real.items() if available(text)})
    if not counts:
        raise DataError(
            "expected statement sets with real and synthetic records, got none; take other folds or records"
        )
    if not 1 <= pairs <= len(counts):
        raise DataError(
            f"expected 1 to {len(counts)} pairs, the statement sets with real and synthetic records, got {pairs}; "
            "ask for fewer pairs or take more folds"
        )
    return tuple(sorted(counts, key=lambda text: (-counts[text], text))[:pairs])


def require_sets(wanted: Sequence[str], *, available: Callable[[str], bool], where: str) -> tuple[str, ...]:
    """Statement sets named by a user, in one spelling.

    Raises:
        DataError: a set is named twice, or is not available; `where` says from what.
        LabelError: as parse_statements.
    """
    sets = tuple(statement_set(text) for text in wanted)
    doubles = [text for text, count in Counter(sets).items() if count > 1]
    if doubles:
        raise DataError(f"expected each statement set once, got {doubles[0]} more than once")
    missing = [text for text in sets if not available(text)]
    if missing:
        raise DataError(
            f"expected statement sets of {where}, which has none of exactly {'; '.join(missing)}; name other sets"
        )
    return sets


def draw_records(store: EcgStore, rows: Rows, sets: Sequence[str], *, seed: int, purpose: Purpose) -> list[EcgRecord]:
    """One record of each set, drawn at random; the same seed draws the same records.

    Args:
        store: Where they are.
        rows: Its rows by statement set.
        sets: The sets, in the order wanted.
        seed: The user's seed.
        purpose: REAL_READING or SYNTHETIC_READING: a twin is not drawn because its original was.
    """
    streams = [record_stream(seed, pair, purpose=purpose) for pair in range(len(sets))]
    return [store.record(int(stream.choice(rows[text]))) for stream, text in zip(streams, sets, strict=True)]
