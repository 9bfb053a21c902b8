"""A block of Wan2.1-14B whose tensors have shapes and types and no memory, captured as a compiled model's is."""

from collections.abc import Callable

import torch
from diffusers import WanTransformer3DModel

from tadp.compiler.capture import Capture
from tadp.families import family_of
from tadp.kernels.bitplanes import BitPlaneWeight
from tadp.kernels.formats import PLANE_BITS
from tadp.kernels.planes import plane_shape
from tadp.passes.partition import Partition, Piece
from tadp.runtime.pool import WeightPool

FRAMES, HEIGHT, WIDTH = 4, 32, 32
"""Of the clip, in tokens."""

TEXT_TOKENS, TEXT_WIDTH = 512, 4096


class _Captured(Exception):
    """Ends a forward: the tensors have no memory, so nothing can run."""


class _Recorder:
    """Stands for a controller."""

    def __init__(self, blocks: tuple[str, ...]) -> None:
        self.blocks = blocks
        self.pieces: tuple[Piece, ...] = ()

    def attach(self, partition: Partition) -> Callable[..., object]:
        self.pieces = partition.pieces
        return _stop


def _stop(*arguments: object) -> object:
    raise _Captured


def captured_block(device: torch.device) -> tuple[Piece, ...]:
    """The pieces of the first block of a transformer of Wan2.1-14B; call it under a FakeTensorMode."""
    with device:
        model = WanTransformer3DModel(num_layers=1).eval()
        in_16_bits(model)
        weights = pack(model)
        latents = torch.empty(1, 16, FRAMES, 2 * HEIGHT, 2 * WIDTH, dtype=torch.bfloat16)
        text = torch.empty(1, TEXT_TOKENS, TEXT_WIDTH, dtype=torch.bfloat16)
        timestep = torch.empty(1, dtype=torch.int64)
    recorder = _Recorder(("blocks.0",))
    pool = WeightPool(BitPlaneWeight.from_hp)
    pool.adopt(weights, None)  # type: ignore[arg-type]  # nothing runs, so nothing asks for masters
    capture = Capture(recorder, pool, family_of(model), {})  # type: ignore[arg-type]
    model.blocks[0].compile(backend=capture, dynamic=False)
    try:
        model(latents, timestep, text)
    except _Captured:
        return recorder.pieces
    raise AssertionError("the forward ended without a captured block")


def in_16_bits(model: torch.nn.Module) -> None:
    """Give parameters the types that diffusers loads them in: bfloat16, but float32 for those that it keeps in it."""
    kept = set(model._keep_in_fp32_modules)
    for path, module in model.named_modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None and kept.isdisjoint([*path.split("."), name]):
                module._parameters[name] = torch.nn.Parameter(parameter.detach().bfloat16(), requires_grad=False)


def pack(model: torch.nn.Module) -> list[tuple[str, str, BitPlaneWeight]]:
    """Put planes without memory in the place of the weights of the block; block, layer and weight of each."""
    found = []
    for path, module in model.blocks.named_modules():
        if isinstance(module, torch.nn.Linear):
            rows, columns = module.weight.shape
            planes = (torch.empty(plane_shape(plane, rows, columns), dtype=torch.uint8) for plane in PLANE_BITS)
            weight = BitPlaneWeight(*planes, torch.empty(rows, dtype=torch.float32), columns, torch.bfloat16)
            module.weight = torch.nn.Parameter(weight, requires_grad=False)
            found.append(("blocks.0", f"blocks.{path}", module.weight))
    return found
