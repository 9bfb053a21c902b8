"""Third pass: cut the captured graph at block edges into pieces that are compiled on their own.

Nodes keep their order; every maximal run of nodes of one block, or of none, is a piece, so that pieces only depend on
earlier ones. Weights enter a piece as inputs, hence equal blocks give equal graphs and share one structure.
"""

import hashlib
import operator
from collections.abc import Iterator
from dataclasses import dataclass

import sympy
import torch
from torch import fx

from tadp.kernels.bitplanes import BitPlaneWeight
from tadp.passes.annotate import annotation
from tadp.passes.operations import EXAMPLE, is_linear
from tadp.passes.symbols import (
    check_can_cross,
    contiguous,
    copy_origin,
    inputs_of,
    open_of,
    set_open,
    symbol_of,
    symbols_of,
)


@dataclass(frozen=True)
class Piece:
    """A subgraph to be compiled on its own.

    Attributes:
        name: the block's path, or ``before``, ``between``, ``after``; the second part of a block is ``blocks.3#2``.
        block: the block's path, None outside blocks.
        graph: takes the values `inputs` and returns a tuple, the values `outputs`.
        inputs: slots of the environment that the graph reads. The first slots of an environment are the captured
            graph's own inputs, the ones after that are filled by pieces.
        outputs: slots that the graph's outputs go to.
        dead: slots that nothing reads once this piece has run.
        layers: of every linear whose weight is an input of the graph, the layer and the slot of its weight.
        weight: slot of the first linear's weight, by which a block is told from another that runs the same graph; None
            where no linear has its weight as an input.
        structure: hash of the graph with the shapes and types of its inputs; pieces with equal ones share variants.
        symbols: slots of the sizes that may differ from call to call, inputs of the captured graph, in the order in
            which `tadp.passes.symbols.inputs_of` finds them in this graph; none where all sizes are fixed.
    """

    name: str
    block: str | None
    graph: fx.GraphModule
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    dead: tuple[int, ...]
    layers: tuple[tuple[str, int], ...]
    weight: int | None
    structure: str
    symbols: tuple[int, ...] = ()


@dataclass(frozen=True)
class Partition:
    """The pieces of a captured graph in running order, the size of their environment and what the graph returns."""

    pieces: tuple[Piece, ...]
    slots: int
    result: object

    def collect(self, environment: list[object]) -> object:
        """The captured graph's return value, from a filled environment."""
        return _fill(self.result, environment)


@dataclass(frozen=True)
class Slot:
    """Stands for an environment slot inside the return value of a captured graph."""

    index: int


def partition(graph: fx.GraphModule) -> Partition:
    """Cut an annotated graph, whose sizes are settled, into pieces.

    Raises:
        UnknownSizesError: where pieces would hand each other numbers that depend on sizes and are none.
    """
    runs = _runs(graph)
    symbols = {symbol.symbol: node for node in inputs_of(graph) if (symbol := symbol_of(node)) is not None}
    home = {node: index for index, (_, nodes) in enumerate(runs) for node in nodes}
    slots = {node: index for index, node in enumerate(graph.graph.find_nodes(op="placeholder"))}
    crossing: list[list[fx.Node]] = [[] for _ in runs]
    last_use: dict[fx.Node, int] = {}
    returned = graph.graph.output_node().args[0]
    for node, index in home.items():
        users = [home.get(user, len(runs)) for user in node.users]
        if any(user != index for user in users):
            crossing[index].append(node)
            slots[node] = len(slots)
            last_use[node] = max(users)
    pieces = []
    for index, ((block, nodes), name) in enumerate(zip(runs, _names(runs), strict=True)):
        inputs = _with_symbols(_external_inputs(nodes), nodes, symbols)
        module = _subgraph(graph, inputs, nodes, crossing[index])
        dead = tuple(slots[node] for node, user in last_use.items() if user == index)
        pieces.append(
            Piece(
                name=name,
                block=block,
                graph=module,
                inputs=tuple(slots[node] for node in inputs),
                outputs=tuple(slots[node] for node in crossing[index]),
                dead=dead,
                layers=_layers(nodes, slots),
                weight=_first_weight(nodes, slots),
                structure=structure_of(module),
                symbols=_symbol_slots(inputs, symbols, slots),
            )
        )
    return Partition(tuple(pieces), len(slots), _template(returned, slots))


