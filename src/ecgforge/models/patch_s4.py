"""PatchS4: our own denoiser. S4 layers over patches of time, told statements and patient facts.

A record of 1,000 samples is read as 250 patches of 4 samples of all leads; dense work is done a patch, so a call costs
a fraction of SSSD-ECG's. Each block mixes over time by a bidirectional S4 convolution and over features by a gated
linear layer and an MLP; the condition scales and shifts the normalised features of every block (adaptive layer norm,
arXiv 2212.09748, section 3.2). Where the beats are is told with the patches (see rhythm).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ecgforge.errors import ConfigError
from ecgforge.facts import FACTS, Fact
from ecgforge.models.conditioning import ConditionEmbedding
from ecgforge.models.rhythm import RhythmModel
from ecgforge.models.s4 import S4Convolution


@dataclass(frozen=True)
class PatchS4Config:
    """Size of the network.

    Attributes:
        kind: Key of models.NETWORKS.
        leads: C, channels in and out.
        length: L, samples per record the S4 kernels are made for; a multiple of `patch`.
        labels: K, statements of the condition.
        facts: Numbers that follow the statements in the condition (see Facts.encode); NaN where unknown.
        patch: Samples per patch.
        features: H, width of the residual stream.
        layers: Blocks.
        hidden: Width of the MLPs, in units of `features`.
        condition_features: Width of the embedded condition.
        state_size: N of the S4 layers.
        attention_every: Every how many blocks attention follows the S4 convolution; 0 for none. A convolution's
            kernel is the same for every record; attention lets a beat look at the other beats of its own.
        head: Features per attention head.

    Raises:
        ConfigError: a size is below 1, the length is no multiple of the patch, or the features no multiple of the head.
    """

    kind: Literal["patch-s4"] = "patch-s4"
    leads: int = 8
    length: int = 1000
    labels: int = 71
    facts: tuple[Fact, ...] = FACTS
    patch: int = 4
    features: int = 160
    layers: int = 8
    hidden: int = 2
    condition_features: int = 256
    state_size: int = 32
    attention_every: int = 0
    head: int = 32

    def __post_init__(self) -> None:
        sizes = (self.leads, self.length, self.labels, self.patch, self.features, self.layers, self.hidden)
        if min(*sizes, self.condition_features, self.state_size) < 1:
            raise ConfigError("expected network sizes of 1 or more")
        if self.length % self.patch:
            raise ConfigError(f"expected length a multiple of patch = {self.patch}, got {self.length}")
        fits = self.head >= 1 and self.features % self.head == 0 and self.head % 2 == 0
        if self.attention_every < 0 or (self.attention_every and not fits):
            raise ConfigError(
                f"expected attention_every of 0 or more and features a multiple of an even head = {self.head}, "
                f"got {self.attention_every} and {self.features}"
            )

    @property
    def columns(self) -> int:
        """Width of the condition: statements and facts."""
        return self.labels + len(self.facts)


_LONGEST = 256.0  # patches: the slowest pair turns by 1 within about a record
_REACHES = (4.0, 16.0, 64.0)  # samples: within the QRS complex, up to the P and T waves, between beats at 100 Hz


class LevelEmbedding(nn.Module):
    """Noise level as random Fourier features and an MLP. Source: arXiv 2206.00364, appendix F.1 (fourier)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.frequency: Tensor
        self.register_buffer("frequency", torch.randn(features // 2) * 2 * math.pi)
        self.hidden = nn.Linear(features // 2 * 2, features)
        self.output = nn.Linear(features, features)

    def forward(self, level: Float[Tensor, " B"]) -> Float[Tensor, "B F"]:
        """Embedding of the level, a number of order 1."""
        angle = level[:, None] * self.frequency
        h = torch.cat([angle.cos(), angle.sin()], dim=1)
        return self.output(nn.functional.silu(self.hidden(h)))


class BeatEmbedding(nn.Module):
    """Where the beats are, for each patch: R peaks within it, how far the last one lies behind and the next one ahead.

    Distances d are told as exp(-d / reach), which is 0 where there is no such beat; starts at zero.
    """

    def __init__(self, patch: int, features: int) -> None:
        super().__init__()
        self.patch = patch
        self.hidden = nn.Linear(patch + 2 * len(_REACHES) + 1, features)
        self.output = nn.Linear(features, features)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, beats: Float[Tensor, "B L"]) -> Float[Tensor, "B P F"]:
        """Embedding of beats, 1 at each R peak and 0 elsewhere; NaN where nothing is known of them."""
        known = (~beats.isnan()).to(beats.dtype)
        marks = beats.nan_to_num(0.0)
        near = torch.cat([_nearness(_since(marks)), _nearness(_since(marks.flip(1)).flip(1))], dim=2)
        parts = [marks.unflatten(1, (-1, self.patch)), near[:, :: self.patch], known[:, :: self.patch, None]]
        return self.output(nn.functional.silu(self.hidden(torch.cat(parts, dim=2))))


def _since(marks: Float[Tensor, "B L"]) -> Float[Tensor, "B L"]:
    """Samples since the last mark, 0 at a mark, infinite before the first."""
    place = torch.arange(marks.shape[1], device=marks.device, dtype=marks.dtype)
    last = torch.where(marks > 0, place, -math.inf).cummax(dim=1).values
    return place - last


def _nearness(distance: Float[Tensor, "B L"]) -> Float[Tensor, "B L reaches"]:
    reaches = torch.tensor(_REACHES, device=distance.device, dtype=distance.dtype)
    return torch.exp(-distance[:, :, None] / reaches)


def modulate(x: Float[Tensor, "B L H"], shift: Float[Tensor, "B 1 H"], scale: Float[Tensor, "B 1 H"]) -> Tensor:
    """Adaptive layer norm: normalised features, scaled and shifted by the condition."""
    return torch.addcmul(shift, nn.functional.layer_norm(x, x.shape[-1:]), 1 + scale)


def rotate(x: Float[Tensor, "B L P H D"]) -> Float[Tensor, "B L P H D"]:
    """Turn each pair of a head's features by an angle that grows with the patch's number.

    The product of a query and a key then depends on how many patches lie between them: what attention needs to see
    a beat's distance to the one before.

    Source: rotary position embedding, arXiv 2104.09864, equation (34); the wavelengths span a record of 250 patches.
    """
    angle = turning_angles(x.shape[1], x.shape[-1] // 2, like=x)[:, None, None]
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def turning_angles(patches: int, pairs: int, *, like: Tensor) -> Float[Tensor, "P pairs"]:
    """The angle of every pair of features at every patch, on the device of `like`, in float32 at the least.

    In bfloat16 the number of a late patch is off by one, and so is the angle.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    speed = _LONGEST ** -(torch.arange(pairs, device=like.device, dtype=dtype) / pairs)
    return torch.arange(patches, device=like.device, dtype=dtype)[:, None] * speed


def attend(query: Float[Tensor, "B H L D"], key: Float[Tensor, "B H L D"], value: Float[Tensor, "B H L D"]) -> Tensor:
    """Values weighted by the softmax of query times key / sqrt(D).

    PyTorch's fused kernel, but for a training in bfloat16 on a CPU: there plain products take half its time, backward
    included. Source: arXiv 1706.03762, equation (1).
    """
    if query.requires_grad and query.dtype == torch.bfloat16 and query.device.type == "cpu":
        likeness = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
        return likeness.softmax(dim=-1) @ value
    return nn.functional.scaled_dot_product_attention(query, key, value)


class Attention(nn.Module):
    """Multi-head attention over all patches, by content and distance.

    Source: arXiv 1706.03762, section 3.2.
    """

    def __init__(self, features: int, *, head: int) -> None:
        super().__init__()
        self.head = head
        self.input = nn.Linear(features, 3 * features)
        self.output = nn.Linear(features, features)

    def forward(self, x: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
        """What each patch gathers from all."""
        projected = self.input(x).unflatten(2, (3, -1, self.head))
        query, key = rotate(projected[:, :, :2]).transpose(1, 3).unbind(2)
        gathered = attend(query, key, projected[:, :, 2].transpose(1, 2))
        return self.output(gathered.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Time mixing by S4 (and attention), then an MLP, all residual, modulated and gated; starts as the identity."""

    def __init__(self, config: PatchS4Config, *, attends: bool) -> None:
        super().__init__()
        features, hidden = config.features, config.hidden * config.features
        self.attention = Attention(features, head=config.head) if attends else None
        self.modulation = nn.Linear(config.condition_features, (9 if attends else 6) * features)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.time = S4Convolution(features, state_size=config.state_size, length=config.length // config.patch)
        self.mix = nn.Linear(features, 2 * features)
        self.hidden = nn.Linear(features, hidden)
        self.output = nn.Linear(hidden, features)

    def forward(self, x: Float[Tensor, "B L H"], condition: Float[Tensor, "B F"]) -> Float[Tensor, "B L H"]:
        """The next residual stream."""
        parts = iter(self.modulation(condition)[:, None].split(x.shape[2], dim=2))
        shift, scale, gate = next(parts), next(parts), next(parts)
        h = nn.functional.gelu(self.time.convolve(modulate(x, shift, scale)))
        x = torch.addcmul(x, gate, nn.functional.glu(self.mix(h), dim=2))
        if self.attention is not None:
            shift, scale, gate = next(parts), next(parts), next(parts)
            x = torch.addcmul(x, gate, self.attention(modulate(x, shift, scale)))
        shift, scale, gate = next(parts), next(parts), next(parts)
        h = nn.functional.gelu(self.hidden(modulate(x, shift, scale)))
        return torch.addcmul(x, gate, self.output(h))


class PatchS4(nn.Module):
    """F(x, level, condition): what it means is the denoiser's business (see diffusion.denoiser)."""

    config_class = PatchS4Config

    def __init__(self, config: PatchS4Config) -> None:
        super().__init__()
        self.config = config
        width = config.leads * config.patch
        self.input = nn.Linear(width, config.features)
        self.beats = BeatEmbedding(config.patch, config.features)
        self.level = LevelEmbedding(config.condition_features)
        self.statements = ConditionEmbedding(config.columns, config.condition_features)
        every = config.attention_every
        self.blocks = nn.ModuleList(
            Block(config, attends=bool(every) and number % every == every - 1) for number in range(config.layers)
        )
        self.modulation = nn.Linear(config.condition_features, 2 * config.features)
        self.output = nn.Linear(config.features, width)
        for layer in (self.modulation, self.output):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        # Part of the model, but no denoiser: it is fitted by itself (training.rhythm).
        self.rhythm = RhythmModel(config.columns).requires_grad_(False)

    def forward(
        self,
        x: Float[Tensor, "B C L"],
        level: Float[Tensor, " B"],
        condition: Float[Tensor, "B K"],
        beats: Float[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B C L"]:
        """One call.

        Args:
            x: Noisy signal of about unit variance per lead; L a multiple of the patch, at most `length`.
            level: Noise level, a number of order 1.
            condition: Statements, then facts; NaN where unknown.
            beats: 1 at each R peak, 0 elsewhere; NaN, or None for all records, where nothing is known of them.

        Raises:
            ConfigError: L is no multiple of the patch, or above the length.
        """
        patch, samples = self.config.patch, x.shape[2]
        if samples % patch:
            raise ConfigError(f"expected a number of samples divisible by {patch}, the patch, got {samples}")
        beats = torch.full_like(x[:, 0], torch.nan) if beats is None else beats
        # Where a training rounds products to bfloat16, the ways in and out keep their digits.
        with torch.autocast(x.device.type, enabled=False):
            embedded = nn.functional.silu(self.level(level) + self.statements(condition))
            h = self.input(x.unflatten(2, (-1, patch)).permute(0, 2, 1, 3).flatten(2)) + self.beats(beats)
        for block in self.blocks:
            h = block(h, embedded)
        with torch.autocast(x.device.type, enabled=False):
            shift, scale = self.modulation(embedded)[:, None].chunk(2, dim=2)
            patches = self.output(modulate(h, shift, scale))
        return patches.unflatten(2, (-1, patch)).permute(0, 2, 1, 3).flatten(2)
