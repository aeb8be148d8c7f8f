"""How a network is told the noise level and the ECG statements."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


def step_embedding(step: Float[Tensor, " B"], features: int) -> Float[Tensor, "B features"]:
    """Sines and cosines of the diffusion step, frequencies exp(-ln(1e4) i / (features/2 - 1)).

    Source: SSSD-ECG's code; DiffWave (arXiv 2009.09761), section 3.1.
    """
    half = features // 2
    frequency = torch.exp(torch.arange(half, device=step.device) * (-math.log(10000) / (half - 1)))
    angle = step[:, None] * frequency.to(step.dtype)
    return torch.cat([torch.sin(angle), torch.cos(angle)], dim=1)


class StatementEmbedding(nn.Module):
    """y E with E of shape (K, features): statements add up, an absent one contributes nothing.

    Graded statements (values between 0 and 1) interpolate. An unknown one (NaN) contributes nothing either: this
    embedding cannot tell absent and unknown apart. Source: arXiv 2301.08227, section III.B.
    """

    def __init__(self, labels: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(labels, features))

    def forward(self, condition: Float[Tensor, "B K"]) -> Float[Tensor, "B features"]:
        """Embedding of a label vector."""
        return condition.masked_fill(condition.isnan(), 0.0) @ self.weight


class StatementTables(nn.Module):
    """Per statement a row for absent, present and unknown; the K rows are mixed by one scalar each, plus a bias.

    A statement of grade a between 0 and 1 looks up (1 - a) absent + a present, the row itself at 0 and 1. With one
    statement there is nothing to mix and its row is the embedding.

    Unknown (NaN in the condition) is an extension: the middle of both rows plus a learned shift. The shift starts at
    zero, and is zero in a checkpoint of the original, which has no such row. So a network that never saw an unknown
    statement takes it as one of grade 0.5, favouring neither answer. A row of zeros would not do: where the present
    row is frozen at zero, unknown would mean present.

    Parameters: `absent`, `present`, `unknown_shift` (K, features), `mix` (K to 1, without it for K = 1).

    Args:
        labels: K.
        features: Size of the embedding.
        learn_present: False reproduces the released code, where a padding index keeps the present rows at zero and
            only absence is learned, a mirror image of SSSD-ECG. True is what the paper describes. Unknown is learned
            in both.

    Source: SSSD-ECG-nle (arXiv 2407.11108) and its code; the graded look-up and unknown are ours.
    """

    def __init__(self, labels: int, features: int, *, learn_present: bool) -> None:
        super().__init__()
        self.absent = nn.Parameter(torch.randn(labels, features))
        if learn_present:
            self.present: Tensor = nn.Parameter(torch.randn(labels, features))
        else:
            self.register_buffer("present", torch.zeros(labels, features))
        self.unknown_shift = nn.Parameter(torch.zeros(labels, features))
        self.mix = nn.Linear(labels, 1) if labels > 1 else None

    def forward(self, condition: Float[Tensor, "B K"]) -> Float[Tensor, "B features"]:
        """Embedding of a label vector, NaN where unknown."""
        unknown = condition.isnan()
        grade = condition.masked_fill(unknown, 0.5)[..., None]
        rows = (1 - grade) * self.absent + grade * self.present + unknown[..., None] * self.unknown_shift
        if self.mix is None:
            return rows[:, 0]
        return self.mix(rows.transpose(1, 2))[..., 0]


class ConditionEmbedding(nn.Module):
    """Statements and facts, each known or not: sum over columns of value x row, or the column's row for unknown.

    An absent statement contributes its own row too, so that "absent" is a statement of its own and differs from
    "unknown" (the concern of arXiv 2407.11108).
    """

    def __init__(self, columns: int, features: int) -> None:
        super().__init__()
        scale = 1 / math.sqrt(columns)
        self.value = nn.Parameter(torch.randn(columns, features) * scale)
        self.known = nn.Parameter(torch.zeros(columns, features))

    def forward(self, condition: Float[Tensor, "B K"]) -> Float[Tensor, "B F"]:
        """Embedding of the condition, NaN where unknown."""
        unknown = condition.isnan()
        value = condition.masked_fill(unknown, 0.0)
        return value @ self.value + (~unknown).to(value.dtype) @ self.known
