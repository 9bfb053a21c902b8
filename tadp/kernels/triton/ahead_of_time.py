"""The Triton kernels of a model, compiled into Triton's cache on disk for a GPU that need not be there.

The launchers run as they would on that GPU, on tensors without memory and under a driver that compiles and launches
nothing. So what they compile is what a launch on the GPU looks for, whatever the launchers' rules are.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from tadp.kernels.devices import linear_sizes, weight_only_sizes
from tadp.kernels.formats import PLANE_BITS
from tadp.kernels.planes import plane_shape
from tadp.kernels.registry import Request
from tadp.kernels.triton.linear import linear
from tadp.kernels.triton.weight_only import weight_only_linear
from tadp.kernels.values import Codes, Epilogue, Planes

CAPABILITIES = ((8, 0), (8, 6), (8, 7), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0), (12, 1))
"""Of NVIDIA's GPUs from Ampere to Blackwell."""


@dataclass(frozen=True)
class Product:
    """One linear layer as it will be called.

    Attributes:
        request: its shape, level, type and architecture.
        nonlinearity: what follows it.
        biased: whether it has a bias, of the type of its result.
    """

    request: Request
    nonlinearity: str = "none"
    biased: bool = True


def capability_of(architecture: str) -> tuple[int, int]:
    """The compute capability that "sm_90" and its like stand for.

    Raises:
        ValueError: for any other text.
    """
    match = re.fullmatch(r"sm_(\d+)(\d)a?", architecture)
    if match is None or (int(match[1]), int(match[2])) not in CAPABILITIES:
        names = ", ".join(f"sm_{major}{minor}" for major, minor in CAPABILITIES)
        raise ValueError(f"{architecture!r} is no architecture that kernels exist for; there are {names}")
    return int(match[1]), int(match[2])


def compile_for(architecture: str, products: Iterable[Product]) -> None:
    """Compile the first Triton kernel of each product, unless Triton's cache on disk holds it already.

    Args:
        architecture: "sm_90" and its like; that of the products' requests.
        products: linear layers.

    Raises:
        ValueError: as ``capability_of``.
    """
    with compiling_for(architecture):
        for product in products:
            _compile(product)


def cache_directory() -> str:
    """Where Triton keeps what it compiles."""
    return str(triton.knobs.cache.dir)


@contextmanager
def compiling_for(architecture: str) -> Iterator[None]:
    """Launch nothing meanwhile, and compile for an architecture."""
    major, minor = capability_of(architecture)
    before = driver._active
    driver.set_active(_CompileOnly(10 * major + minor))
    try:
        yield
    finally:
        driver._active = before


def _compile(product: Product) -> None:
    request = product.request
    planes, epilogue = _planes(request), Epilogue(None, product.nonlinearity, request.dtype)
    if product.biased:
        epilogue = epilogue._replace(bias=_empty(request.rows, dtype=request.dtype))
    if request.level.activation == 16:
        x = _empty(request.tokens, request.columns, dtype=request.dtype)
        weight_only_linear(x, planes, epilogue, weight_only_sizes(request)[0])
        return
    codes = _empty(request.tokens, request.columns, dtype=torch.int8)
    scale = _empty(request.tokens, dtype=torch.float32)
    total = _empty(request.tokens, *((request.groups,) if request.groups else ()), dtype=torch.int32)
    linear(Codes(codes, scale, total), planes, epilogue, linear_sizes(request)[0])


class _CompileOnly:
    """A driver for a GPU that is not there: what it is asked to load and to launch, it does not."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)
        self.utils = self
        self.launcher_cls = _no_launcher

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> str:
        return f"{self._target}"  # kernels are remembered by device, and must not pass for those of a real one

    def get_current_stream(self, device: object) -> int:
        return 0

    def get_device_properties(self, device: object) -> dict[str, int]:
        return {"max_shared_mem": 1 << 30}

    def load_binary(self, *arguments: object) -> tuple[None, None, int, int, int]:
        return None, None, 0, 0, 1024


def _no_launcher(source: object, metadata: object) -> Any:
    return lambda *arguments: None


def _planes(request: Request) -> Planes:
    rows, columns = request.rows, request.columns
    high, mid, low = (_empty(*plane_shape(plane, rows, columns), dtype=torch.uint8) for plane in PLANE_BITS)
    scale = _empty(*((rows, request.groups) if request.groups else (rows,)), dtype=torch.float32)
    widths = _empty(rows, dtype=torch.uint8) if request.level.mixed else None
    return Planes(high, mid, low, scale, widths).at(request.level.widest)


def _empty(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")
