import pytest
import torch

from tests.models import tiny_inputs, tiny_transformer
from tests.passes.capture import pieces_of, run_pieces

pytestmark = pytest.mark.compiles


def test_blocks_share_one_structure_and_pieces_compute_what_the_model_does() -> None:
    model, inputs = tiny_transformer(), tiny_inputs()
    found, arguments = pieces_of(model, inputs)
    assert [piece.name for piece in found.pieces] == ["before", *(f"blocks.{i}" for i in range(4)), "after"]
    assert len({piece.structure for piece in found.pieces if piece.block}) == 1
    with torch.no_grad():
        torch.testing.assert_close(run_pieces(found, arguments), model(**inputs), rtol=0, atol=0)


def test_structures_tell_shapes_apart() -> None:
    model = tiny_transformer()
    one, _ = pieces_of(model, tiny_inputs(batch=1))
    two, _ = pieces_of(model, tiny_inputs(batch=2))
    assert one.pieces[1].structure != two.pieces[1].structure


def test_values_are_let_go_once_nothing_reads_them() -> None:
    found, _ = pieces_of(tiny_transformer(), tiny_inputs())
    written = {slot for piece in found.pieces for slot in piece.outputs}
    freed = {slot for piece in found.pieces for slot in piece.dead}
    assert len(written - freed) == 1  # all but the result


class _TwoKinds(torch.nn.Module):
    """Double-stream blocks, then single-stream ones, and a step between blocks that belongs to neither."""

    def __init__(self) -> None:
        super().__init__()
        self.double_blocks = torch.nn.ModuleList(_Mlp(32, 64) for _ in range(2))
        self.single_blocks = torch.nn.ModuleList(_Mlp(32, 128) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = x.chunk(2, dim=1)
        for block in self.double_blocks:
            left, right = block(left), block(right)
        x = torch.cat([left, right], dim=1) * 2
        for block in self.single_blocks:
            x = block(x)
        return x


class _Mlp(torch.nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = torch.nn.Linear(width, hidden)
        self.down = torch.nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.nn.functional.gelu(self.up(x)))


def test_two_kinds_of_blocks_give_two_structures() -> None:
    torch.manual_seed(0)
    model, inputs = _TwoKinds(), {"x": torch.randn(2, 8, 32)}
    found, arguments = pieces_of(model, inputs)
    structures = {piece.block: piece.structure for piece in found.pieces if piece.block}
    assert structures["double_blocks.0"] == structures["double_blocks.1"]
    assert structures["single_blocks.0"] == structures["single_blocks.1"] == structures["single_blocks.2"]
    assert structures["double_blocks.0"] != structures["single_blocks.0"]
    with torch.no_grad():
        torch.testing.assert_close(run_pieces(found, arguments)[0], model(**inputs))
