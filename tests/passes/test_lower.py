import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from tadp.kernels import reference
from tadp.passes.lower import decompositions
from tests.kernels.cases import tokens_with_outliers

QUANTIZE = torch.ops.tadp.quantize.default


def quantized_norm(x: torch.Tensor, groups: int) -> tuple[torch.Tensor, ...]:
    return torch.ops.tadp.quantize(torch.nn.functional.layer_norm(x, x.shape[-1:]), groups)


@pytest.mark.parametrize("groups", [0, 2])
@pytest.mark.parametrize(("device", "apart"), [("cpu", False), ("cuda", True)])
def test_the_quantizer_is_taken_apart_on_gpus_only(device: str, apart: bool, groups: int) -> None:
    with FakeTensorMode():
        x = torch.empty(6, 128)
        graph = make_fx(quantized_norm, decomposition_table=decompositions(torch.device(device)))(x, groups)
    targets = [node.target for node in graph.graph.nodes]
    assert (QUANTIZE not in targets) == apart


@pytest.mark.parametrize("groups", [0, 1])
def test_inductor_compiles_it_to_codes_that_are_off_by_one_at_ties_only(groups: int) -> None:
    """Inductor may divide and multiply in another way, so a value within a rounding of a tie may go either way."""
    x = tokens_with_outliers(0, (7, 64), torch.bfloat16)
    codes, scale, total = torch.ops.tadp.quantize(x, groups)
    found = torch.compile(reference.quantize, fullgraph=True)(x, groups)
    steps = 127 * x.double() / x.double().abs().amax(-1, keepdim=True)
    at_tie = ((steps.abs() % 1 - 0.5).abs() < 4 * 127 * 2.0**-24) & steps.isfinite()
    assert (found[0] == codes)[~at_tie].all()
    assert (found[0].int() - codes.int()).abs().max() <= 1
    torch.testing.assert_close(found[1], scale, rtol=2.0**-22, atol=0)
    assert torch.equal(found[2], reference.sum_codes(found[0], groups))
    assert found[2].shape == total.shape
