"""Pass before all others on graphs of any size: examples get the sizes of the shape at hand, and say which are open.

Dynamo stands a symbol in the place of each size that may differ in the next forward. Whoever compares such a size, or
asks for its value, adds a guard, and the graph holds for fewer sizes or for one. So `settle` takes symbols out of all
examples: passes see plain numbers, those of the shape at hand, and can specialise nothing. What a number stands for is
kept beside it, as an expression, for `tadp.passes.lower`, which compiles the graph for all sizes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import sympy
import torch
from torch import fx
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils._sympy.symbol import SymT, symbol_is_type
from torch.utils._sympy.value_ranges import ValueRanges

from tadp.passes.operations import EXAMPLE

_OPEN, _STORAGE, _INPUT, _COMPUTED = "tadp_open", "tadp_storage", "tadp_symbol", "tadp_computed"

Size: TypeAlias = int | sympy.Expr
"""A size or a stride: a number, or an expression of symbols."""


class UnknownSizesError(ValueError):
    """A graph holds sizes that follow from no input's shape, such as those that depend on what tensors hold."""


@dataclass(frozen=True)
class Open:
    """What the numbers of an example stand for.

    Attributes:
        sizes: of a tensor, each of its sizes; else the number itself.
        strides: of a tensor; None for a number.
    """

    sizes: tuple[Size, ...]
    strides: tuple[Size, ...] | None

    @property
    def is_open(self) -> bool:
        """Whether any of it may differ in the next forward."""
        return any(isinstance(size, sympy.Expr) for size in (*self.sizes, *(self.strides or ())))


@dataclass(frozen=True)
class Symbol:
    """An input of a graph that is a size.

    Attributes:
        symbol: what stands for it in expressions.
        name: of the input, and of the dimension, as "hidden_states.size()[1]".
        range: what it may be, which Dynamo's guards see to.
    """

    symbol: sympy.Symbol
    name: str
    range: ValueRanges[sympy.Expr]


def settle(graph: fx.GraphModule) -> fx.GraphModule:
    """Take symbols out of the examples of a graph from Dynamo, in place, and keep what they stood for.

    A graph without symbols stays as it is.

    Raises:
        UnknownSizesError: for sizes that no input of the graph tells.
    """
    nodes = list(graph.graph.nodes)
    if not any(_is_symbolic(node.meta.get(EXAMPLE)) for node in nodes):
        return graph
    mode = FakeTensorMode()
    storages: dict[int, int] = {}
    for node in nodes:  # all before any is replaced: addresses of storages that are let go are given out again
        storage = _storage_of(node.meta.get(EXAMPLE))
        if storage is not None:
            node.meta[_STORAGE] = storages.setdefault(storage, len(storages))
    sources: dict[sympy.Expr, fx.Node] = {}
    for node in graph.graph.find_nodes(op="placeholder"):
        example = node.meta.get(EXAMPLE)
        if isinstance(example, torch.SymInt) and isinstance(example.node.expr, sympy.Symbol):
            symbol = example.node.expr
            node.meta[_INPUT] = Symbol(symbol, _name(node), example.node.shape_env.var_to_range[symbol])
            sources.setdefault(symbol, node)
    constants = {node: float(_value(found)) for node in nodes if (found := _fixed_fraction(node)) is not None}
    for node in nodes:
        node.args = fx.node.map_aggregate(node.args, lambda value: _settled_argument(value, sources, constants))
        node.kwargs = fx.node.map_aggregate(node.kwargs, lambda value: _settled_argument(value, sources, constants))
        example = node.meta.get(EXAMPLE)
        opened = _opened(example)
        if opened is not None and opened.is_open:
            node.meta[_OPEN] = opened
        if not symbols_of(node) <= sources.keys():
            raise UnknownSizesError(f"the shape of {node.name} is {shape_of(node)}, which no input tells")
        if example is not None:
            node.meta[EXAMPLE] = _settled(example, mode)
        if isinstance(example, (torch.SymFloat, torch.SymBool)):
            node.meta[_COMPUTED] = True
    for node in reversed(list(constants)):
        graph.graph.erase_node(node)
    return graph


def at_sizes(graph: fx.GraphModule, sizes: Sequence[int]) -> fx.GraphModule:
    """A copy of a settled graph, whose examples are those of other sizes, one for each of its `inputs_of`."""
    found = inputs_of(graph)
    values = {node.meta[_INPUT].symbol: size for node, size in zip(found, sizes, strict=True)}
    copied = fx.Graph()
    copied.output(copied.graph_copy(graph.graph, {}))
    mode = FakeTensorMode()
    for node in copied.nodes:
        opened = open_of(node)
        if opened is not None and EXAMPLE in node.meta:
            node.meta[EXAMPLE] = _example_at(node.meta[EXAMPLE], opened, values, mode)
    return fx.GraphModule(graph, copied)


