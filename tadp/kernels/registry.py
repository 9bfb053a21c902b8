"""Which kernel runs a linear layer or an attention product: one ordered list for every operator and type of device.

A kernel says of each request whether it serves it; the first that does is taken. Where a device was tuned (tuning.py),
the fastest measured one is taken instead. Every kernel is at least as precise as the level that is asked for: it reads
exactly the level's planes, and rounds activations to the level's width or not at all. The kernels that tadp brings
along stand in devices.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from tadp.kernels import replay
from tadp.kernels.failures import failure_of
from tadp.kernels.values import Codes, Planes
from tadp.precision import Level


@dataclass(frozen=True)
class Request:
    """One linear layer that has to run.

    Attributes:
        level: 8-, 6- or 4-bit weights, or a mixture; 8- or 16-bit activations.
        tokens, columns, rows: activations ``(tokens, columns)``, weight ``(rows, columns)``.
        groups: scales of a weight row; 0 for one.
        dtype: floating type of activations and result.
        device: device type, such as "cpu" or "cuda".
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

    @classmethod
    def of(cls, activations: Codes | torch.Tensor, planes: Planes, dtype: torch.dtype) -> "Request":
        """What a call of ``linear``, for codes, or of ``weight_only_linear`` asks for.

        Rows of widths of their own count as 6 bits on average, since kernels read the planes of the widest either way.
        """
        integer = isinstance(activations, Codes)
        read = activations.codes if isinstance(activations, Codes) else activations
        level = Level.parse("6m") if planes.widths is not None else Level(planes.width, 8 if integer else 16)
        device = read.device
        size = (read.shape[:-1].numel(), read.shape[-1], planes.rows, planes.groups)
        return cls(level, *size, dtype, device.type, architecture_of(device))

    @property
    def operators(self) -> tuple[str, ...]:
        """The operators that are precise enough, in the order in which their kernels are asked."""
        if self.level.weight == 16:
            return ()
        integer, weight_only = self.level.activation == 8, not self.level.mixed
        return (("linear",) if integer else ()) + (("weight_only_linear",) if weight_only else ())

    def __str__(self) -> str:
        return f"a linear at level {self.level}"


