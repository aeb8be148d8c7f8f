"""Products of folded networks: exact in their own number format, rounded as bfloat16 rounds in the other."""

import pytest
import torch

from ecgforge.models.folded.products import add_product, multiply

EPS = 2.0**-8  # the largest relative error of rounding to bfloat16


@pytest.mark.parametrize("shape", [(7, 5, 3), (2, 7, 5, 3)], ids=["one product", "batch of products"])
def test_bfloat16_rounds_operands_and_product(shape: tuple[int, ...]) -> None:
    *batch, rows, inner, columns = shape
    x, weight = torch.randn(*batch, rows, inner), torch.randn(*batch, inner, columns).bfloat16()
    y = multiply(x, weight, out=torch.empty(*batch, rows, columns))
    exact = x.bfloat16().double() @ weight.double()
    assert y.dtype == torch.float32
    assert ((y - exact).abs() <= EPS * exact.abs() + 1e-6).all()
    assert not torch.equal(y.double(), exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_products_are_plain(dtype: torch.dtype) -> None:
    x, weight, bias = torch.randn(6, 4, dtype=dtype), torch.randn(4, 3, dtype=dtype), torch.randn(3, dtype=dtype)
    y = multiply(x, weight, out=torch.empty(6, 3, dtype=dtype), bias=bias)
    torch.testing.assert_close(y, x @ weight + bias)
    torch.testing.assert_close(add_product(x, weight, to=y.clone()), y + x @ weight)


def test_sums_stay_float32() -> None:
    """Adding a bfloat16 product to a number does not round the number."""
    total = torch.tensor([[1 + 2.0**-20]])
    add_product(torch.tensor([[0.5]]), torch.tensor([[1.0]]).bfloat16(), to=total)
    assert float(total) == 1.5 + 2.0**-20
    y = multiply(torch.tensor([[0.5]]), torch.ones(1, 1).bfloat16(), out=total, bias=torch.tensor([2.0**-20]))
    assert float(y) == 0.5 + 2.0**-20