def closed(graph: fx.GraphModule) -> fx.GraphModule:
    """A copy of a settled graph that holds for the sizes of its examples alone."""
    copied = fx.Graph()
    copied.output(copied.graph_copy(graph.graph, {}))
    for node in copied.nodes:
        node.meta.pop(_OPEN, None)
        node.meta.pop(_INPUT, None)
    return fx.GraphModule(graph, copied)


def open_of(node: fx.Node) -> Open | None:
    """What the numbers of a node's example stand for; None where all of them are what they are."""
    return cast(Open | None, node.meta.get(_OPEN))


def symbol_of(node: fx.Node) -> Symbol | None:
    """The symbol that an input of a graph gives the value of; None for other inputs."""
    return cast(Symbol | None, node.meta.get(_INPUT))


def inputs_of(graph: fx.GraphModule) -> list[fx.Node]:
    """The inputs of a settled graph that are sizes, in order, each symbol once."""
    found: dict[sympy.Symbol, fx.Node] = {}
    for node in graph.graph.find_nodes(op="placeholder"):
        symbol = symbol_of(node)
        if symbol is not None:
            found.setdefault(symbol.symbol, node)
    return list(found.values())


def sizes_of(graph: fx.GraphModule) -> tuple[int, ...]:
    """The sizes that the examples of a settled graph have, one for each of its `inputs_of`."""
    return tuple(node.meta[EXAMPLE] for node in inputs_of(graph))


def symbols_of(node: fx.Node) -> frozenset[sympy.Symbol]:
    """The symbols that the example of a node depends on."""
    opened = open_of(node)
    if opened is None:
        return frozenset()
    sizes = (*opened.sizes, *(opened.strides or ()))
    return frozenset().union(*(size.free_symbols for size in sizes if isinstance(size, sympy.Expr)))


def has_open_rows(node: fx.Node) -> bool:
    """Whether any size of a tensor but the last one may differ in the next forward."""
    opened = open_of(node)
    return opened is not None and any(isinstance(size, sympy.Expr) for size in opened.sizes[:-1])


def shape_of(node: fx.Node) -> tuple[Size, ...] | None:
    """The shape of a tensor, with expressions where it is open; None where no example is known."""
    example, opened = node.meta.get(EXAMPLE), open_of(node)
    if not isinstance(example, torch.Tensor):
        return None
    return tuple(example.shape) if opened is None else opened.sizes


def storage_of(node: fx.Node) -> int | None:
    """What tells views of one tensor in a graph from other tensors; None where no example is known."""
    found = node.meta.get(_STORAGE)
    return found if isinstance(found, int) else _storage_of(node.meta.get(EXAMPLE))


def contiguous(opened: Open | None) -> Open | None:
    """The same sizes, laid out contiguously."""
    if opened is None or opened.strides is None:
        return opened
    strides: list[Size] = []
    step: Size = 1
    for size in reversed(opened.sizes):
        strides.append(step)
        step = step * size
    return Open(opened.sizes, tuple(reversed(strides)))


def check_can_cross(node: fx.Node) -> None:
    """That a value may be an input of a piece: compiled code would take a number that is no size for a constant.

    Raises:
        UnknownSizesError: for a fraction or a truth that is computed from sizes.
    """
    if node.meta.get(_COMPUTED):
        raise UnknownSizesError(f"{node.name}, a number that is computed from sizes, is handed from piece to piece")


def set_open(node: fx.Node, opened: Open | None) -> None:
    """Say what the numbers of a node's example stand for."""
    node.meta.pop(_OPEN, None)
    if opened is not None:
        node.meta[_OPEN] = opened


def copy_origin(source: fx.Node, copied: fx.Node) -> None:
    """Let an input of another graph stand for the same symbol, or lie in the same memory."""
    copied.meta.update({key: source.meta[key] for key in (_INPUT, _STORAGE) if key in source.meta})


def evaluated(size: Size, values: Mapping[sympy.Symbol, int]) -> int:
    """A size where symbols have these values."""
    return size if isinstance(size, int) else int(size.xreplace({s: sympy.Integer(v) for s, v in values.items()}))


