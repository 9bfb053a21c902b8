"""Which variant of an operator runs at a level on a kind of device.

A new variant is one row here. The operators themselves dispatch by device; this table is what ``explain`` prints and
what a later choice among several variants will read.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from tadp.kernels import triton as triton_kernels
from tadp.precision import Level


@dataclass(frozen=True)
class Variant:
    """One implementation of one operator.

    Attributes:
        operator: name under ``torch.ops.tadp``.
        level: level it serves.
        device: device type, "cpu" or "cuda".
        describe: gives its name; asked late, because a CPU variant depends on the processor.
    """

    operator: str
    level: Level
    device: str
    describe: Callable[[], str]


_VARIANTS: dict[tuple[str, Level, str], Variant] = {}


def register(variant: Variant) -> None:
    """Add a variant, in place of an earlier one for the same operator, level and device."""
    _VARIANTS[variant.operator, variant.level, variant.device] = variant


def variant_name(operator: str, level: Level, device: str) -> str:
    """Name of the variant that runs.

    Raises:
        LookupError: if there is none; the message lists what there is.
    """
    variant = _VARIANTS.get((operator, level, device))
    if variant is None:
        known = sorted({f"{row.operator} at {row.level} on {row.device}" for row in _VARIANTS.values()})
        raise LookupError(f"no variant of {operator} at level {level} on {device}; there are: {', '.join(known)}")
    return variant.describe()


def _cpu_integer() -> str:
    return f"cpp-{torch.ops.tadp.cpu_isa()}"


def _cpu_weight_only() -> str:
    return f"cpp-{torch.ops.tadp.cpu_isa()} dequantize + aten linear"


def _reference_integer() -> str:
    return "reference"


def _cuda_linear() -> str:
    return "triton" if triton_kernels.is_used() else "reference"


def _reference_weight_only() -> str:
    return "reference dequantize + aten linear"


for _width in (8, 6, 4):
    _integer, _weight_only = Level(_width, 8), Level(_width, 16)
    for _operator in ("quantize", "linear"):
        register(Variant(_operator, _integer, "cpu", _cpu_integer))
    register(Variant("quantize", _integer, "cuda", _reference_integer))
    register(Variant("linear", _integer, "cuda", _cuda_linear))
    register(Variant("linear", _weight_only, "cpu", _cpu_weight_only))
    register(Variant("linear", _weight_only, "cuda", _reference_weight_only))
