"""Whether kernels are right: each against the reference of its operator, within the bound of its roundings."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch

from tadp.doctor.attention_bounds import attention_bound
from tadp.doctor.findings import Check, Finding, Verdict
from tadp.doctor.inputs import (
    ATTENTION_SHAPES,
    LINEAR_SHAPES,
    AttentionShape,
    LinearShape,
    activations,
    attention_inputs,
    codes_of,
    epilogue_of,
    on_device,
    weight_of,
)
from tadp.doctor.product_bounds import (
    cpp_weight_only_exact_and_bound,
    dequantized_bound,
    linear_exact_and_bound,
    weight_only_bound,
)
from tadp.doctor.triton_attention_bounds import attention_bound as triton_attention_bound
from tadp.kernels import reference
from tadp.kernels.formats import WIDTHS
from tadp.kernels.isa import NAMES, cpu_isa, is_available
from tadp.kernels.registry import KERNELS, AttentionRequest, Kernel, Request
from tadp.kernels.triton.attention_tile import AttentionTile
from tadp.kernels.triton.tile import Tile
from tadp.kernels.values import Codes, Epilogue, Planes

TENSOR_CORE_SUMS = 2.0**-12
"""Relative error of an addition in a sum of e4m3 products: about 14 bits are kept, of which two may be shifted out."""

_SERVES_NOTHING = "it serves none of the shapes that are tried; the table of kernels says why"
REPORT = "report it with the file that --json writes; until then a policy such as static:16 does without the kernel"
_TYPES = (torch.float32, torch.bfloat16)

Compared = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""What a kernel gave, the exact result, and how far apart they may be."""


def numeric_checks(device: torch.device) -> list[Check]:
    """A check of each operator and each of its kernels on a device; on CPUs once for each instruction set."""
    if device.type != "cpu":
        return list(_of_device(device, str(device), nullcontext, REPORT))
    sets = [name for name in NAMES if is_available(name)]
    found: list[Check] = []
    for name in sets:
        other = next((each for each in reversed(sets) if each != name), None)
        way_out = REPORT if other is None else f"set TADP_CPU_ISA={other} if that is right, and {REPORT}"
        found += _of_device(device, f"cpu, {name}", partial(cpu_isa, name), way_out)
    return found


def _of_device(
    device: torch.device, place: str, entered: Callable[[], AbstractContextManager[None]], way_out: str
) -> Iterator[Check]:
    def check(name: str, cases: Callable[[], Iterator[tuple[str, Compared]]]) -> Check:
        subject = f"{name} ({place})"
        return Check(subject, partial(_judged, subject, cases, entered), way_out)

    yield check("quantize", partial(_quantize, device))
    yield check("dequantize", partial(_dequantize, device))
    for operator, cases in (("linear", _linear), ("weight_only_linear", _weight_only), ("attention", _attention)):
        for kernel in {kernel.name: kernel for kernel in KERNELS.get((operator, device.type), ())}.values():
            yield check(str(kernel), partial(cases, kernel, device))


def _judged(
    subject: str,
    cases: Callable[[], Iterator[tuple[str, Compared]]],
    entered: Callable[[], AbstractContextManager[None]],
) -> Finding:
    """Run all cases of a check; the first that is out of bounds is named."""
    nearest, count = 0.0, 0
    with entered():
        for name, (found, exact, bound) in cases():
            count += 1
            apart = (found.cpu().double() - exact).abs()
            wrong = ~(apart <= bound)  # NaN is wrong as well
            if wrong.any():
                worst = float(apart.nan_to_num(nan=torch.inf).max())
                detail = f"{int(wrong.sum())} of {wrong.numel()} results are off by more than rounding explains"
                return Finding(Verdict.WRONG, subject, f"{detail}, the worst by {worst:.3g}, at {name}")
            nearest = max(nearest, float((apart / bound.clamp(min=torch.finfo(bound.dtype).tiny)).max()))
    if not count:
        return Finding(Verdict.NOT_SERVED, subject, _SERVES_NOTHING)
    return Finding(Verdict.OK, subject, f"{count} cases, at most {nearest:.2f} of what rounding may do")


def _quantize(device: torch.device) -> Iterator[tuple[str, Compared]]:
    """To the bit."""
    for shape in LINEAR_SHAPES:
        groups = weight_of(shape).groups
        x = activations(shape, torch.float32)
        exact = reference.quantize(x, groups)
        found = Codes(*torch.ops.tadp.quantize(x.to(device), groups))
        for part, given, wanted in zip(Codes._fields, found, exact, strict=True):
            yield f"{part} of {shape}", (given, wanted.double(), torch.zeros(()))


