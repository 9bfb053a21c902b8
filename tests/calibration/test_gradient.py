import pytest
import torch

from tadp.calibration.gradient import estimate
from tadp.kernels.bitplanes import BitPlaneWeight


class Net(torch.nn.Module):
    """One layer, then a fixed linear map of it: the first order is exact."""

    def __init__(self, columns: int = 32, rows: int = 24) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(columns, rows)
        self.unused = torch.nn.Linear(columns, rows)
        self.mix = torch.randn(rows, 6)
        self.requires_grad_(False)

    def forward(self, hidden_states: torch.Tensor, scale: float = 1.0) -> tuple[torch.Tensor]:
        return (scale * self.layer(hidden_states) @ self.mix,)


def test_the_estimate_is_the_squared_error_on_average_over_directions() -> None:
    net, x = Net(), torch.randn(1, 40, 32, generator=torch.Generator().manual_seed(1))
    layers = {"layer": net.layer}
    draws = [
        estimate(net, layers, {"hidden_states": x}, (4,), torch.Generator().manual_seed(seed))["layer"][4].whole
        for seed in range(64)
    ]
    exact = net.layer(x) @ net.mix
    quantized = BitPlaneWeight.from_hp(net.layer.weight).linear(x, net.layer.bias, 4) @ net.mix
    error = (quantized - exact).square().sum() / exact.square().sum()
    # 40 tokens and 64 draws of a chi-square of 6 unequal parts: a standard error of at most sqrt(2 / 2560) = 2.8 %
    assert sum(draws) / len(draws) == pytest.approx(error.item(), rel=0.12)


def test_narrower_widths_cost_more() -> None:
    net, x = Net(), torch.randn(1, 40, 32)
    found = estimate(net, {"layer": net.layer}, {"hidden_states": x, "scale": 2.0})["layer"]
    assert found[4].whole > found[6].whole > found[8].whole > 0
    assert (found[4].channels > found[8].channels).all()


def test_a_channel_is_as_important_as_what_reads_it() -> None:
    net, x = Net(), torch.randn(1, 4000, 32, generator=torch.Generator().manual_seed(1))
    net.mix[:12] *= 10  # the first half of the channels counts a hundred times as much
    found = estimate(net, {"layer": net.layer}, {"hidden_states": x}, (6,))["layer"][6].channels
    assert found.shape == (24,)
    assert found[:12].min() > found[12:].max()


def test_layers_that_do_not_run_are_left_out_and_nothing_stays_behind() -> None:
    net = Net()
    found = estimate(net, {"layer": net.layer, "unused": net.unused}, {"hidden_states": torch.randn(1, 4, 32)})
    assert set(found) == {"layer"}
    assert not net.layer._forward_hooks
    assert net.layer.weight.grad is None
    assert not net.layer.weight.requires_grad


def test_a_model_without_a_prediction_is_refused() -> None:
    class Silent(Net):
        def forward(self, hidden_states: torch.Tensor, scale: float = 1.0) -> tuple[torch.Tensor]:
            return ()  # type: ignore[return-value]

    with pytest.raises(ValueError, match="no prediction"):
        estimate(Silent(), {}, {"hidden_states": torch.randn(1, 4, 32)})
