"""Convolutions as matrix products and as short kernels, against PyTorch's, values and both derivatives."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ecgforge.models.convolution import conv1d, upsampled_conv1d

RECORDS, INPUTS, OUTPUTS = 3, 4, 5

Convolution = Callable[[Tensor, Tensor, Tensor], Tensor]


def first_and_second_derivatives(convolve: Convolution, samples: int, taps: int) -> list[Tensor]:
    stream = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=stream, dtype=torch.float64).requires_grad_()

    x, weight, bias = draw(RECORDS, INPUTS, samples), draw(OUTPUTS, INPUTS, taps), draw(OUTPUTS)
    y = convolve(x, weight, bias)
    first = torch.autograd.grad(y.pow(3).sum(), (x, weight, bias), create_graph=True)
    second = torch.autograd.grad(first[0].pow(2).sum(), (x, weight, bias))
    return [y, *first, *second]


def assert_same(one: Convolution, other: Convolution, samples: int, taps: int) -> None:
    torch.testing.assert_close(
        first_and_second_derivatives(one, samples, taps), first_and_second_derivatives(other, samples, taps)
    )


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("samples", [6, 15, 61])  # 6 and 15 go through the matrix product
def test_a_convolution_is_that_of_pytorch(samples: int, stride: int) -> None:
    assert_same(
        lambda x, weight, bias: conv1d(x, weight, bias, stride=stride, padding=11),
        lambda x, weight, bias: functional.conv1d(x, weight, bias, stride=stride, padding=11),
        samples,
        taps=25,
    )


@pytest.mark.parametrize("scale", [1, 2, 5])
@pytest.mark.parametrize("taps", [1, 3, 25])
@pytest.mark.parametrize("samples", [1, 2, 40])
def test_upsampling_and_convolution_in_one(samples: int, taps: int, scale: int) -> None:
    assert_same(
        lambda x, weight, bias: upsampled_conv1d(x, weight, bias, scale=scale),
        lambda x, weight, bias: functional.conv1d(x.repeat_interleave(scale, dim=2), weight, bias, padding=taps // 2),
        samples,
        taps,
    )
