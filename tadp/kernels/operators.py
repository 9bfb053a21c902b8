"""Schemas of ``torch.ops.tadp``, with the shapes they promise to a tracer.

On CPUs they are csrc/cpu, registered when the library is loaded. Elsewhere the products are looked up among the kernels
that registry.py lists. Callers see the operator only.

    quantize(x (..., columns), groups, rotation) -> codes (..., columns) int8, scale (...) float32, sum (...) int32
    rotate(x (..., columns), size) -> as x
    linear(codes, scale, sum, planes, weight_scale, bias (rows,), dtype, nonlinearity, kernel_name, widths=None)
        -> (..., rows)
    weight_only_linear(x (..., columns), planes, weight_scale, bias, nonlinearity, kernel_name) -> (..., rows)
    dequantize(planes, weight_scale, columns, dtype) -> (rows, columns)
    attention(q (batch, heads, queries, dim), k, v (batch, heads, keys, dim), mask, scale, level, kernel_name,
        block_map=None) -> as q
    block_map(q (batch, heads, queries, dim), k (batch, heads, keys, dim), share, mass, scale, query_block, diagonal,
        first, last) -> (batch, heads, query blocks, key blocks) bool, see block_map.py

The planes are ``high``, ``mid`` and ``low`` as planes.py cuts them. Which are given decides the width: high alone is 4
bits, with mid 6, with low 8. ``weight_scale`` is float32, ``(rows,)``, or ``(rows, groups)`` where several scales share
a row; ``sum`` then is ``(..., groups)``. ``rotation`` and ``size`` are the columns that a rotation mixes, see
rotation.py; 0 rotates nothing. Floating types are float32, bfloat16 and float16. ``nonlinearity`` is one of
reference.NONLINEARITIES. ``mask`` is boolean or additive and broadcasts to ``(batch, heads, queries, keys)``; ``level``
is the width of the products of attention. ``kernel_name`` names one of a device's kernels; empty, the first that serves
is taken, or on GPUs the one that was measured to be fastest, see table.py. ``widths``, ``(rows,)`` uint8, reads each
weight row at 8, 6 or 4 bits of its own; it comes with all planes and one scale a row. What the operators compute stands
in reference.py.

``block_map`` stands instead of a mask. It is boolean, ``(batch, heads, query blocks, key blocks)``: which blocks of 64
keys each block of 64 or 128 queries sees; the others take no time. A block of queries that sees none is an error on
CPUs, and gives NaN on GPUs, where looking would wait. The map is boolean, not a list of the blocks that are kept: so a
row may keep any number of them, signals read it as it is, and its bytes are few, one beside 16,384 bytes of keys and
values for heads of 64 in 16 bits.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch

from tadp.errors import KernelWarning
from tadp.kernels import cuda, failures, recording, reference, replay, table
from tadp.kernels import triton as triton_kernels
from tadp.kernels.block_map import check_block_map, choose_blocks, map_shape
from tadp.kernels.checks import (
    check_attention,
    check_dequantize,
    check_linear,
    check_quantize,
    check_rotate,
    check_weight_only,
)
from tadp.kernels.registry import (
    AnyRequest,
    AttentionRequest,
    Kernel,
    Request,
    architecture_of,
    candidates,
    choose,
    find,
    refuses,
)
from tadp.kernels.rotation import rotate_by_product
from tadp.kernels.values import Codes, Epilogue, Planes

_WEIGHT = "Tensor high, Tensor? mid, Tensor? low, Tensor weight_scale"
_EPILOGUE = 'str nonlinearity="none", str kernel_name=""'
_SCHEMAS = {
    "quantize": "(Tensor x, int groups=0, int rotation=0) -> (Tensor codes, Tensor scale, Tensor sum)",
    "rotate": "(Tensor x, int size) -> Tensor",
    "linear": (
        f"(Tensor codes, Tensor scale, Tensor sum, {_WEIGHT}, Tensor? bias, ScalarType dtype, {_EPILOGUE}, "
        "Tensor? widths=None) -> Tensor"
    ),
    "weight_only_linear": f"(Tensor x, {_WEIGHT}, Tensor? bias, {_EPILOGUE}) -> Tensor",
    "dequantize": f"({_WEIGHT}, int columns, ScalarType dtype) -> Tensor",
    "attention": (
        "(Tensor q, Tensor k, Tensor v, Tensor? mask=None, float? scale=None, int level=8, "
        'str kernel_name="", Tensor? block_map=None) -> Tensor'
    ),
    "block_map": (
        "(Tensor q, Tensor k, float share=0.0, float mass=0.0, float? scale=None, int query_block=64, "
        "bool diagonal=True, int first=0, int last=0) -> Tensor"
    ),
    "cpu_isa": "() -> str",
    "force_cpu_isa": "(str name) -> str",
}

_RESTORING = "dequantize:triton"
"""What the kernel that restores weights is called where it fails."""

PRODUCTS = ("linear", "weight_only_linear", "attention")
"""The operators that have kernels to choose from.