def structure_of(graph: fx.GraphModule) -> str:
    """Hash of a graph up to the names of its nodes: operations, arguments, constants, shapes and types of inputs."""
    index = {node: position for position, node in enumerate(graph.graph.nodes)}
    names = _symbol_names(graph)
    digest = hashlib.sha256()
    for node in graph.graph.nodes:
        target = node.target if isinstance(node.target, str) else _name_of(node.target)
        if node.op == "placeholder":
            target = _open_signature(node, names) or _signature(node.meta.get(EXAMPLE))
        elif node.op == "get_attr":
            target = _constant(graph, str(node.target))
        args = fx.node.map_arg((node.args, node.kwargs), lambda argument: f"%{index[argument]}")
        digest.update(repr((node.op, target, args, str(annotation(node).role), annotation(node).stays_at_16)).encode())
    return digest.hexdigest()[:16]


def _name_of(target: object) -> str:
    """What tells a function or an operator from others; higher-order operators are objects without a qualified name."""
    name = getattr(target, "__qualname__", None) or getattr(target, "__name__", None) or repr(target)
    return f"{getattr(target, '__module__', '')}.{name}"


def _runs(graph: fx.GraphModule) -> list[tuple[str | None, list[fx.Node]]]:
    """Maximal runs of consecutive nodes of one block.

    Picking an element of a tuple stays with whatever made the tuple, so that only tensors cross edges.
    """
    runs: list[tuple[str | None, list[fx.Node]]] = []
    home: dict[fx.Node, int] = {}
    for node in graph.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        source = node.args[0] if node.args else None
        if node.target is operator.getitem and source in home and not _is_tensor(source):
            home[node] = home[source]
        else:
            block = annotation(node).block
            if not runs or runs[-1][0] != block:
                runs.append((block, []))
            home[node] = len(runs) - 1
        runs[home[node]][1].append(node)
    return runs


def _names(runs: list[tuple[str | None, list[fx.Node]]]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for index, (block, _) in enumerate(runs):
        if block is not None:
            name = block
        elif index == 0:
            name = "before" if len(runs) > 1 else "whole"
        else:
            name = "after" if index == len(runs) - 1 else "between"
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name}#{seen[name]}"


def _layers(nodes: list[fx.Node], slots: dict[fx.Node, int]) -> tuple[tuple[str, int], ...]:
    linears = [node for node in nodes if is_linear(node)]
    return tuple(
        (annotation(node).layer or node.name, slots[node.args[1]])
        for node in linears
        if isinstance(node.args[1], fx.Node) and node.args[1].op == "placeholder"
    )


def _first_weight(nodes: list[fx.Node], slots: dict[fx.Node, int]) -> int | None:
    """The first packed weight, which no other block has; without any the first weight."""
    found = [node.args[1] for node in nodes if is_linear(node) and isinstance(node.args[1], fx.Node)]
    weights = [weight for weight in found if weight.op == "placeholder"]
    packed = (weight for weight in weights if isinstance(weight.meta.get(EXAMPLE), BitPlaneWeight))
    chosen = next(packed, weights[0] if weights else None)
    return None if chosen is None else slots[chosen]


def _external_inputs(nodes: list[fx.Node]) -> list[fx.Node]:
    """Values that nodes read from outside, in the order of first use."""
    inside = set(nodes)
    found: dict[fx.Node, None] = {}
    for node in nodes:
        for source in node.all_input_nodes:
            if source not in inside:
                found.setdefault(source)
    return list(found)


def _with_symbols(inputs: list[fx.Node], nodes: list[fx.Node], symbols: dict[sympy.Symbol, fx.Node]) -> list[fx.Node]:
    """Inputs, and behind them the sizes that shapes depend on: code cannot tell a size from a product of it."""
    found = dict.fromkeys(inputs)
    order = {symbol: index for index, symbol in enumerate(symbols)}
    for node in (*inputs, *nodes):
        for symbol in sorted(symbols_of(node), key=order.__getitem__):
            found.setdefault(symbols[symbol])
    return list(found)


def _symbol_slots(
    inputs: list[fx.Node], symbols: dict[sympy.Symbol, fx.Node], slots: dict[fx.Node, int]
) -> tuple[int, ...]:
    found = {symbol.symbol: slots[node] for node in inputs if (symbol := symbol_of(node)) is not None}
    return tuple(dict.fromkeys(slots[symbols[symbol]] for symbol in found))