def _example_at(example: Any, opened: Open, values: Mapping[sympy.Symbol, int], mode: FakeTensorMode) -> Any:
    sizes = [evaluated(size, values) for size in opened.sizes]
    if opened.strides is None:
        return sizes[0]
    strides = [evaluated(stride, values) for stride in opened.strides]
    with mode:
        return torch.empty_strided(sizes, strides, dtype=example.dtype, device=example.device)


def _fixed_fraction(node: fx.Node) -> torch.SymFloat | None:
    """What a node reads from an input that Dynamo takes for open, though a guard has fixed it, such as an epsilon."""
    example = node.meta.get(EXAMPLE)
    reads = node.op == "call_method" and node.target == "item"
    return example if reads and isinstance(example, torch.SymFloat) and example.node.expr.is_number else None


def _settled_argument(value: Any, sources: Mapping[sympy.Expr, fx.Node], constants: Mapping[fx.Node, float]) -> Any:
    """An argument of a node, with the input in the place of a symbol, and a number in that of a node that reads it."""
    if isinstance(value, fx.Node):
        return constants.get(value, value)
    if isinstance(value, (torch.SymFloat, torch.SymBool)):
        raise UnknownSizesError(f"an operation takes {value}, which no input is")
    if not isinstance(value, torch.SymInt):
        return value
    size = _size(value)
    if isinstance(size, int):
        return size
    if size not in sources:
        raise UnknownSizesError(f"an operation takes {size}, which no input is")
    return sources[size]


def _opened(example: object) -> Open | None:
    if isinstance(example, torch.SymInt):
        return Open((_size(example),), None)
    if isinstance(example, torch.Tensor) and not is_traceable_wrapper_subclass(example):
        if example.layout != torch.strided:
            return None
        return Open(tuple(map(_size, example.shape)), tuple(map(_size, example.stride())))
    return None


def _settled(example: Any, mode: FakeTensorMode) -> Any:
    """An example with plain numbers; tuples of examples as tuples of such."""
    if isinstance(example, (tuple, list)):
        return type(example)(_settled(one, mode) for one in example) if _is_symbolic(example) else example
    if isinstance(example, torch.SymInt):
        return _hint(example)
    if isinstance(example, torch.SymFloat):
        return float(_value(example))
    if isinstance(example, torch.SymBool):
        return bool(_value(example))
    if not isinstance(example, torch.Tensor) or not _is_symbolic(example):
        return example
    with mode:
        return torch.empty_strided(
            tuple(map(_hint, example.shape)),
            tuple(map(_hint, example.stride())),
            dtype=example.dtype,
            device=example.device,
        )


def _size(value: int | torch.SymInt) -> Size:
    if not isinstance(value, torch.SymInt):
        return value
    expression = value.node.expr
    return int(expression) if isinstance(expression, sympy.Integer) else cast(sympy.Expr, expression)


def _hint(value: int | torch.SymInt) -> int:
    """The number at hand. Asks the symbols themselves: to ask for an int would be a guard."""
    return int(_value(value)) if isinstance(value, torch.SymInt) else value


def _value(value: torch.SymInt | torch.SymFloat | torch.SymBool) -> sympy.Basic:
    given = value.node.expr.free_symbols
    if any(symbol_is_type(symbol, (SymT.FLOAT, SymT.UNBACKED_FLOAT)) for symbol in given):
        raise UnknownSizesError("it is given a fraction that may differ from call to call")
    found = value.node.expr.xreplace(value.node.shape_env.backed_var_to_val)
    if found.free_symbols:
        raise UnknownSizesError(f"its sizes depend on what tensors hold: {value}")
    return found


def _is_symbolic(example: object) -> bool:
    if isinstance(example, (tuple, list)):
        return any(map(_is_symbolic, example))
    if isinstance(example, torch.Tensor):
        strides = example.stride() if example.layout == torch.strided else ()
        return any(isinstance(size, torch.SymInt) for size in (*example.shape, *strides))
    return isinstance(example, (torch.SymInt, torch.SymFloat, torch.SymBool))


def _storage_of(example: object) -> int | None:
    if not isinstance(example, torch.Tensor) or is_traceable_wrapper_subclass(example):
        return None
    try:
        return example.untyped_storage()._cdata
    except NotImplementedError:  # one sample of a batch, inside of vmap
        return None


def _name(node: fx.Node) -> str:
    """Where an input comes from: Dynamo's ``L['hidden_states'].size()[1]`` as ``hidden_states.size()[1]``."""
    argument = node.meta.get("grapharg")
    source = getattr(getattr(argument, "source", None), "name", None)
    return re.sub(r"^L\['(\w+)'\]", r"\1", source) if isinstance(source, str) else node.name
