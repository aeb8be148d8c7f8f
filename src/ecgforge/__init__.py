"""Synthetic 12-lead electrocardiograms for given ECG statements, and the means to judge them.

    from ecgforge import Generator
    records = Generator.load().sample(["NORM,SR", "AFIB"], n=4, seed=0)

Importing the package loads no torch; the first use of Generator does.
"""

from importlib import metadata
from typing import TYPE_CHECKING, Any

from ecgforge.errors import EcgforgeError
from ecgforge.record import EcgRecord

if TYPE_CHECKING:
    from ecgforge.generate import Generator

__version__ = metadata.version("ecgforge")
__all__ = ["EcgRecord", "EcgforgeError", "Generator", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Generator":
        from ecgforge.generate import Generator

        return Generator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