Each has a twin, ``registered_linear`` and so on. On CPUs the operator itself is C++, and knows its own kernels only;
its twin runs those that are registered in Python.
"""

for _name, _schema in (*_SCHEMAS.items(), *((f"registered_{name}", _SCHEMAS[name]) for name in PRODUCTS)):
    torch.library.define(f"tadp::{_name}", _schema, tags=(torch.Tag.pt2_compliant_tag,))


def flatten(
    activations: Codes | torch.Tensor, planes: Planes, epilogue: Epilogue, kernel_name: str = ""
) -> tuple[Any, ...]:
    """The arguments of a product in the order of its schema: of linear for codes, else of weight_only_linear."""
    *weight, widths = planes
    bias, nonlinearity, dtype = epilogue
    if isinstance(activations, Codes):
        return (*activations, *weight, bias, dtype, nonlinearity, kernel_name, widths)
    return (activations, *weight, bias, nonlinearity, kernel_name)


def unflatten(operator: str, *flat: Any, **named: Any) -> tuple[Any, Planes, Epilogue, str]:
    """Undo ``flatten``: activations, planes, epilogue and kernel's name.

    Args:
        operator: "linear", whose activations are `Codes`, or "weight_only_linear", whose activations are a tensor.
        flat: arguments in the order of the schema; torch leaves defaults at the end out.
        named: further arguments by the names that the schema gives them.
    """
    names, defaults = _arguments_of(operator)
    given = {**defaults, **dict(zip(names, flat, strict=False)), **named}
    codes = operator == "linear"
    activations = Codes(given["codes"], given["scale"], given["sum"]) if codes else given["x"]
    planes = Planes(given["high"], given["mid"], given["low"], given["weight_scale"], given.get("widths"))
    return activations, planes, Epilogue(given["bias"], given["nonlinearity"], given.get("dtype")), given["kernel_name"]


@functools.cache
def _arguments_of(operator: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The names of an operator's arguments, and the defaults of those that have one."""
    arguments = getattr(torch.ops.tadp, operator).default._schema.arguments
    defaults = {argument.name: argument.default_value for argument in arguments if argument.has_default_value()}
    return tuple(argument.name for argument in arguments), defaults


@torch.library.impl("tadp::quantize", "CUDA")
def _quantize_on_cuda(x: torch.Tensor, groups: int = 0, rotation: int = 0) -> Codes:
    check_quantize(x, groups, rotation)
    turned = rotate_by_product(x, rotation) if rotation else x
    return cuda.quantize(turned, groups) if cuda.is_used(x.device) else reference.quantize(turned, groups)


@torch.library.impl("tadp::rotate", "CUDA")
def _rotate_on_cuda(x: torch.Tensor, size: int) -> torch.Tensor:
    check_rotate(x, size)
    return rotate_by_product(x, size)


def _run_product(operator: str, *flat: Any, **named: Any) -> torch.Tensor:
    kind = replay.kind_of(operator, flat, named)
    if (found := _replayed(kind, flat, named)) is not None:
        return found
    activations, planes, epilogue, name = unflatten(operator, *flat, **named)
    device = (activations.codes if isinstance(activations, Codes) else activations).device
    asked = functools.partial(_request, activations, planes, epilogue)
    kernel = find(operator, device.type, name) if name else _first(operator, asked(), device)
    return _run_or_next(
        kernel,
        device,
        asked,
        lambda chosen: _recorded(kind, flat, named, chosen, lambda: chosen.run(activations, planes, epilogue)),
        lambda: failures.product(activations, planes, epilogue),
    )


