"""Which kernels serve each operator on a device, in the order in which they are asked."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from tadp.doctor.findings import Finding, Verdict
from tadp.kernels.registry import KERNELS, AnyRequest, AttentionRequest, Request, architecture_of
from tadp.precision import Level

TOKENS, ROWS, COLUMNS = 1024, 1536, 1536
FEW = 4
"""Tokens of layers that see one vector a sample, such as those of a modulation."""


@dataclass(frozen=True)
class Served:
    """One kind of product on a device.

    Attributes:
        device: where.
        product: what is to run.
        kernels: names of those that serve, the first is taken unless measurements say otherwise.
        reasons: why others do not serve, by name.
    """

    device: str
    product: str
    kernels: tuple[str, ...]
    reasons: tuple[tuple[str, str], ...]

    def finding(self) -> Finding | None:
        """That nothing serves; None where something does."""
        if self.kernels:
            return None
        detail = "; ".join(f"{name}: {reason}" for name, reason in self.reasons) or "there is no kernel for this device"
        way_out = "install Triton, or let such layers stay at 16 bits" if self.device != "cpu" else "build tadp anew"
        return Finding(Verdict.NOT_SERVED, f"{self.product} ({self.device})", detail, way_out)


def served_on(device: torch.device) -> list[Served]:
    """What serves each kind of product on a device."""
    return [_served(device, product, request) for product, request in _requests(device)]


def _requests(device: torch.device) -> Iterator[tuple[str, AnyRequest]]:
    architecture = architecture_of(device)
    for level in ("8", "6", "4", "6m", "w8a16", "w6a16", "w4a16"):
        for tokens in (TOKENS, FEW):
            request = Request(
                level=Level.parse(level),
                tokens=tokens,
                columns=COLUMNS,
                rows=ROWS,
                groups=0,
                dtype=torch.bfloat16,
                device=device.type,
                architecture=architecture,
            )
            yield f"linear at {level}, {tokens} tokens", request
    q = torch.empty((1, TOKENS, 12, 128), dtype=torch.bfloat16, device="meta").transpose(1, 2)
    block_map = torch.empty((1, 12, TOKENS // (64 if device.type == "cpu" else 128), TOKENS // 64), device="meta")
    for name, chosen in (("attention at 8", None), ("block-sparse attention at 8", block_map.bool())):
        yield name, AttentionRequest(q, q, q, None, 8, device.type, architecture, chosen)


def _served(device: torch.device, product: str, request: AnyRequest) -> Served:
    names: dict[str, None] = {}
    reasons: dict[str, str] = {}
    for operator in request.operators:
        for kernel in KERNELS.get((operator, device.type), ()):
            obstacle = kernel.obstacle(request)
            if obstacle is not None:
                reasons[str(kernel)] = obstacle
            elif kernel.sizes is None:
                names[str(kernel)] = None
            else:
                names[f"{operator}:{kernel.sizes(request)[0]}"] = None
    left = tuple((name, reason) for name, reason in reasons.items() if name not in names)
    return Served(str(device), product, tuple(names), left)