def _dequantize(device: torch.device) -> Iterator[tuple[str, Compared]]:
    for shape in LINEAR_SHAPES:
        for width in WIDTHS:
            planes = weight_of(shape).planes(width)
            high, mid, low, scale, _ = on_device(planes, device)
            found = torch.ops.tadp.dequantize(high, mid, low, scale, shape.columns, torch.float32)
            exact = reference.dequantize(planes, shape.columns, torch.float64)
            yield f"{width} bits, {shape}", (found, exact, dequantized_bound(exact, torch.float32))


def _linear(kernel: Kernel, device: torch.device) -> Iterator[tuple[str, Compared]]:
    for shape, width, dtype in _products():
        codes, planes, epilogue = codes_of(shape), weight_of(shape).planes(width), epilogue_of(shape, dtype)
        here = Codes(*on_device(codes, device)), Planes(*on_device(planes, device))  # type: ignore[arg-type]
        chosen = _serving(kernel, Request.of(*here, dtype))
        if chosen is not None:
            found = chosen.run(*here, Epilogue(*on_device(epilogue, device)))  # type: ignore[arg-type]
            yield f"{width} bits, {shape}, {dtype}", (found, *linear_exact_and_bound(codes, planes, epilogue))


def _weight_only(kernel: Kernel, device: torch.device) -> Iterator[tuple[str, Compared]]:
    for shape, width, dtype in _products():
        x, planes, epilogue = activations(shape, dtype), weight_of(shape).planes(width), epilogue_of(shape, dtype)
        there, own = x.to(device), Planes(*on_device(planes, device))  # type: ignore[arg-type]
        chosen = _serving(kernel, Request.of(there, own, dtype))
        if chosen is not None:
            found = chosen.run(there, own, Epilogue(*on_device(epilogue, device)))  # type: ignore[arg-type]
            exact, bound = cpp_weight_only_exact_and_bound(x, planes, epilogue.bias, epilogue.nonlinearity)
            if kernel.sizes is not None:
                bound = _triton_weight_only_bound(x, planes, epilogue, chosen.name)
            yield f"{width} bits, {shape}, {dtype}", (found, exact, bound)


def _triton_weight_only_bound(x: torch.Tensor, planes: Planes, epilogue: Epilogue, name: str) -> torch.Tensor:
    high, mid, low, scale, _ = planes
    arguments: dict[str, Any] = {"high": high, "mid": mid, "low": low, "weight_scale": scale, "bias": epilogue.bias}
    arguments["nonlinearity"] = "none"
    return weight_only_bound(x, arguments, epilogue.nonlinearity, Tile.parse(name).splits, x.dtype)


def _attention(kernel: Kernel, device: torch.device) -> Iterator[tuple[str, Compared]]:
    for shape in ATTENTION_SHAPES:
        for dtype in _TYPES:
            compared = _attention_of(kernel, device, shape, dtype)
            if compared is not None:
                yield f"{shape}, {dtype}", compared


def _attention_of(kernel: Kernel, device: torch.device, shape: AttentionShape, dtype: torch.dtype) -> Compared | None:
    given = attention_inputs(shape, dtype, 64 if device.type == "cpu" else 128)
    q, k, v = (part.to(device) for part in (given.q, given.k, given.v))
    mask, block_map = (None if part is None else part.to(device) for part in (given.mask, given.block_map))
    chosen = _serving(kernel, AttentionRequest.of(q, k, v, mask, 8, block_map))
    if chosen is None:
        return None
    found = chosen.run(q, k, v, mask, None, **({} if block_map is None else {"block_map": block_map}))
    everything = (given.q, given.k, given.v, given.mask)
    exact = reference.attention(*everything, dtype=torch.float64, block_map=given.block_map)
    if kernel.sizes is None:
        return found, exact, attention_bound(*everything, block_map=given.block_map)
    if given.block_map is not None:
        seen = reference.tokens_of_blocks(given.block_map, shape.queries, shape.keys)
        everything = (given.q, given.k, given.v, seen)
    operands = AttentionTile.parse(chosen.name).operands
    return found, exact, triton_attention_bound(*everything, operands=operands, accumulation=TENSOR_CORE_SUMS)


def _products() -> Iterator[tuple[LinearShape, int, torch.dtype]]:
    for shape in LINEAR_SHAPES:
        for width in WIDTHS:
            for dtype in _TYPES:
                yield shape, width, dtype


def _serving(kernel: Kernel, request: Request | AttentionRequest) -> Kernel | None:
    """The kernel, in the first of its sizes; None where it does not serve."""
    if kernel.obstacle(request) is not None:
        return None
    return kernel if kernel.sizes is None else kernel.sized(kernel.sizes(request)[0])
