"""Conditional batch normalisation: how the GAN baselines are told the ECG statements."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ConditionalBatchNorm(nn.Module):
    """Batch normalisation whose scale and shift are the two halves of y E, E of shape (K, 2 H).

    Statements add up, in the scale as well: each starts with a scale of about 1, so that a record with three
    statements starts with a scale of about 3, and one without any statement comes out as zero.

    Source: arXiv 2301.08227 and the authors' code; de Vries et al. 2017 (arXiv 1707.00683).
    """

    def __init__(self, labels: int, features: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(features, affine=False)
        scale = 1 + 0.02 * torch.randn(labels, features)
        self.weight = nn.Parameter(torch.cat([scale, torch.zeros(labels, features)], dim=1))

    def forward(self, x: Float[Tensor, "B H L"], condition: Float[Tensor, "B K"]) -> Float[Tensor, "B H L"]:
        """Normalised by the batch's statistics in training, by the running ones in evaluation; scaled and shifted."""
        scale, shift = (condition @ self.weight)[:, :, None].chunk(2, dim=1)
        return self.norm(x) * scale + shift
