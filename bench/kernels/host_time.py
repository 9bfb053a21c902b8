"""What does the processor do for a call of a GPU's kernel, before the GPU is asked?

The launchers of the kernels run under a driver that launches nothing, so the driver's own part of a launch is left out.
Beside them stands a call of `torch.nn.functional.linear` on a processor for a product that takes no time.
"""

import time
from collections.abc import Callable

import torch
from torch.nn import functional

from bench.record import parser, record
from tadp.interleaving import medians
from tadp.kernels import BitPlaneWeight, replay
from tadp.kernels.calls import Call
from tadp.kernels.operators import flatten
from tadp.kernels.triton.pretended import gpu_on_this_machine
from tadp.kernels.values import Codes, Epilogue

ARCHITECTURE = "sm_90"
CALLS = 50
"""In a row, for one measurement."""

PLAIN = "torch.nn.functional.linear on the CPU, 1 x 8 x 8"
COLUMNS, ROWS, TOKENS, FEW, DIM = 4096, 512, 1280, 8, 64


def main() -> None:
    """Measure all calls."""
    options = parser(__doc__)
    options.add_argument("--short", action="store_true", help="a few rounds")
    options.add_argument("--seconds", type=float, help="time for all measurements (default 30, with --short 5)")
    chosen = options.parse_args()
    with gpu_on_this_machine(ARCHITECTURE), torch.no_grad():
        rows = measure(chosen.seconds or (5.0 if chosen.short else 30.0))
    record("host_time: microseconds of the processor for a call", rows, chosen.json, architecture=ARCHITECTURE)


def measure(seconds: float) -> list[dict[str, object]]:
    """A row for each call: when everything is found out anew, and when a call of its kind was recorded."""
    calls = build()
    x, weight = torch.ones(1, 8), torch.ones(8, 8)
    timed: dict[str, Callable[[], object]] = {PLAIN: lambda: functional.linear(x, weight)}
    for name, call in calls.items():
        call()
        timed[f"{name}, again"] = call
        timed[f"{name}, anew"] = replay.off()(call)
    micros = {name: median * 1e6 for name, median in medians(timed, seconds, slow=None, timer=_processor_time).items()}
    rows: list[dict[str, object]] = [
        {"call": name, "found out anew": micros[f"{name}, anew"], "done again": micros[f"{name}, again"]}
        for name in calls
    ]
    return [*rows, {"call": PLAIN, "found out anew": None, "done again": micros[PLAIN]}]


def _processor_time(call: Callable[[], object]) -> float:
    """Seconds of the processor for a call, the mean of some in a row, in which other processes do not count."""
    call()
    start = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - start) / CALLS


def build() -> dict[str, Callable[[], torch.Tensor]]:
    """One callable for each kind of call, as a compiled graph makes it: of the operator, with the kernel's name."""
    weight = BitPlaneWeight.from_hp(torch.ones(ROWS, COLUMNS, dtype=torch.bfloat16))
    bias = torch.ones(ROWS, dtype=torch.bfloat16)
    planes, epilogue = weight.planes(8), Epilogue(bias, "gelu_tanh", torch.bfloat16)
    made: dict[str, Callable[[], torch.Tensor]] = {}
    for name, tokens in (("linear", TOKENS), ("linear, few tokens", FEW)):
        codes = Codes(*torch.ops.tadp.quantize(torch.ones(tokens, COLUMNS, dtype=torch.bfloat16)))
        made[name] = _product(Call("linear", "", (codes, planes, epilogue)))
    for name, tokens in (("weight-only", 256), ("weight-only, few tokens", FEW)):
        x = torch.ones(tokens, COLUMNS, dtype=torch.bfloat16)
        made[name] = _product(Call("weight_only_linear", "", (x, planes, epilogue)))
    q, k, v = (torch.ones(1, 4, TOKENS, DIM, dtype=torch.bfloat16) for _ in range(3))
    block_map = torch.ones(1, 4, TOKENS // 128, TOKENS // 64, dtype=torch.bool)
    for name, named in (("attention", {}), ("sparse attention", {"block_map": block_map})):
        kernel = Call("attention", "", (q, k, v, None, None), named).kernel("cpu", ARCHITECTURE)
        assert kernel is not None
        arguments = (q, k, v, None, None, 8, kernel.name, *named.values())
        made[name] = lambda arguments=arguments, target=kernel.target: target(*arguments)  # type: ignore[misc]
    return made


def _product(call: Call) -> Callable[[], torch.Tensor]:
    kernel = call.kernel("cpu", ARCHITECTURE)
    assert kernel is not None
    arguments, target = flatten(*call.values, kernel.name), kernel.target
    return lambda: target(*arguments)


if __name__ == "__main__":
    main()
