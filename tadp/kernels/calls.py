"""Calls of operators as values: which kernel, and on what, with tensors that have no memory.

A graph says all that a call's kernel depends on, but for what tensors hold. So kernels that compile at their first call
can be compiled before it, for this machine's GPU or for one that need not be there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from tadp.kernels.block_map import map_shape, query_block_on
from tadp.kernels.operators import unflatten
from tadp.kernels.registry import AnyRequest, AttentionRequest, Kernel, Request, candidates, find
from tadp.kernels.values import Codes


@dataclass(frozen=True)
class Call:
    """One call of an operator.

    Attributes:
        operator: "linear", "weight_only_linear" or "attention".
        kernel_name: of the kernel that is asked for; "" for the first that serves.
        values: what `Kernel.run` takes, in order; tensors are on the meta device.
        named: what it takes by name.
    """

    operator: str
    kernel_name: str
    values: tuple[Any, ...]
    named: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, operator: str, arguments: Mapping[str, Any]) -> "Call":
        """A call with the arguments of the operator's schema, by name; its tensors may be of any device."""
        if operator != "attention":
            *values, name = unflatten(operator, **arguments)
            return cls(operator, name, tuple(map(_without_memory, values)))
        values = [arguments.get(name) for name in ("q", "k", "v", "mask", "scale")]
        block_map = arguments.get("block_map")
        named = {} if block_map is None else {"block_map": _without_memory(block_map)}
        return cls(operator, arguments.get("kernel_name", ""), tuple(map(_without_memory, values)), named)

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of activations and result."""
        first = self.values[0]
        dtype: torch.dtype = self.values[2].dtype if isinstance(first, Codes) else first.dtype
        return dtype

    def request(self, device: str, architecture: str) -> AnyRequest:
        """What it asks of a device type and an architecture, see `Request`."""
        if self.operator == "attention":
            q, k, v, mask, _ = self.values
            return AttentionRequest(q, k, v, mask, 8, device, architecture, self.named.get("block_map"))
        activations, planes, _ = self.values
        return replace(Request.of(activations, planes, self.dtype), device=device, architecture=architecture)

    def kernel(self, device: str, architecture: str) -> Kernel | None:
        """The kernel that runs it on a device type and an architecture; None where no kernel serves."""
        if self.kernel_name:
            return find(self.operator, device, self.kernel_name)
        offered = candidates(self.request(device, architecture))
        return next((kernel for kernel in offered if kernel.operator == self.operator), None)

    def run(self, kernel: Kernel) -> None:
        """Let a kernel's launcher run on tensors without memory."""
        kernel.run(*self.values, **self.named)

    def on_gpu(self, dtype: torch.dtype) -> "Call":
        """What a model of a floating type calls on a GPU where this one, captured on a CPU, makes this call."""
        before = self.dtype
        values = tuple(_retyped(value, before, dtype) for value in self.values)
        named = dict(self.named)
        if "block_map" in named:
            named["block_map"] = named["block_map"].new_empty(map_shape(values[0], values[1], query_block_on("cuda")))
        return Call(self.operator, "", values, named)


def _without_memory(value: Any) -> Any:
    """The same on the meta device."""

    def like(tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")

    return _mapped(value, like)


def _retyped(value: Any, before: torch.dtype, after: torch.dtype) -> Any:
    """With tensors, and a type, of `after` in place of `before`; the scales of planes and codes keep theirs."""
    if value is before:
        return after
    if isinstance(value, torch.Tensor):
        return value.to(after) if value.dtype == before else value
    if isinstance(value, tuple) and hasattr(value, "bias"):
        return type(value)(*(_retyped(part, before, after) for part in value))
    return value


def _mapped(value: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """A value with all its tensors replaced."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_mapped(part, function) for part in value))
    return value
