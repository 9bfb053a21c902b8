import pytest
import torch
from torch import nn

from tadp.calibration.recording import Step
from tadp.calibration.rotation import LEAST_GAIN, roles_that_gain, rotation_gains
from tadp.precision import Role


class _Block(nn.Module):
    """A layer that sees outliers, one that does not, one whose columns no rotation divides, and one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.spiky, self.even, self.odd, self.idle = (nn.Linear(size, 32) for size in (256, 256, 96, 256))

    def forward(self, spiky: torch.Tensor, even: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.spiky(spiky) + self.even(even) + self.odd(even[..., :96])
        return result


@pytest.fixture
def gains() -> dict[str, float]:
    torch.manual_seed(0)
    block = _Block()
    even = torch.randn(1, 600, 256)
    spiky = torch.randn(1, 600, 256)
    spiky[..., 7] *= 60
    steps = [Step(0.5, {"cond": {"spiky": spiky, "even": even}, "uncond": {"spiky": even, "even": even}})]
    layers = {name: module for name, module in block.named_children() if isinstance(module, nn.Linear)}
    return rotation_gains(block, layers, steps)


def test_outliers_are_what_makes_a_rotation_gain(gains: dict[str, float]) -> None:
    assert gains["spiky"] > 6
    assert gains["even"] < LEAST_GAIN  # weights of a new layer are uniform, which nothing improves
    assert set(gains) == {"spiky", "even"}


def test_a_role_gains_where_its_median_layer_does() -> None:
    gains = {"a.down": 3.0, "b.down": 0.0, "c.down": 2.0, "a.up": 9.0, "b.up": 0.0, "c.up": 0.5, "a.q": LEAST_GAIN}
    roles = {
        name: {"down": Role.FFN_DOWN, "up": Role.FFN_UP, "q": Role.CROSS_ATTN_Q}[name.split(".")[1]] for name in gains
    }
    assert roles_that_gain(gains, roles) == (Role.CROSS_ATTN_Q, Role.FFN_DOWN)
    assert roles_that_gain({}, roles) == ()
