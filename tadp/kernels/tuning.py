"""Measuring the kernels of a linear layer on a device."""

import contextlib
import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from functools import partial

import torch

from tadp.errors import KernelWarning
from tadp.interleaving import medians, timed
from tadp.kernels import failures, reference
from tadp.kernels.bitplanes import BitPlaneWeight
from tadp.kernels.registry import Kernel, Request, candidates, serving, unserved
from tadp.kernels.table import Measurement
from tadp.kernels.values import Codes, Epilogue
from tadp.precision import Level

BASE = "16 bits"
"""The product that PyTorch runs on a 16-bit weight: measured beside the kernels, never chosen."""

_MOST_BYTES = 1 << 31
"""Of all copies of a weight at 16 bits."""
_CALLS = 10
"""Between two events on a GPU, so that launching one call overlaps with running the one before."""


def measure(request: Request, device: torch.device, seconds: float, seed: int = 0) -> tuple[Measurement, float]:
    """Time all kernels that serve a request in turn, quantizing the activation included.

    Args:
        request: what to measure; its device type and architecture are those of ``device``.
        device: where to measure.
        seconds: how long; every kernel runs three times at least.
        seed: of inputs and of the order in which kernels take turns.

    Raises:
        LookupError: if no kernel serves the request; the message says why.

    Returns:
        Medians in milliseconds, of the kernels and of the 16-bit product.
    """
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        return _measure(request, device, seconds, seed)


def _measure(request: Request, device: torch.device, seconds: float, seed: int) -> tuple[Measurement, float]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(request.tokens, request.columns, generator=generator).to(device, request.dtype)
    plain = (torch.randn(request.rows, request.columns, generator=generator) * 0.05).to(device, request.dtype)
    group_size = request.columns // request.groups if request.groups else None
    copies = copies_to_rotate(plain.numel() * request.level.weight // 8, plain.nbytes, _cache_bytes(device))
    plains = itertools.cycle([plain, *(plain.clone() for _ in range(copies - 1))])
    weights = itertools.cycle([BitPlaneWeight.from_hp(plain, group_size) for _ in range(copies)])
    # What graphs for a GPU quantize with, though there it fuses into what comes before.
    quantize = torch.ops.tadp.quantize if device.type == "cpu" else torch.compile(reference.quantize, dynamic=False)
    calls: dict[str, Callable[[], object]] = {BASE: lambda: torch.nn.functional.linear(x, next(plains))}
    quantize(x, request.groups)  # compiles, and where it fails no kernel is to blame
    failed = {str(kernel) for kernel in serving(request)} - {str(kernel) for kernel in candidates(request)}
    for kernel in candidates(request):
        call = partial(_apply_next, weights, kernel, request.level, x, quantize)
        try:
            call()  # compiles
        except Exception as error:
            if failures.is_of_device(error):
                raise
            failed.add(str(kernel))
            reason = failures.note(str(kernel), request.architecture, error)
            warnings.warn(f"{kernel} is left out: {reason}", KernelWarning, stacklevel=3)
        else:
            calls[str(kernel)] = call
    if len(calls) == 1:
        raise LookupError(unserved(request))
    seconds_by_name = medians(calls, seconds, slow=None, timer=timer_of(device), least=3, seed=seed)
    milliseconds = {name: median * 1e3 for name, median in seconds_by_name.items()}
    base = milliseconds.pop(BASE)
    return Measurement(request, tuple(milliseconds.items()), frozenset(failed)), base


def copies_to_rotate(read_bytes: int, weight_bytes: int, cache_bytes: int) -> int:
    """How many copies of a weight to time kernels on in turn, so that none is found in a cache.

    In a model every weight comes from memory, as all others were read since the last step.

    Args:
        read_bytes: of a weight that a kernel reads.
        weight_bytes: of the weight at 16 bits, of which there are as many copies.
        cache_bytes: of the device's last cache; 0 where it does not matter.
    """
    return max(min(math.ceil(4 * cache_bytes / read_bytes), _MOST_BYTES // weight_bytes), 1)


def _cache_bytes(device: torch.device) -> int:
    """Of a GPU's second-level cache. A CPU's is not rotated out: its few kernels differ by arithmetic."""
    return torch.cuda.get_device_properties(device).L2_cache_size if device.type == "cuda" else 0


def _apply_next(
    weights: Iterator[BitPlaneWeight],
    kernel: Kernel,
    level: Level,
    x: torch.Tensor,
    quantize: Callable[..., tuple[torch.Tensor, ...]],
) -> torch.Tensor:
    return apply(kernel, level, x, next(weights), quantize=quantize)


def apply(
    kernel: Kernel,
    level: Level,
    x: torch.Tensor,
    weight: BitPlaneWeight,
    *,
    quantize: Callable[..., tuple[torch.Tensor, ...]] | None = None,
) -> torch.Tensor:
    """Run a kernel of ``x @ weight.T``: ``(..., rows)`` in x's type; ``quantize`` takes the operator's place."""
    planes, epilogue = weight.planes(level.weight), Epilogue(dtype=x.dtype)
    if kernel.operator == "weight_only_linear":
        return kernel.run(x, planes, epilogue)
    return kernel.run(Codes(*(quantize or torch.ops.tadp.quantize)(x, weight.groups)), planes, epilogue)


def timer_of(device: torch.device) -> Callable[[Callable[[], object]], float]:
    """What gives the seconds of one call on a device: on a GPU from event to event, not until a call returns."""
    return _timed_on_gpu if device.type == "cuda" else timed


def _timed_on_gpu(call: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(_CALLS):
        call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / _CALLS
