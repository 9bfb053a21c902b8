"""Which implementation of a linear layer runs: what each device offers for a level, and the one that is taken.

A device offers variants through a function registered here, the one that its rule takes first. Where the device was
tuned (tuning.py), the fastest measured one is taken instead. Every variant is at least as precise as the level it is
offered for: it reads exactly the level's planes, and rounds activations to the level's width or not at all.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from tadp.kernels import cuda
from tadp.kernels import triton as triton_kernels
from tadp.kernels.triton.tile import kernels_for
from tadp.precision import Level

FEW_TOKENS = 16
"""Up to so many tokens the fused weight-only kernels of CPUs serve (csrc/cpu/weight_only.h)."""


@dataclass(frozen=True, order=True)
class Variant:
    """One implementation of a linear layer.

    Attributes:
        operator: "linear" on activations quantized to 8 bits, or "weight_only_linear" on activations as they are.
        kernel: what the operator's ``kernel_name`` is to be; empty where the operator's own rule decides.
    """

    operator: str
    kernel: str = ""

    def __str__(self) -> str:
        return f"{self.operator}:{self.kernel}" if self.kernel else self.operator

    @staticmethod
    def parse(name: str) -> "Variant":
        """Undo ``str``."""
        operator, _, kernel = name.partition(":")
        return Variant(operator, kernel)


@dataclass(frozen=True)
class Request:
    """One linear layer that has to run.

    Attributes:
        level: 8-, 6- or 4-bit weights, or a mixture; 8- or 16-bit activations.
        tokens, columns, rows: activations ``(tokens, columns)``, weight ``(rows, columns)``.
        groups: scales of a weight row; 0 for one.
        dtype: floating type of activations and result.
        device: device type, "cpu" or "cuda".
        architecture: instruction set of the CPU, or "sm_90" and its like.
    """

    level: Level
    tokens: int
    columns: int
    rows: int
    groups: int
    dtype: torch.dtype
    device: str
    architecture: str


Offer = Callable[[Request], tuple[Variant, ...]]

_OFFERS: dict[tuple[str, str], Offer] = {}


def register(operator: str, device: str, offer: Offer) -> None:
    """Let a device serve an operator: ``offer`` lists variants for a request, best guess first, or none."""
    _OFFERS[operator, device] = offer


def candidates(request: Request) -> tuple[Variant, ...]:
    """All variants that may serve a request; the first is what the rule takes.

    Raises:
        LookupError: if there is none; the message says for which devices there are any.
    """
    operators = tuple(
        operator
        for operator, serves in (
            ("linear", request.level.activation == 8),
            ("weight_only_linear", not request.level.mixed),
        )
        if serves
    )
    offers = (_OFFERS.get((operator, request.device)) for operator in operators)
    found = tuple(variant for offer in offers if offer is not None for variant in offer(request))
    if not found or request.level.weight == 16:
        devices = ", ".join(sorted({device for _, device in _OFFERS}))
        raise LookupError(f"no variant of a linear at level {request.level} on {request.device}; devices: {devices}")
    return found


def choose(request: Request, fastest: Callable[[Request], str | None] = lambda request: None) -> Variant:
    """The variant that serves a request: the one a table of measurements names, if it is offered, else the rule's.

    Args:
        request: what has to run.
        fastest: names the variant that was measured to be fastest on a request, where one was.

    Raises:
        LookupError: as ``candidates``.
    """
    offered = candidates(request)
    named = fastest(request)
    return next((variant for variant in offered if str(variant) == named), offered[0])


def architecture_of(device: torch.device) -> str:
    """The instruction set of this CPU, an NVIDIA GPU's compute capability as "sm_90", or else the device's type."""
    if device.type == "cpu":
        return str(torch.ops.tadp.cpu_isa())
    if device.type != "cuda":
        return device.type
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


def describe(variant: Variant, request: Request) -> str:
    """What runs, in a few words, as ``explain`` prints it."""
    if request.device == "cpu":
        return f"cpp-{request.architecture} {variant}"
    if request.device != "cuda":
        return f"{request.device} {variant}"
    by_rule = variant == Variant("linear") and not request.level.mixed
    by_rule = by_rule and cuda.is_rule(request.tokens, request.level.weight)
    if by_rule or variant == Variant("linear", cuda.NAME):
        return f"cuda {variant}"
    implementation = "triton" if triton_kernels.is_used() else "reference"
    return f"{implementation} {variant}"


def describe_attention(device: torch.device) -> str:
    """What runs attention below 16 bits on a device, as ``explain`` prints it."""
    if device.type == "cpu":
        return f"cpp-{architecture_of(device)} attention"
    return f"{'triton' if triton_kernels.is_used() else 'reference'} attention"


def _cpu_linear(request: Request) -> tuple[Variant, ...]:
    return (Variant("linear"),)


def _cpu_weight_only(request: Request) -> tuple[Variant, ...]:
    dequantize = Variant("weight_only_linear", "dequantize")
    return (Variant("weight_only_linear", "fused"), dequantize) if request.tokens <= FEW_TOKENS else (dequantize,)


def _cuda_linear(request: Request) -> tuple[Variant, ...]:
    if request.level.mixed:
        return (Variant("linear"),)
    few_tokens = request.tokens <= cuda.FEW_TOKENS and cuda.is_used()
    names = ("", *((cuda.NAME,) if few_tokens else ()), *_triton_kernels(request, 8))
    return tuple(Variant("linear", name) for name in names)


def _cuda_weight_only(request: Request) -> tuple[Variant, ...]:
    bits = 8 * request.dtype.itemsize
    return tuple(Variant("weight_only_linear", name) for name in ("", *_triton_kernels(request, bits)))


def _triton_kernels(request: Request, activations: int) -> tuple[str, ...]:
    """Names of Triton kernels for activations of so many bits; the operator's own rule, no name, is for the caller."""
    if not triton_kernels.is_used():
        return ()
    capability = divmod(int(request.architecture.removeprefix("sm_")), 10)
    shape = (request.tokens, request.rows, request.columns, request.level.weight)
    return kernels_for(*shape, capability, activations=activations, groups=request.groups)


register("linear", "cpu", _cpu_linear)
register("weight_only_linear", "cpu", _cpu_weight_only)
register("linear", "cuda", _cuda_linear)
register("weight_only_linear", "cuda", _cuda_weight_only)