def _run_attention(*flat: Any, **named: Any) -> torch.Tensor:
    kind = replay.kind_of("attention", flat, named)
    if (found := _replayed(kind, flat, named)) is not None:
        return found
    names, defaults = _arguments_of("attention")
    given = {**defaults, **dict(zip(names, flat, strict=False)), **named}
    q, k, v, mask, scale, level, kernel_name, block_map = (given[name] for name in names)
    check_attention(q, k, v, mask, level, block_map)
    asked = functools.partial(AttentionRequest.of, q, k, v, mask, level, block_map)
    kernel = find("attention", q.device.type, kernel_name) if kernel_name else _first("attention", asked(), q.device)
    torch._check(kernel.sparse or block_map is None, lambda: f"tadp: {kernel} takes no block_map")
    sparse = {} if block_map is None else {"block_map": block_map}
    return _run_or_next(
        kernel,
        q.device,
        asked,
        lambda chosen: _recorded(kind, flat, named, chosen, lambda: chosen.run(q, k, v, mask, scale, **sparse)),
        lambda: failures.attention(q, k, v, mask, scale, block_map),
    )


def _replayed(kind: replay.Kind, flat: tuple[Any, ...], named: dict[str, Any]) -> torch.Tensor | None:
    """What a call gives, if one of its kind was recorded and can still be done as it was."""
    record = replay.known(kind)
    if record is None:
        return None
    try:
        return record.replay((*flat, *named.values()))
    except Exception as error:
        if failures.is_of_device(error):
            raise
        replay.forget(kind)  # what is wrong, the call itself finds out, and what runs in its place
        return None


def _recorded(
    kind: replay.Kind,
    flat: tuple[Any, ...],
    named: dict[str, Any],
    kernel: Kernel,
    run: Callable[[], torch.Tensor],
) -> torch.Tensor:
    return recording.recorded(kind, (*flat, *named.values()), run) if kernel.compiles_at_first else run()


def _run_or_next(
    kernel: Kernel,
    device: torch.device,
    asked: Callable[[], AnyRequest],
    run: Callable[[Kernel], torch.Tensor],
    plain: Callable[[], torch.Tensor],
) -> torch.Tensor:
    """What a kernel returns, or, where it fails or has failed before, the next one that serves, or plain torch.

    Args:
        kernel: asked first.
        device: where.
        asked: makes the request, and raises for arguments that fit no kernel.
        run: calls a kernel.
        plain: is called where no kernel is left.

    Raises:
        torch.OutOfMemoryError: and other errors of the device, as they come: other kernels need no less.
        RuntimeError: of a kernel that was named though it does not serve the request, and for arguments that do not fit
            each other.
    """
    reason = failures.failure_of(str(kernel), architecture_of(device)) if failures.have_been() else None
    known = reason is not None
    if not known:
        try:
            return run(kernel)
        except Exception as error:
            if failures.is_of_device(error) or refuses(kernel, asked()):
                raise
            reason = failures.note(str(kernel), architecture_of(device), error)
            replay.forget()  # it may be part of what was recorded for other shapes
    following = next((one for one in candidates(asked()) if one.operator == kernel.operator), None)
    if not known:
        instead = "plain torch" if following is None else following
        warnings.warn(
            f"kernel {kernel} failed on {device}, and {instead} runs in its place until this process ends: {reason}",
            KernelWarning,
            stacklevel=2,
        )
    return plain() if following is None else _run_or_next(following, device, asked, run, plain)


def _request(activations: Codes | torch.Tensor, planes: Planes, epilogue: Epilogue) -> Request:
    """What the arguments of a product ask for, which are checked: what does not fit makes no request."""
    if isinstance(activations, Codes):
        check_linear(activations, planes, epilogue)
        dtype = epilogue.dtype
        assert dtype is not None
    else:
        check_weight_only(activations, planes, epilogue)
        dtype = activations.dtype
    return Request.of(activations, planes, dtype)


def _first(operator: str, request: AnyRequest, device: torch.device) -> Kernel:
    """The kernel of an operator that was measured to be fastest on a request, or else the first that serves it.

    Raises:
        RuntimeError: if none does; the message says why.
    """
    found = choose(request, device, table.lookup, operator)
    if isinstance(found, str):
        raise RuntimeError(f"tadp: no kernel of {operator} serves: {found}")
    return found


