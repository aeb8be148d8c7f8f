"""Networks folded for fast sampling on a CPU; as they are (models.sssd, models.patch_s4) they stay the oracles."""

import torch
from torch import nn

from ecgforge.errors import ConfigError
from ecgforge.models.folded.patch_s4 import FoldedPatchS4
from ecgforge.models.folded.sssd import FoldedSssd
from ecgforge.models.native.library import Absent, native_kernels
from ecgforge.models.patch_s4 import PatchS4
from ecgforge.models.sssd import SssdEcg

__all__ = ["FoldedPatchS4", "FoldedSssd", "fold"]


def fold(network: nn.Module, *, products: torch.dtype = torch.float32) -> FoldedSssd | FoldedPatchS4 | None:
    """The fastest form of a network on this machine's CPU; None where it is best called as it is.

    Args:
        network: In float32, on the CPU.
        products: Number format of the blocks' matrix products, float32 or bfloat16.

    Raises:
        ConfigError: the network is elsewhere or in another number format.
    """
    found = next(network.parameters())
    if found.device.type != "cpu" or found.dtype != torch.float32:
        raise ConfigError(
            f"expected a float32 network on the CPU, got {found.dtype} on {found.device}; call it as it is"
        )
    if isinstance(network, SssdEcg):
        return FoldedSssd(network, products=products)
    if isinstance(network, PatchS4) and not isinstance(kernels := native_kernels(), Absent):
        return FoldedPatchS4(network, kernels, products=products)
    return None