def _subgraph(
    parent: fx.GraphModule, inputs: list[fx.Node], nodes: list[fx.Node], outputs: list[fx.Node]
) -> fx.GraphModule:
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for index, node in enumerate(inputs):
        check_can_cross(node)
        copies[node] = graph.placeholder(f"input_{index}")
        example = node.meta.get(EXAMPLE)
        captured = node.op == "placeholder"
        copies[node].meta = {EXAMPLE: example if captured else _contiguous_example(example)}
        set_open(copies[node], open_of(node) if captured or _is_contiguous(example) else contiguous(open_of(node)))
        copy_origin(node, copies[node])
    for node in nodes:
        copies[node] = graph.node_copy(node, lambda source: copies[source])
    graph.output(tuple(_contiguous(graph, copies[node]) for node in outputs))
    return fx.GraphModule(parent, graph)


def _contiguous(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """Views leave a piece as copies: else the blocks that read them would differ from the others by strides alone."""
    example = node.meta.get(EXAMPLE)
    if not isinstance(example, torch.Tensor) or example.is_contiguous():
        return node
    copied = graph.call_method("contiguous", (node,))
    copied.meta = {EXAMPLE: _contiguous_example(example)}
    set_open(copied, contiguous(open_of(node)))
    return copied


def _contiguous_example(example: object) -> object:
    """An example of the same shape and type, laid out contiguously."""
    if not isinstance(example, torch.Tensor) or example.is_contiguous():
        return example
    return torch.empty_like(example, memory_format=torch.contiguous_format)


def _is_contiguous(example: object) -> bool:
    return not isinstance(example, torch.Tensor) or example.is_contiguous()


def _is_tensor(node: object) -> bool:
    return isinstance(node, fx.Node) and isinstance(node.meta.get(EXAMPLE), torch.Tensor)


def _signature(value: object) -> str:
    if not isinstance(value, torch.Tensor):
        return repr(value)
    packing = ""
    if isinstance(value, BitPlaneWeight):  # decides what a variant does with the activations
        packing = f" groups={value.groups} balanced={value.factors is not None} rotation={value.rotation}"
    return f"{type(value).__name__} {tuple(value.shape)} {value.stride()} {value.dtype} {value.device}{packing}"


def _symbol_names(graph: fx.GraphModule) -> dict[sympy.Basic, sympy.Basic]:
    """Names of symbols that do not depend on the capture: their places among the inputs that are sizes."""
    found = [symbol.symbol for node in inputs_of(graph) if (symbol := symbol_of(node)) is not None]
    return {symbol: sympy.Symbol(f"n{index}") for index, symbol in enumerate(found)}


def _open_signature(node: fx.Node, names: dict[sympy.Basic, sympy.Basic]) -> str | None:
    """The signature of an input whose sizes are open; None where they are not."""
    opened, symbol = open_of(node), symbol_of(node)
    if opened is None:
        return None
    sizes, strides = (
        tuple(str(size.xreplace(names)) if isinstance(size, sympy.Expr) else size for size in part)
        for part in (opened.sizes, opened.strides or ())
    )
    example = node.meta[EXAMPLE]
    kind = f"{example.dtype} {example.device}" if isinstance(example, torch.Tensor) else "size"
    return f"{type(example).__name__} {sizes} {strides} {kind} {'' if symbol is None else symbol.range}"


def _constant(graph: fx.GraphModule, name: str) -> str:
    value = operator.attrgetter(name)(graph)
    if isinstance(value, fx.GraphModule):  # what a higher-order operator calls, such as the mask of flex attention
        return structure_of(value)
    if isinstance(value, torch.Tensor):
        content = hashlib.sha256(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return f"{_signature(value)} {content.hexdigest()}"
    return f"{type(value).__qualname__} {id(value)}"


def _template(returned: object, slots: dict[fx.Node, int]) -> object:
    """A return value with slots in the place of nodes."""
    if isinstance(returned, fx.Node):
        return Slot(slots[returned])
    if isinstance(returned, (tuple, list)):
        return type(returned)(_template(item, slots) for item in returned)
    return returned


def _fill(template: object, environment: list[object]) -> object:
    if isinstance(template, Slot):
        return environment[template.index]
    if isinstance(template, (tuple, list)):
        return type(template)(_fill(item, environment) for item in template)
    return template