def dequantize_on_gpu(*flat: Any) -> torch.Tensor:
    """The operator ``dequantize`` on GPUs: a kernel in Triton, or where that does not run the reference."""
    *weight, columns, dtype = flat
    planes = Planes(*weight)
    check_dequantize(planes, columns, dtype)
    device = planes.high.device
    failed = failures.have_been() and failures.failure_of(_RESTORING, architecture_of(device))
    if failed or triton_kernels.missing() or triton_kernels.too_old(triton_kernels.capability_of(device)):
        return reference.dequantize(planes, columns, dtype)
    try:
        from tadp.kernels.triton.dequantize import dequantize

        return dequantize(planes, columns, dtype)
    except Exception as error:
        if failures.is_of_device(error):
            raise
        reason = failures.note(_RESTORING, architecture_of(device), error)
        message = f"kernel {_RESTORING} failed on {device}, and plain torch runs in its place, more slowly: {reason}"
        warnings.warn(message, KernelWarning, stacklevel=2)
        return reference.dequantize(planes, columns, dtype)


@torch.library.register_fake("tadp::quantize")
def _fake_quantize(x: torch.Tensor, groups: int = 0, rotation: int = 0) -> Codes:
    check_quantize(x, groups, rotation)
    tokens = x.shape[:-1]
    codes = torch.empty(x.shape, dtype=torch.int8, device=x.device)
    sums = (*tokens, groups) if groups else tokens
    return Codes(codes, x.new_empty(tokens, dtype=torch.float32), x.new_empty(sums, dtype=torch.int32))


@torch.library.register_fake("tadp::rotate")
def _fake_rotate(x: torch.Tensor, size: int) -> torch.Tensor:
    check_rotate(x, size)
    return x.new_empty(x.shape)


def _fake_linear(*flat: Any, **named: Any) -> torch.Tensor:
    codes, planes, epilogue, _ = unflatten("linear", *flat, **named)
    check_linear(codes, planes, epilogue)
    return codes.codes.new_empty((*codes.codes.shape[:-1], planes.rows), dtype=epilogue.dtype)


def _fake_weight_only_linear(*flat: Any, **named: Any) -> torch.Tensor:
    x, planes, epilogue, _ = unflatten("weight_only_linear", *flat, **named)
    check_weight_only(x, planes, epilogue)
    return x.new_empty((*x.shape[:-1], planes.rows))


@torch.library.register_fake("tadp::dequantize")
def _fake_dequantize(*flat: Any) -> torch.Tensor:
    *weight, columns, dtype = flat
    planes = Planes(*weight)
    check_dequantize(planes, columns, dtype)
    return planes.high.new_empty((planes.rows, columns), dtype=dtype)


@torch.library.register_fake("tadp::block_map")
def _fake_block_map(
    q: torch.Tensor,
    k: torch.Tensor,
    share: float = 0.0,
    mass: float = 0.0,
    scale: float | None = None,
    query_block: int = 64,
    diagonal: bool = True,
    first: int = 0,
    last: int = 0,
) -> torch.Tensor:
    check_block_map(q, k, share, mass, query_block)
    return q.new_empty(map_shape(q, k, query_block), dtype=torch.bool)


def _fake_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None = None,
    scale: float | None = None,
    level: int = 8,
    kernel_name: str = "",
    block_map: torch.Tensor | None = None,
) -> torch.Tensor:
    check_attention(q, k, v, mask, level, block_map)
    batch, heads, queries, dim = q.shape
    # The heads of a token lie side by side, as the layer behind attention reads them.
    return q.new_empty((batch, queries, heads, dim)).transpose(1, 2)


torch.library.impl("tadp::dequantize", "CUDA", dequantize_on_gpu)
torch.library.impl("tadp::block_map", "CompositeExplicitAutograd", choose_blocks)

_RUN: dict[str, Callable[..., torch.Tensor]] = {
    "linear": functools.partial(_run_product, "linear"),
    "weight_only_linear": functools.partial(_run_product, "weight_only_linear"),
    "attention": _run_attention,
}
_FAKES: dict[str, Callable[..., torch.Tensor]] = {
    "linear": _fake_linear,
    "weight_only_linear": _fake_weight_only_linear,
    "attention": _fake_attention,
}

for _name in PRODUCTS:
    for _operator in (_name, f"registered_{_name}"):
        torch.library.impl(f"tadp::{_operator}", "CompositeExplicitAutograd", _RUN[_name])
        torch.library.register_fake(f"tadp::{_operator}", _FAKES[_name])