@dataclass(frozen=True)
class AttentionRequest:
    """One attention product that has to run below 16 bits.

    Attributes:
        q, k, v, mask: tensors with the shapes, types and strides of the arguments, as operators.py has them.
        level: bits of both products' operands.
        block_map: which blocks of keys are to be multiplied; None for all. Only kernels that are `sparse` are asked.
        device, architecture: as in `Request`.
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    mask: torch.Tensor | None
    level: int
    device: str
    architecture: str
    block_map: torch.Tensor | None = None

    @classmethod
    def of(
        cls,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        mask: torch.Tensor | None,
        level: int,
        block_map: torch.Tensor | None = None,
    ) -> "AttentionRequest":
        """What a call of ``attention`` asks for."""
        return cls(q, k, v, mask, level, q.device.type, architecture_of(q.device), block_map)

    @property
    def operators(self) -> tuple[str, ...]:
        """The operator whose kernels are asked."""
        return ("attention",)

    @property
    def is_masked_by_query(self) -> bool:
        """Whether there is a mask that differs between queries."""
        return self.mask is not None and self.mask.dim() > 1 and self.mask.shape[-2] > 1

    def __str__(self) -> str:
        return "attention"


@dataclass(frozen=True)
class Kernel:
    """One implementation of an operator on one type of device.

    Attributes:
        name: the operator's ``kernel_name`` for it.
        operator: "linear" on activations quantized to 8 bits, "weight_only_linear" on activations as they are, or
            "attention".
        device: device type.
        serves: None if it serves a `Request`, of attention an `AttentionRequest`; else why it does not.
        run: checks what it is given, and computes what the reference of the operator does, from the same values.
        sizes: names with sizes in them, of those worth timing for a request, best guess first; each begins with `name`
            and a dash, and `run` takes it as ``kernel_name``. None for a kernel that has no sizes to choose.
        compiled: whether the operator itself, which is C++ on CPUs, knows this kernel by its name.
        sparse: of attention, whether `run` takes a ``block_map``, by that name.
        compiles_at_first: whether `run` compiles what it launches when it is first called with a shape, so that it is
            worth calling before a generation, by ``tadp.kernels.triton.ahead_of_time``.
    """

    name: str
    operator: str
    device: str
    serves: Callable[[Any], str | None]
    run: Callable[..., torch.Tensor]
    sizes: Callable[[Any], tuple[str, ...]] | None = None
    compiled: bool = False
    sparse: bool = False
    compiles_at_first: bool = False

    def __str__(self) -> str:
        """The name under which it is measured and explained: names alone are those of one operator."""
        return f"{self.operator}:{self.name}" if self.name else self.operator

    def obstacle(self, request: "AnyRequest") -> str | None:
        """Why it does not serve a request; None if it does."""
        if isinstance(request, AttentionRequest) and request.block_map is not None and not self.sparse:
            return "it multiplies all blocks of keys"
        return self.serves(request)

    @property
    def target(self) -> torch._ops.OpOverload:
        """What a graph calls."""
        through_python = self.device == "cpu" and not self.compiled
        name = f"registered_{self.operator}" if through_python else self.operator
        found: torch._ops.OpOverload = getattr(torch.ops.tadp, name).default
        return found

    def sized(self, name: str) -> "Kernel":
        """The kernel of one of its `sizes`."""
        return replace(self, name=name, run=partial(self.run, kernel_name=name), sizes=None)


AnyRequest = Request | AttentionRequest

Fastest = Callable[[Request, torch.device, frozenset[str]], str | None]
"""Which of the kernels that serve a request, given as they are written, was measured to be the fastest on a device."""

KERNELS: dict[tuple[str, str], tuple[Kernel, ...]] = {}
"""By operator and device type, in the order in which they are asked."""


def register(kernel: Kernel) -> None:
    """Put a kernel before all others of its operator and device."""
    replay.forget()  # where no kernel is named, this one comes first now
    place = kernel.operator, kernel.device
    KERNELS[place] = (kernel, *KERNELS.get(place, ()))


def any_compiles_at_first(device: str) -> bool:
    """Whether a device type has kernels that compile when they are first called."""
    return any(kernel.compiles_at_first for (_, own), kernels in KERNELS.items() if own == device for kernel in kernels)


def candidates(request: AnyRequest) -> tuple[Kernel, ...]:
    """All kernels that serve a request and have not failed, in their order; those with sizes once for each size."""
    return tuple(kernel for kernel in serving(request) if failure_of(str(kernel), request.architecture) is None)


def serving(request: AnyRequest) -> tuple[Kernel, ...]:
    """The same with those that failed in this process."""
    found: dict[str, Kernel] = {}
    for kernel in _asked(request):
        if kernel.obstacle(request) is None:
            for one in (kernel,) if kernel.sizes is None else map(kernel.sized, kernel.sizes(request)):
                found.setdefault(str(one), one)
    return tuple(found.values())


def unserved(request: AnyRequest) -> str:
    """Why no kernel serves a request."""
    reasons: dict[str, str] = {}
    for kernel in _asked(request):
        failed = failure_of(str(kernel), request.architecture) or "it failed at every size"
        reasons[str(kernel)] = kernel.obstacle(request) or failed  # the last of a name is the one that serves most
    if not reasons:
        return f"{request} has no kernel on {request.device}"
    if len(set(reasons.values())) == 1:
        return next(iter(reasons.values()))
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())


def _asked(request: AnyRequest) -> tuple[Kernel, ...]:
    lists = (KERNELS.get((operator, request.device), ()) for operator in request.operators)
    return tuple(kernel for kernels in lists for kernel in kernels)


def choose(
    request: AnyRequest,
    device: torch.device,
    fastest: Fastest = lambda request, device, offered: None,
    operator: str | None = None,
) -> Kernel | str:
    """The kernel that serves a request, or why none does.

    Args:
        request: what has to run.
        device: where.
        fastest: names the kernel that was measured to be the fastest; where it names none that serves, the first that
            serves is taken.
        operator: whose kernels are to be chosen from; None for all that are precise enough.
    """
    offered = candidates(request)
    own = tuple(kernel for kernel in offered if operator in (None, kernel.operator))
    if not own:
        return unserved(request)
    named = fastest(request, device, frozenset(map(str, offered))) if isinstance(request, Request) else None
    return next((kernel for kernel in own if str(kernel) == named), own[0])


def for_any_size(kernel: Kernel) -> Kernel:
    """A kernel for a graph whose tokens may be any number: it has no name where the operator has others as well.

    The operator then chooses at each call. The one that is right, or fastest, for the tokens at hand may not serve as
    many others.
    """
    known = KERNELS.get((kernel.operator, kernel.device), ())
    alone = len(known) == 1 and known[0].sizes is None
    return kernel if alone else replace(kernel, name="")


def find(operator: str, device: str, name: str) -> Kernel:
    """The kernel of a name.

    Raises:
        RuntimeError: if there is none; the message says which there are.
    """
    known = KERNELS.get((operator, device), ())
    for kernel in known:
        if kernel.sizes is None and kernel.name == name:
            return kernel
        if kernel.sizes is not None and name.startswith(f"{kernel.name}-"):
            return kernel.sized(name)
    names = (kernel.name if kernel.sizes is None else f"{kernel.name}-..." for kernel in known)
    there_are = ", ".join(dict.fromkeys(names)) or "none"
    raise RuntimeError(f"tadp: {operator} has no kernel {name!r} on {device}; there are {there_are}")


def multiplies_codes(device: torch.device) -> bool:
    """Whether a device has a kernel that multiplies activations and weights of 8 bits."""
    request = Request(Level(8, 8), 1, 128, 128, 0, torch.bfloat16, device.type, architecture_of(device))
    return any(kernel.operator == "linear" for kernel in candidates(request))


def refuses(kernel: Kernel, request: AnyRequest) -> bool:
    """Whether no kernel of this name serves a request; a list may hold one twice, by different rules."""
    known = KERNELS.get((kernel.operator, kernel.device), ())
    named = [one for one in known if one.name == kernel.name] or [kernel]
    return all(one.obstacle(request) is not None for one in named)


def architecture_of(device: torch.device) -> str:
    """The instruction set of this CPU, an NVIDIA GPU's compute capability as "sm_90", or else the device's type."""
    if device.type == "cpu":
        return str(torch.ops.tadp.cpu_isa())
    if device.type != "cuda":
        return device.type
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"
