"""SSSD-ECG folded for fast sampling on a CPU; the network as it is (models.sssd) stays its oracle."""

from ecgforge.models.folded.network import FoldedSssd

__all__ = ["FoldedSssd"]
