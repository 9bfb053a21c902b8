import pytest
import torch

from tadp.kernels.values import Codes
from tadp.passes import calls_in, quantize
from tadp.precision import Recipe
from tests.models import tiny_inputs, tiny_transformer
from tests.passes.capture import pieces_of

pytestmark = pytest.mark.compiles

CPU = torch.device("cpu")


def test_calls_of_a_block_in_their_order_and_shapes() -> None:
    found, _ = pieces_of(tiny_transformer(2), tiny_inputs())
    block = next(piece for piece in found.pieces if piece.block)
    recipe = Recipe.parse("6+attention:8+ffn.up:w4a16")
    calls = calls_in(quantize(block.graph, recipe).graph, CPU)
    operators = [call.operator for call in calls]
    assert operators.count("attention") == 2
    assert operators.count("linear") == 9
    assert operators.count("weight_only_linear") == 1

    first = next(call for call in calls if call.operator == "linear")
    codes, planes, epilogue = first.values
    assert isinstance(codes, Codes)
    assert codes.codes.shape == (1, 192, 64)
    assert (planes.width, planes.rows, epilogue.dtype) == (6, 64, torch.bfloat16)
    up = next(call for call in calls if call.operator == "weight_only_linear")
    assert up.values[1].width == 4
    assert up.values[2].nonlinearity == "gelu_tanh"
    q, k, v, mask, scale = next(call for call in calls if call.operator == "attention").values
    assert q.shape == k.shape == v.shape == (1, 2, 192, 32)
    assert not q.is_contiguous()  # as the model lays heads out
    assert (mask, scale) == (None, None)
    assert all(tensor.is_meta for call in calls for tensor in (call.values[0][0], call.values[1][0]))

    on_gpu = first.on_gpu(torch.float16)
    assert on_gpu.values[2].dtype == torch.float16
    assert on_gpu.values[1].scale.dtype == torch.float32
    request = on_gpu.request("cuda", "sm_90")
    assert (request.tokens, request.dtype, request.architecture) == (192, torch.float16, "sm_90")
    assert up.on_gpu(torch.float16).values[0].dtype == torch.float16


def test_a_graph_without_operators_is_not_run() -> None:
    found, _ = pieces_of(tiny_transformer(2), tiny_inputs())
    block = next(piece for piece in found.pieces if piece.block)
    assert calls_in(quantize(block.graph, Recipe()).graph, CPU) == ()
