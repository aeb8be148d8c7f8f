"""Attention of PatchS4: what it depends on."""

import pytest
import torch

from ecgforge.errors import ConfigError
from ecgforge.models.patch_s4 import Attention, PatchS4Config, attend, rotate


def test_a_product_of_rotated_features_depends_on_their_distance_only() -> None:
    torch.manual_seed(0)
    pair = torch.randn(1, 1, 2, 1, 32, dtype=torch.float64).expand(1, 250, 2, 1, 32)
    query, key = rotate(pair)[0, :, :, 0].unbind(1)
    products = query @ key.T
    for distance in (0, 1, 40, 200):
        along = torch.diagonal(products, distance)
        torch.testing.assert_close(along, along[:1].expand_as(along))
    torch.testing.assert_close(products[0, 0], pair[0, 0, 0, 0] @ pair[0, 0, 1, 0])
    assert products[0].std() > 0.1


def test_rotation_keeps_lengths_and_does_nothing_to_the_first_patch() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 30, 2, 3, 8, dtype=torch.float64)
    turned = rotate(x)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(turned[:, 0], x[:, 0])


def test_attention_equals_the_textbook_formula() -> None:
    torch.manual_seed(0)
    attention = Attention(16, head=8).double()
    x = torch.randn(2, 12, 16, dtype=torch.float64)
    parts = attention.input(x).unflatten(2, (3, 2, 8))
    turned = rotate(parts)
    heads = []
    for head in range(2):
        scores = torch.einsum("bld,bmd->blm", turned[:, :, 0, head], turned[:, :, 1, head]) / 8**0.5
        heads.append(scores.softmax(dim=2) @ parts[:, :, 2, head])
    torch.testing.assert_close(attention(x), attention.output(torch.cat(heads, dim=2)))


def test_angles_do_not_suffer_from_bfloat16() -> None:
    """The last of 250 patches has turned by 249 radians; rounded to bfloat16 that would be 248 or 250."""
    x = torch.randn(1, 250, 1, 1, 8, generator=torch.Generator().manual_seed(0))
    rounded = rotate(x.bfloat16()).float()
    assert float((rounded - rotate(x)).abs().max()) < 0.03 * float(x.abs().max())


@pytest.mark.parametrize(
    "sizes", [{"features": 24, "head": 16}, {"features": 21, "head": 7}, {"head": 0}, {"head": -32}]
)
def test_heads_must_fit(sizes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="multiple of an even head"):
        PatchS4Config(attention_every=2, **sizes)


def test_attention_trained_in_bfloat16_is_the_fused_one_rounded() -> None:
    """Values and derivatives are those of float64 but for three digits, which is what bfloat16 has."""
    parts = torch.randn(3, 2, 4, 50, 8, generator=torch.Generator().manual_seed(0))
    slope = torch.randn(2, 4, 50, 8, generator=torch.Generator().manual_seed(1))

    def values_and_slopes(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = parts.bfloat16().to(dtype).requires_grad_()
        values = attend(*inputs.unbind())
        return values.detach().double(), torch.autograd.grad(values, inputs, slope.to(dtype))[0].double()

    for rounded, exact in zip(values_and_slopes(torch.bfloat16), values_and_slopes(torch.float64), strict=True):
        assert 1e-4 < float((rounded - exact).norm() / exact.norm()) < 0.02
