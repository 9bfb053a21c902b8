"""What bench.kernels.planes measures holds for other weights of its distributions as well."""

import pytest
import torch

from bench.kernels.planes import DISTRIBUTIONS, WIDTHS, rounded_alone, signal_to_noise
from tadp.kernels import BitPlaneWeight


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_nesting_costs_no_quality(width: int, name: str) -> None:
    weight = DISTRIBUTIONS[name](torch.Generator().manual_seed(1))
    nested = signal_to_noise(weight, BitPlaneWeight.from_hp(weight).dequantize(width))
    assert nested >= signal_to_noise(weight, rounded_alone(weight, width)) - 0.2
