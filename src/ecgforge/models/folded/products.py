"""Matrix products of folded networks: operands in float32, or both rounded to bfloat16.

Bfloat16 halves the time of a product on processors with instructions for it. A product is then bfloat16 as well; what
it is added to, norms, convolutions and gates stay float32.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def multiply(
    x: Float[Tensor, "... L in"],
    weight: Float[Tensor, " ... in out"],
    *,
    out: Float[Tensor, "... L out"],
    bias: Float[Tensor, " out"] | None = None,
) -> Tensor:
    """out = x W + bias; x is rounded to the weight's number format."""
    if weight.dtype != x.dtype:
        out.copy_(x.to(weight.dtype) @ weight)
        return out if bias is None else out.add_(bias)
    return torch.matmul(x, weight, out=out) if bias is None else torch.addmm(bias, x, weight, out=out)


def add_product(x: Float[Tensor, "L in"], weight: Float[Tensor, "in out"], *, to: Float[Tensor, "L out"]) -> Tensor:
    """to += x W; x is rounded to the weight's number format."""
    return to.addmm_(x, weight) if weight.dtype == x.dtype else to.add_(x.to(weight.dtype) @ weight)
