"""Last pass: one Inductor compilation for a graph whose inputs are known by shape and type."""

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any, cast

import sympy
import torch
from torch import fx
from torch._dynamo.source import ConstantSource
from torch._guards import TracingContext, tracing
from torch._inductor.compile_fx import compile_fx
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv

from tadp.passes.operations import EXAMPLE
from tadp.passes.symbols import Size, Symbol, inputs_of, open_of, symbol_of
from tadp.version import VERSION

Compiled = Callable[..., Sequence[torch.Tensor]]

_ON_GPUS: dict[str, object] = {"realize_reads_threshold": 8}
"""A modulated norm has more reads than Inductor computes twice by default; stored in float32 in front of its quantizer,
it costs a block of Wan2.1-14B a third of all bytes that its kernels write (`make gpu-dry-run`)."""


@dataclass(frozen=True)
class Guards:
    """For which sizes compiled code holds, where the sizes of its graph are open.

    Attributes:
        symbols: the sizes, in the order of `tadp.passes.symbols.inputs_of`.
        conditions: what must be true, in these symbols.
    """

    symbols: tuple[Symbol, ...] = ()
    conditions: tuple[sympy.Basic, ...] = ()

    def broken_by(self, sizes: Sequence[int]) -> str | None:
        """The first condition that sizes do not meet, in words; None where the code holds for them."""
        if not self.symbols:
            return None
        values = {one.symbol: sympy.Integer(size) for one, size in zip(self.symbols, sizes, strict=True)}
        for one, size in zip(self.symbols, sizes, strict=True):
            if size not in one.range:
                return f"{one.range.lower} <= {one.name} <= {one.range.upper}"
        for condition in self.conditions:
            if condition.xreplace(values) != sympy.true:
                return str(condition.xreplace({one.symbol: sympy.Symbol(one.name) for one in self.symbols}))
        return None


@dataclass(frozen=True)
class Lowered:
    """Compiled code, and for which sizes it holds."""

    function: Compiled
    guards: Guards = Guards()


def lower(graph: fx.GraphModule, device: torch.device, options: dict[str, object] | None = None) -> Lowered:
    """Compile a graph for inference, for all sizes where its sizes are open.

    The graph is compiled on its own, not as a part of whatever Dynamo traces at the moment, so that variants can be
    added at any time. So Dynamo does not check what the compiler takes for granted of sizes: the caller does.

    Args:
        graph: placeholders carry example tensors; those on the meta device stand for tensors on `device`.
        device: where the graph will run.
        options: Inductor options, as `torch.compile` takes them.
    """
    environment = ShapeEnv()
    mode = FakeTensorMode(shape_env=environment, static_shapes=True)  # without one Inductor's disk cache is bypassed
    symbols = _symbols(graph, environment)
    with mode:
        inputs = [_open_input(node, device, environment, symbols) for node in graph.graph.find_nodes(op="placeholder")]
    # Graphs on disk hold calls of this package's operators, so those of another version must not be found.
    tag = f"{torch.compiler.config.cache_key_tag}tadp-{VERSION}"
    settings = torch.compiler.config.patch(cache_key_tag=tag)  # type: ignore[attr-defined]
    with torch.no_grad(), tracing(TracingContext(mode)), settings:
        own = _ON_GPUS if device.type == "cuda" else {}
        patches = {"unsafe_marked_cacheable_functions": _cacheable_functions(graph), **own, **(options or {})}
        function = cast(Compiled, compile_fx(graph, inputs, config_patches=patches))
    return Lowered(function, _guards(graph, environment, symbols))


def example_inputs(graph: fx.GraphModule, device: torch.device) -> list[Any]:
    """Tensors like a graph's inputs: those of its placeholders' examples that are on the meta device on `device`."""
    return [_like(node.meta[EXAMPLE], device) for node in graph.graph.find_nodes(op="placeholder")]


def _symbols(graph: fx.GraphModule, environment: ShapeEnv) -> dict[sympy.Basic, sympy.Basic]:
    """Symbols of an environment's own for those of a graph: Dynamo's is closed once the graph is captured."""
    made: dict[sympy.Basic, sympy.Basic] = {}
    for index, node in enumerate(inputs_of(graph)):
        found = symbol_of(node)
        assert found is not None
        not_negative, above_one = found.range.lower >= 0, found.range.lower > 1
        symbol = environment.create_symbol(
            node.meta[EXAMPLE],
            ConstantSource(f"size_{index}"),
            DimDynamic.DYNAMIC,
            positive=True if not_negative and found.range.lower > 0 else None,
            do_not_specialize_zero_one=not above_one,
        )
        environment.var_to_range[cast(sympy.Symbol, symbol)] = found.range
        made[found.symbol] = symbol
    return made


def _open_input(
    node: fx.Node, device: torch.device, environment: ShapeEnv, symbols: Mapping[sympy.Basic, sympy.Basic]
) -> Any:
    """What stands for an input: a number as it is, a tensor without memory, with symbols where its sizes are open."""
    example, opened = node.meta[EXAMPLE], open_of(node)
    if opened is None:
        return _like(example, device)

    def number(size: Size, hint: int) -> Any:
        return size if isinstance(size, int) else environment.create_symintnode(size.xreplace(symbols), hint=hint)

    if opened.strides is None:
        return number(opened.sizes[0], example)
    sizes = tuple(map(number, opened.sizes, example.shape))
    strides = tuple(map(number, opened.strides, example.stride()))
    return torch.empty_strided(sizes, strides, dtype=example.dtype, device=_target(example, device))


def _guards(graph: fx.GraphModule, environment: ShapeEnv, symbols: Mapping[sympy.Basic, sympy.Basic]) -> Guards:
    """What the compiler asked of sizes while it ran, in the graph's own symbols.

    It also makes symbols of plain numbers among the inputs; these are the same in every call.
    """
    own = set(symbols.values())
    back = {mine: theirs for theirs, mine in symbols.items()}
    back |= {other: value for other, value in environment.backed_var_to_val.items() if other not in own}
    conditions = dict.fromkeys(guard.expr.xreplace(back) for guard in environment.guards) if symbols else {}
    found = (symbol_of(node) for node in inputs_of(graph))
    return Guards(tuple(symbol for symbol in found if symbol is not None), tuple(conditions))


def _cacheable_functions(graph: fx.GraphModule) -> dict[str, str]:
    """The Python functions that a probe calls, each with a hash of the file it comes from: they may be found on disk.

    PyTorch trusts its own functions only, as a cached graph would outlive a change of any other.
    """
    found: dict[str, str] = {}
    for node in graph.graph.nodes:
        if isinstance(node.target, FunctionType) and not node.target.__module__.startswith("torch"):
            source = inspect.getsourcefile(node.target)
            if source is not None:
                digest = hashlib.sha256(Path(source).read_bytes()).hexdigest()
                found[f"{node.target.__module__}.{node.target.__name__}"] = digest
    return found


def _like(example: object, device: torch.device) -> object:
    if not isinstance(example, torch.Tensor):
        return example
    return torch.empty_strided(example.shape, example.stride(), dtype=example.dtype, device=_target(example, device))


def _target(example: torch.Tensor, device: torch.device) -> torch.device:
    return device if example.device.type == "meta" else example.device
