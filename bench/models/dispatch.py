"""What does dispatching cost, against calling the very same compiled pieces one after the other?"""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from diffusers import WanTransformer3DModel

import tadp
from bench.models.model import demo_inputs, demo_transformer
from bench.record import parser, record
from tadp import passes
from tadp.passes.lower import Lowered

STEPS = 20

Call = tuple[Callable[..., object], tuple[object, ...]]


def main() -> None:
    """Interleave forwards with the same ones whose blocks are bare calls of the compiled pieces.

    In several processes, as page faults and the placement of memory move the figure by 1 % from one to the next.
    """
    options = parser(__doc__)
    options.add_argument("--repeats", type=int, default=100)
    options.add_argument("--processes", type=int, default=5)
    chosen = options.parse_args()
    rows = []
    for policy in ("static:16", "static:8"):
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            runs = pool.starmap(measure, [(policy, chosen.repeats)] * chosen.processes, chunksize=1)
        overheads = [run["overhead"] for run in runs]
        rows.append(
            {
                "policy": policy,
                "forward, ms": statistics.median(run["forward"] for run in runs) * 1e3,
                "pieces called directly, ms": statistics.median(run["pieces"] for run in runs) * 1e3,
                "overhead, % (median)": statistics.median(overheads) * 100,
                "lowest": min(overheads) * 100,
                "highest": max(overheads) * 100,
            }
        )
    record("dispatch", rows, chosen.json, processes=chosen.processes, pairs=chosen.repeats)


def measure(policy: str, repeats: int) -> dict[str, float]:
    """Median seconds of both, and the median overhead of neighbouring pairs."""
    calls: list[Call] = []
    given: list[tuple[object, ...]] = []
    noting = [False]
    lower = passes.lower

    def lower_and_note(*arguments: Any) -> Lowered:
        lowered = lower(*arguments)

        def call(*values: object) -> Sequence[torch.Tensor]:
            if noting[0]:
                calls.append((lowered.function, values))
            return lowered.function(*values)

        return replace(lowered, function=call)

    passes.lower = lower_and_note
    try:
        model, inputs = tadp.compile(demo_transformer(), policy=policy, calibration=None), demo_inputs()
        model(**inputs)
    finally:
        passes.lower = lower
    hooks = [block.register_forward_pre_hook(lambda _, values: given.append(values)) for block in model.blocks]
    model(**inputs)  # captured anew: hooks are part of what is guarded
    noting[0] = True
    given.clear()
    model(**inputs)
    noting[0] = False
    for hook in hooks:
        hook.remove()
    bare = torch.nn.ModuleList(_Bare(*call, values) for call, values in zip(calls, given, strict=True))
    calls.clear()
    given.clear()
    forwards, pieces = [], []
    for repeat in range(repeats):
        inputs["timestep"] = torch.tensor([1000.0 - 50 * (repeat % STEPS)])  # as a sampler walks
        for times, blocks in _alternate(repeat, (forwards, model.blocks), (pieces, bare)):
            with _blocks(model, blocks):
                run = model if times is forwards else _without_controller(model)
                started = time.perf_counter()
                run(**inputs)
                times.append(time.perf_counter() - started)
    overheads = [forward / piece - 1 for forward, piece in zip(forwards, pieces, strict=True)]
    return {
        "forward": statistics.median(forwards),
        "pieces": statistics.median(pieces),
        "overhead": statistics.median(overheads),
    }


def _alternate(repeat: int, first: object, second: object) -> tuple[Any, Any]:
    """Neither is always the one that runs in the other's wake."""
    return (first, second) if repeat % 2 else (second, first)


def _without_controller(model: WanTransformer3DModel) -> Callable[..., object]:
    return torch.no_grad()(lambda **inputs: type(model).forward(model, **inputs))


@contextmanager
def _blocks(model: WanTransformer3DModel, blocks: torch.nn.ModuleList) -> Iterator[None]:
    """Let the model's own forward call these blocks."""
    own = model.blocks
    model.blocks = blocks
    try:
        yield
    finally:
        model.blocks = own


class _Bare(torch.nn.Module):
    """Calls a compiled piece: with this call's tensors where the noted call took the block's, else as noted."""

    def __init__(self, function: Callable[..., object], noted: tuple[object, ...], given: tuple[object, ...]) -> None:
        super().__init__()
        self.function = function
        positions = {id(value): index for index, value in enumerate(_flat(given))}
        self.sources = [(slot, positions[id(value)]) for slot, value in enumerate(noted) if id(value) in positions]
        # Only weights are kept: activations kept alive would pin the heap, and spare these calls the page faults that
        # the others pay.
        self.noted = [None if id(value) in positions else value for value in noted]

    def forward(self, *given: object) -> object:
        arguments: list[object] = [*self.noted]
        values = _flat(given)
        for slot, position in self.sources:
            arguments[slot] = values[position]
        return self.function(*arguments)[0]


def _flat(values: tuple[object, ...]) -> list[object]:
    return [part for value in values for part in (value if isinstance(value, tuple) else (value,))]


if __name__ == "__main__":
    main()
