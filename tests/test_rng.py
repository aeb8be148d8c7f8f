"""One random stream per (seed, record index): pinned values, independence of order, distinct streams."""

import numpy as np
import pytest

from ecgforge.data.signs import CHANGES
from ecgforge.errors import ConfigError
from ecgforge.rng import Purpose, record_stream


def draws(seed: int, index: int, *, purpose: int = 0, n: int = 1000) -> np.ndarray:
    return record_stream(seed, index, purpose=purpose).standard_normal(n)


@pytest.mark.parametrize(
    ("seed", "index", "purpose", "expected"),
    [
        (0, 0, 0, [0.15929546600623282, -1.7741885208017214, 1.3265118818830892]),
        (0, 1, 0, [-0.7440191742693708, -0.01442460974068005, 0.5053939916649247]),
        (7, 17, 2, [-0.17316626585551728, -0.3366973725128147, -0.4747966762773555]),
    ],
)
def test_pinned_values(seed, index, purpose, expected):
    # What a seed means may not change: published synthetic records are named by it.
    np.testing.assert_allclose(draws(seed, index, purpose=purpose, n=3), expected, rtol=1e-14)


def test_pinned_bits():
    assert record_stream(7, 17, purpose=2).bit_generator.random_raw(2).tolist() == [
        2512033426639617462,
        11785626167146244089,
    ]


def test_streams_do_not_depend_on_what_others_drew():
    forward = [draws(3, index) for index in range(5)]
    streams = [record_stream(3, index) for index in range(5)]
    backward = {index: streams[index].standard_normal(1000) for index in reversed(range(5))}
    assert all(np.array_equal(forward[index], backward[index]) for index in range(5))


def test_draws_in_pieces_are_the_draws_at_once():
    stream = record_stream(3, 17)
    pieces = [stream.standard_normal(n) for n in (1, 399, 600)]
    assert np.array_equal(np.concatenate(pieces), draws(3, 17))


def test_seed_index_and_purpose_each_give_another_stream():
    # Neighbours and swapped arguments, where a careless mixture of the three would coincide.
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (2, 0, 0), (0, 2, 0), (1, 0, 1), (0, 1, 1)]
    together = np.stack([draws(seed, index, purpose=purpose) for seed, index, purpose in keys])
    correlation = np.corrcoef(together) - np.eye(len(keys))
    assert np.abs(correlation).max() < 0.15  # 4.7 standard deviations of 1/sqrt(1000)
    assert len(np.unique(together)) == together.size


def test_draws_are_standard_normal():
    values = np.concatenate([draws(0, index) for index in range(100)])
    assert abs(values.mean()) < 5 / np.sqrt(values.size)
    assert abs(values.var() - 1) < 5 * np.sqrt(2 / values.size)


@pytest.mark.parametrize("place", ["seed", "index", "purpose"])
@pytest.mark.parametrize("value", [-1, 2**63])
def test_out_of_range_is_refused_by_name(place, value):
    arguments = {"seed": 0, "index": 0, "purpose": 0, place: value}
    with pytest.raises(ConfigError, match=f"expected {place} from 0 to {2**63 - 1}, got {value}"):
        record_stream(arguments["seed"], arguments["index"], purpose=arguments["purpose"])


def test_largest_values_are_accepted():
    largest = 2**63 - 1
    assert np.isfinite(record_stream(largest, largest, purpose=largest).standard_normal())


def test_statement_signs_keep_their_own_purposes():
    reserved = range(Purpose.STATEMENT_SIGNS, Purpose.STATEMENT_SIGNS + 90)
    assert len(CHANGES) <= len(reserved)
    assert [purpose for purpose in Purpose if purpose in reserved] == [Purpose.STATEMENT_SIGNS]
