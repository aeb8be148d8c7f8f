"""How a network is told the noise level and the ECG statements."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


def step_embedding(step: Float[Tensor, "B"], features: int) -> Float[Tensor, "B features"]:
    """Sines and cosines of the diffusion step, frequencies exp(-ln(1e4) i / (features/2 - 1)).

    Source: SSSD-ECG's code; DiffWave (arXiv 2009.09761), section 3.1.
    """
    half = features // 2
    frequency = torch.exp(torch.arange(half, device=step.device) * (-math.log(10000) / (half - 1)))
    angle = step[:, None] * frequency.to(step.dtype)
    return torch.cat([torch.sin(angle), torch.cos(angle)], dim=1)


class StatementEmbedding(nn.Module):
    """y E with E of shape (K, features): statements add up, an absent one contributes nothing.

    Graded statements (values between 0 and 1) interpolate. Source: arXiv 2301.08227, section III.B.
    """

    def __init__(self, labels: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(labels, features))

    def forward(self, condition: Float[Tensor, "B K"]) -> Float[Tensor, "B features"]:
        """Embedding of a label vector."""
        return condition @ self.weight
