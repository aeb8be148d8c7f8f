"""npz: bitwise inverse, no pickles, and damage."""

from pathlib import Path

import numpy as np
import pytest

from ecgforge.errors import DataError
from ecgforge.formats import npz
from ecgforge.record import EcgRecord

FACTS = ("rate", "leads", "record_id", "statements", "likelihoods", "patient", "provenance")


def test_reading_is_the_bitwise_inverse_of_writing(tmp_path: Path, record: EcgRecord) -> None:
    back = npz.read(npz.write(record, tmp_path / "a"))
    assert back.signal.tobytes() == record.signal.tobytes()
    for fact in FACTS:
        assert getattr(back, fact) == getattr(record, fact), fact


def test_numpy_reads_it_without_pickles(tmp_path: Path, record: EcgRecord) -> None:
    with np.load(npz.write(record, tmp_path / "a.npz"), allow_pickle=False) as file:
        assert sorted(file) == ["leads", "metadata", "rate", "signal"]
        assert file["signal"].dtype == np.float32 and file["signal"].shape == (12, 200)
        assert '"synthetic": "yes"' in str(file["metadata"])


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("sprung"),))


def _arrays(**changed: object) -> dict[str, object]:
    sound = {"signal": np.zeros((1, 4), np.float32), "leads": ["I"], "rate": 100.0, "metadata": "{}"}
    return {name: value for name, value in {**sound, **changed}.items() if value is not None}


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        (_arrays(signal=None), "signal"),
        (_arrays(signal=np.zeros((2, 4), np.float32)), "shape"),
        (_arrays(signal=np.zeros((1, 4), np.int16)), "floats"),
        (_arrays(signal=np.full((1, 4), np.nan, np.float32)), "4 missing"),
        (_arrays(signal=np.zeros((1, 0), np.float32)), "expected samples"),
        (_arrays(leads=["Z"]), "'Z'"),
        (_arrays(rate=-5.0), "above 0 Hz"),
        (_arrays(metadata="[1]"), "JSON object"),
        (_arrays(metadata="{"), "expected an .npz"),
        (_arrays(leads=np.array([Trap()], dtype=object)), "pickle"),
    ],
)
def test_refuses_damage_and_names_the_file(tmp_path: Path, arrays: dict[str, object], complaint: str) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=complaint) as caught:
        npz.read(path)
    assert "bad.npz" in str(caught.value)


def test_refuses_what_is_no_archive(tmp_path: Path, record: EcgRecord) -> None:
    path = npz.write(record, tmp_path / "a")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"a\.npz"):
        npz.read(path)
    with pytest.raises(DataError, match="no such file"):
        npz.read(tmp_path / "b.npz")
