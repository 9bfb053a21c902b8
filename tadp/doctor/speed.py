"""Whether kernels are fast: the one that would run, against torch in the better of bfloat16 and float32."""

import os
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch.nn import functional

from tadp.doctor.findings import Check, Finding, Verdict
from tadp.doctor.numerics import REPORT
from tadp.interleaving import medians
from tadp.kernels import reference
from tadp.kernels.bitplanes import BitPlaneWeight
from tadp.kernels.devices import attention_is_faster
from tadp.kernels.registry import AttentionRequest, Request, architecture_of, choose
from tadp.kernels.table import device_name, lookup, table_path
from tadp.kernels.tuning import apply, timer_of
from tadp.precision import Level

TYPES = (torch.bfloat16, torch.float32)
NOISE = 1.05
"""How many times as long as torch a kernel may take and still pass for as fast."""

Call = Callable[[], object]


def speed_checks(device: torch.device, seconds: float) -> list[Check]:
    """Checks of linear layers at three widths, weight-only with few tokens, and attention; `seconds` for each."""
    on_cpu = device.type == "cpu"
    tokens, width, keys = (1024, 1536, 1536) if on_cpu else (8192, 5120, 8192)
    found = [
        *((f"linear at {level}, {tokens} x {width} -> {width}", tokens, level) for level in ("8", "6", "4")),
        (f"linear at w8a16, 4 x {width} -> {width}", 4, "w8a16"),
    ]
    checks = [
        Check(
            f"{name} ({device})",
            partial(_linear, f"{name} ({device})", device, (count, width), level, seconds),
            REPORT,
        )
        for name, count, level in found
    ]
    name = f"attention at 8, 12 heads of 128, {keys} tokens ({device})"
    return [*checks, Check(name, partial(_attention, name, device, keys, seconds), REPORT)]


def judged(subject: str, device: torch.device, times: Mapping[str, float], own: str) -> Finding:
    """What the seconds of torch's candidates and of one kernel come to."""
    rival, best = min(((name, taken) for name, taken in times.items() if name != own), key=lambda pair: pair[1])
    taken = f"{own} takes {1e3 * times[own]:.3g} ms, {rival} {1e3 * best:.3g} ms"
    detail = f"{taken}: {best / times[own]:.2f} times as fast"
    if times[own] <= NOISE * best:
        return Finding(Verdict.OK, subject, detail)
    return Finding(Verdict.SLOWER, subject, detail, _way_out(device, own))


def _way_out(device: torch.device, own: str) -> str:
    forced = os.environ.get("TADP_CPU_ISA")
    if device.type == "cpu" and forced:
        return f"TADP_CPU_ISA={forced} forces an instruction set: unset it"
    if own.startswith("attention"):
        by_itself = "" if attention_is_faster(device) else "; complexity does so by itself here"
        return f"leave attention at 16 bits: take a policy without +attention{by_itself}"
    if not table_path(device_name(device)).exists():
        return "let measurements choose kernels: tadp bench --tune"
    return "tuned kernels are slower too: this level saves memory here, not time; static:16 is as fast as torch"


def _linear(subject: str, device: torch.device, size: tuple[int, int], level: str, seconds: float) -> Finding:
    tokens, width = size
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, width, generator=generator).to(device)
    plain = (torch.randn(width, width, generator=generator) * 0.05).to(device)
    calls: dict[str, Call] = {_name(dtype): partial(functional.linear, x.to(dtype), plain.to(dtype)) for dtype in TYPES}
    parsed = Level.parse(level)
    dtype = _better(calls, device, seconds / 4)
    request = Request(
        level=parsed,
        tokens=tokens,
        columns=width,
        rows=width,
        groups=0,
        dtype=dtype,
        device=device.type,
        architecture=architecture_of(device),
    )
    kernel = choose(request, device, lookup)
    if isinstance(kernel, str):
        return Finding(Verdict.NOT_SERVED, subject, kernel, "such layers stay at 16 bits")
    weight = BitPlaneWeight.from_hp(plain.to(dtype))
    # What graphs for a GPU quantize with, though there it fuses into what comes before.
    quantize = torch.ops.tadp.quantize if device.type == "cpu" else torch.compile(reference.quantize, dynamic=False)
    calls[str(kernel)] = partial(apply, kernel, parsed, x.to(dtype), weight, quantize=quantize)
    return judged(subject, device, medians(calls, seconds, timer=timer_of(device), least=3), str(kernel))


def _attention(subject: str, device: torch.device, keys: int, seconds: float) -> Finding:
    generator = torch.Generator().manual_seed(0)
    size = (1, keys, 12, 128)
    q, k, v = (torch.randn(size, generator=generator).to(device).transpose(1, 2) for _ in range(3))
    sdpa = functional.scaled_dot_product_attention
    calls: dict[str, Call] = {_name(each): partial(sdpa, q.to(each), k.to(each), v.to(each)) for each in TYPES}
    dtype = _better(calls, device, seconds / 4)
    q, k, v = (part.to(dtype) for part in (q, k, v))
    kernel = choose(AttentionRequest.of(q, k, v, None, 8), device)
    if isinstance(kernel, str):
        return Finding(Verdict.NOT_SERVED, subject, kernel, "attention stays at 16 bits")
    calls[str(kernel)] = partial(kernel.run, q, k, v, None, None)
    return judged(subject, device, medians(calls, seconds, timer=timer_of(device), least=3), str(kernel))


def _better(calls: Mapping[str, Call], device: torch.device, seconds: float) -> torch.dtype:
    """The type in which torch is faster."""
    times = medians(calls, seconds, timer=timer_of(device))
    return min(TYPES, key=lambda dtype: times[_name(dtype)])


def _name(dtype: torch.dtype) -> str:
    return f"torch in {str(dtype).removeprefix('torch.')}"
