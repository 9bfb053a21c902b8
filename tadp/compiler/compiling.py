"""From a quantized graph to compiled code: for all sizes where it can be, else for those at hand."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import fx
from torch._inductor.exc import InductorError

from tadp import passes
from tadp.passes.decision import Decision
from tadp.passes.quantize import Quantized
from tadp.precision import ITSELF
from tadp.runtime.pieces import Sizes, Variant
from tadp.runtime.signals import At, signals_at


@dataclass(frozen=True)
class Made:
    """A compiled variant.

    Attributes:
        variant: the code, and what it is given.
        decisions: that are written into its graph.
        guards: which open sizes it holds for.
        only: the sizes that it was compiled for alone; None where `guards` tell.
    """

    variant: Variant
    decisions: tuple[Decision, ...]
    guards: passes.Guards
    only: Sizes | None = None

    def broken_by(self, sizes: Sizes) -> str | None:
        """Why the code does not hold for sizes; None where it does."""
        if self.only is not None:
            return None if sizes == self.only else f"sizes are {', '.join(map(str, self.only))}"
        return self.guards.broken_by(sizes) if sizes else None


def make(
    quantized: Quantized,
    sizes: Sizes,
    probing: bool,
    name: str,
    device: torch.device,
    options: Mapping[str, object],
    warn: Callable[[str], None],
    fixed: bool = False,
) -> Made:
    """Compile a quantized graph.

    Args:
        quantized: its examples have the sizes at hand.
        sizes: those, of a graph whose sizes are open; else none.
        probing: whether it is to measure as well.
        name: of the piece, for warnings.
        device: where it will run.
        options: of Inductor.
        warn: told of what cannot be compiled.
        fixed: whether it is to be compiled for the sizes at hand alone.
    """
    # A copy: the probe pass and Inductor both write into a graph that another variant is compiled from.
    graph = fx.GraphModule(quantized.graph, copy.deepcopy(quantized.graph.graph))
    probed = passes.probe(graph, _measures()) if probing else passes.Probed(graph, (), None)
    if fixed:
        probed = replace(probed, graph=passes.closed(probed.graph))
    lowered, only = _lower(probed.graph, sizes, name, device, options, warn)
    variant = Variant(
        function=lowered.function,
        values=tuple(source.index for source in quantized.sources if source.part == ITSELF),
        weights=tuple((s.index, s.part) for s in quantized.sources if s.part != ITSELF),
        readings=tuple((reading.signal, reading.layer) for reading in probed.readings),
        stream=probed.stream,
    )
    return Made(variant, quantized.decisions, lowered.guards, only)


def _lower(
    graph: fx.GraphModule,
    sizes: Sizes,
    name: str,
    device: torch.device,
    options: Mapping[str, object],
    warn: Callable[[str], None],
) -> tuple[passes.Lowered, Sizes | None]:
    """Compile a graph; what Inductor cannot compile runs as it is, at the same levels, and a warning says so."""
    given = dict(options)
    if passes.sizes_of(graph):
        try:
            return passes.lower(_copied(graph), device, given), None
        except Exception as error:  # whatever open sizes meet in the compiler, fixed ones may pass
            warn(f"{name} is compiled anew for each size: it cannot be for all sizes ({_first_line(error)})")
            graph = passes.closed(graph)
    try:
        return passes.lower(graph, device, given), sizes or None
    except InductorError as error:
        warn(f"{name} runs uncompiled, more slowly: Inductor cannot compile it ({_first_line(error)})")
        return passes.Lowered(graph.forward), None


def _copied(graph: fx.GraphModule) -> fx.GraphModule:
    return fx.GraphModule(graph, copy.deepcopy(graph.graph))


def _first_line(error: Exception) -> str:
    lines: Sequence[str] = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}" if not isinstance(error, InductorError) else lines[0]


def _measures() -> passes.Measures:
    """What a probe measures inside a piece, as the signals are declared."""
    inside = {at: {signal.name: signal.measure for signal in signals_at(at)} for at in At}
    return passes.Measures(inside[At.ATTENTION], inside[At.LINEAR_INPUT], inside[At.BLOCK])
