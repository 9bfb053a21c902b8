"""Third pass: give every linear and attention product of a piece the level that a recipe names for its role.

The level is written into the graph as operators and as inputs: a variant takes the planes that its width reads, or the
16-bit master, and never asks at run time. Linears that share their input share one quantized copy of it, and a GELU or
SiLU that alone reads a linear's result becomes a part of it.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

import torch
from torch import fx

from tadp.kernels import reference, registry
from tadp.kernels.planes import padded_columns
from tadp.passes import attention
from tadp.passes.annotate import LINEAR, annotation
from tadp.passes.partition import EXAMPLE
from tadp.precision import L16, Level, Recipe, Role

GELU = (torch.nn.functional.gelu, torch._C._nn.gelu)
SILU = (torch.nn.functional.silu,)

QUANTIZERS: tuple[Callable[..., object], ...] = (torch.ops.tadp.quantize.default, reference.quantize)
"""The operator, and the function whose plain operations a compiler sees."""

_GROUPED = "widths of single channels need one scale a row; compile without group_size"

Fastest = Callable[[registry.Request, torch.device], str | None]


class Part(str, Enum):
    """What a variant wants of a value: the value itself, a weight's 16-bit master, or one tensor of its bit planes."""

    ITSELF = "itself"
    MASTER = "master"
    HIGH = "high"
    MID = "mid"
    LOW = "low"
    SCALE = "scale"
    FACTORS = "factors"
    WIDTHS_7 = "widths:7"
    WIDTHS_6 = "widths:6"
    WIDTHS_5 = "widths:5"


PLANES: dict[int, tuple[Part, ...]] = {
    8: (Part.HIGH, Part.MID, Part.LOW),
    6: (Part.HIGH, Part.MID),
    4: (Part.HIGH,),
}
"""The planes that each width reads: a narrower width reads a prefix of what a wider one does."""


def parts_of(level: Level, balanced: bool) -> tuple[Part, ...]:
    """What a linear at a level below 16 bits reads of its weight."""
    factors = (Part.FACTORS,) if balanced else ()
    widths = (Part(f"widths:{level.weight}"),) if level.mixed else ()
    return (*PLANES[level.widest], Part.SCALE, *factors, *widths)


@dataclass(frozen=True)
class Source:
    """Where an input of a variant comes from: the piece's input at `index`, and which part of it."""

    index: int
    part: Part


@dataclass(frozen=True)
class Decision:
    """The level that one operation of a piece got, and why, where it is not what the recipe asked for.

    `shape` is the weight's, ``(rows, columns)``; None for attention. `tokens` are the rows of the activation, where the
    graph tells; `nonlinearity` is what a product applies, `biased` whether it has a bias, and `kernel` says what runs.
    """

    layer: str
    role: Role | None
    level: Level
    shape: tuple[int, ...] | None = None
    reason: str = ""
    tokens: int | None = None
    nonlinearity: str = "none"
    biased: bool = False
    kernel: str = "inductor"

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weight that are read at this level, but for its scales; 16-bit types are assumed at 16."""
        return 0 if self.shape is None else math.prod(self.shape) * self.level.weight // 8


@dataclass(frozen=True)
class Quantized:
    """A piece's graph for one recipe. Its inputs are `sources`: first values as they are, then weights."""

    graph: fx.GraphModule
    sources: tuple[Source, ...]
    decisions: tuple[Decision, ...]


def quantize(piece: fx.GraphModule, recipe: Recipe, fastest: Fastest = lambda request, device: None) -> Quantized:
    """Rewrite a piece's graph for a recipe; the given graph is left as it is.

    Args:
        piece: an annotated graph.
        recipe: levels by role.
        fastest: names the kernel variant that was measured to be fastest on a request, where one was.
    """
    graph = fx.Graph()
    placeholders = list(piece.graph.find_nodes(op="placeholder"))
    chosen = {node: _decide(node, recipe, fastest) for node in piece.graph.nodes if _has_level(node)}
    quantized = {node: variant for node, (_, variant) in chosen.items() if variant is not None}
    quantized_weights = {node.args[1] for node in quantized}
    sources: list[Source] = []
    copies: dict[fx.Node, fx.Node] = {}
    for index, node in enumerate(placeholders):
        only_weight = all(user in chosen and user.args[1] is node for user in node.users)
        if node in quantized_weights and only_weight:
            continue
        copies[node] = graph.node_copy(node)
        packed = any(user in chosen and user.args[1] is node for user in node.users)
        sources.append(Source(index, Part.MASTER if packed else Part.ITSELF))
    planes = _Planes(graph, sources, {node: index for index, node in enumerate(placeholders)})
    for node in piece.graph.nodes:
        if node in quantized_weights:
            for level in sorted({chosen[user][0].level for user in node.users if user in quantized}):
                planes.add(node, level)
    writer = _Writer(graph, copies, planes)
    for node in piece.graph.nodes:
        if node.op == "placeholder" or node in copies:
            continue
        if attention.is_attention(node) and chosen[node][0].level != L16:
            copies[node] = attention.write(graph, node, copies, chosen[node][0].level)
            copies[node].meta = dict(node.meta)
            continue
        if node not in quantized:
            copies[node] = graph.node_copy(node, lambda source: copies[source])
            continue
        follower, nonlinearity = _nonlinearity(node)
        copies[node] = copies[follower] = writer.linear(node, chosen[node][0].level, quantized[node], nonlinearity)
        copies[node].meta = dict(node.meta)
    order = [index for index, source in enumerate(sources) if source.part is Part.ITSELF]
    order += [index for index, source in enumerate(sources) if source.part is not Part.ITSELF]
    _reorder_placeholders(graph, order)
    decisions = tuple(decision for decision, _ in chosen.values())
    return Quantized(fx.GraphModule(piece, graph), tuple(sources[index] for index in order), decisions)


def _has_level(node: fx.Node) -> bool:
    return attention.is_attention(node) or (node.op == "call_function" and node.target in LINEAR)


def _decide(node: fx.Node, recipe: Recipe, fastest: Fastest) -> tuple[Decision, registry.Variant | None]:
    """The level of an operation and, of a linear below 16 bits, the variant that runs it."""
    if attention.is_attention(node):
        return _decide_attention(node, recipe), None
    found = annotation(node)
    layer = found.layer or node.name
    weight = node.args[1]
    if not isinstance(weight, fx.Node) or weight.op != "placeholder":
        return Decision(layer, found.role, L16, reason="its weight is computed inside the graph"), None
    example = weight.meta[EXAMPLE]
    level = L16 if found.block is None or found.role is None else recipe[found.role]
    groups = getattr(example, "groups", 0)
    obstacle = _GROUPED if level.mixed and groups else ""
    level = L16 if obstacle else level
    plain = Decision(
        layer,
        found.role,
        level,
        tuple(example.shape),
        obstacle,
        tokens=_tokens(node),
        nonlinearity=_nonlinearity(node)[1],
        biased=_bias(node) is not None,
    )
    if level != L16:
        device = example.device
        request = registry.Request(
            level=level,
            tokens=plain.tokens or 1,
            columns=example.shape[1],
            rows=example.shape[0],
            groups=groups,
            dtype=example.dtype,
            device=device.type,
            architecture=registry.architecture_of(device),
        )
        variant = registry.choose(request, lambda request: fastest(request, device))
        return replace(plain, kernel=registry.describe(variant, request)), variant
    if found.block is None:
        return replace(plain, reason="outside the blocks"), None
    if found.role is None:
        return replace(plain, reason="neither its name nor its shape tells its role"), None
    return plain, None


def _decide_attention(node: fx.Node, recipe: Recipe) -> Decision:
    found = annotation(node)
    level = recipe[Role.ATTENTION] if found.block else L16
    obstacle = None if level == L16 else attention.obstacle(node, level)
    plain = Decision(found.layer or node.name, Role.ATTENTION, L16, reason=obstacle or "")
    if level == L16 or obstacle is not None:
        return plain
    return replace(plain, level=level, kernel=registry.describe_attention(attention.device_of(node)))


def _bias(node: fx.Node) -> object:
    return node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")


def _tokens(node: fx.Node) -> int | None:
    """Rows of a linear's activation, all leading dimensions taken together."""
    example = node.args[0].meta.get(EXAMPLE) if isinstance(node.args[0], fx.Node) else None
    return math.prod(example.shape[:-1]) if isinstance(example, torch.Tensor) else None


def _nonlinearity(node: fx.Node) -> tuple[fx.Node, str]:
    """The node that alone reads a linear's result, with its name, if products apply it; else the linear itself."""
    follower = next(iter(node.users)) if len(node.users) == 1 else None
    if follower is None or follower.op != "call_function" or follower.args[:1] != (node,):
        return node, "none"
    if follower.target in SILU:
        return follower, "silu"
    if follower.target in GELU:
        approximate = follower.kwargs.get("approximate", "none")
        return follower, "gelu_tanh" if approximate == "tanh" else "gelu"
    return node, "none"


class _Planes:
    """The plane inputs of a graph that is being written, made when first asked for."""

    def __init__(self, graph: fx.Graph, sources: list[Source], index: dict[fx.Node, int]) -> None:
        self._graph, self._sources, self._index = graph, sources, index
        self._made: dict[tuple[fx.Node, Part], fx.Node] = {}

    def add(self, weight: fx.Node, level: Level) -> None:
        for part in parts_of(level, _is_balanced(weight)):
            if (weight, part) not in self._made:
                node = self._graph.placeholder(f"{weight.name}_{part.name.lower()}")
                node.meta = {EXAMPLE: _example_part(weight.meta[EXAMPLE], part)}
                self._made[weight, part] = node
                self._sources.append(Source(self._index[weight], part))

    def of(self, weight: fx.Node, level: Level) -> tuple[fx.Node | None, ...]:
        """high, mid or None, low or None, scale."""
        wanted = PLANES[level.widest]
        planes = [self._made[weight, part] if part in wanted else None for part in PLANES[8]]
        return (*planes, self._made[weight, Part.SCALE])

    def widths(self, weight: fx.Node, level: Level) -> tuple[fx.Node, ...]:
        """The widths of output channels, where they have their own."""
        return (self._made[weight, Part(f"widths:{level.weight}")],) if level.mixed else ()

    def factors(self, weight: fx.Node) -> fx.Node | None:
        """What activations are multiplied by; None where channels are not balanced."""
        return self._made.get((weight, Part.FACTORS))


def _is_balanced(weight: fx.Node) -> bool:
    return getattr(weight.meta[EXAMPLE], "factors", None) is not None


def quantizer(device: torch.device) -> Callable[..., object]:
    """What quantizes activations in a graph for a device.

    On GPUs the plain operations that define it, which Inductor fuses into the norm, modulation or GELU before them: a
    kernel of its own would read its input from memory once more. On CPUs it is a kernel of ours.
    """
    return QUANTIZERS[0] if device.type == "cpu" else QUANTIZERS[1]


class _Writer:
    """Writes quantized linears into a graph; those that read one value share its codes."""

    def __init__(self, graph: fx.Graph, copies: dict[fx.Node, fx.Node], planes: _Planes) -> None:
        self._graph, self._copies, self._planes = graph, copies, planes
        self._codes: dict[tuple[fx.Node, int, bool], tuple[fx.Node, ...]] = {}
        self._products: dict[fx.Node, fx.Node] = {}

    def linear(self, node: fx.Node, level: Level, variant: registry.Variant, nonlinearity: str) -> fx.Node:
        activation, weight = node.args[:2]
        bias = _bias(node)
        assert isinstance(activation, fx.Node)
        assert isinstance(weight, fx.Node)
        example = weight.meta[EXAMPLE]
        read = self._planes.of(weight, level)
        new_bias = self._copies[bias] if isinstance(bias, fx.Node) else None
        if variant.operator == "weight_only_linear":
            args = (self._balanced(activation, weight), *read, new_bias, nonlinearity, variant.kernel)
            return self._graph.call_function(torch.ops.tadp.weight_only_linear.default, args)
        codes = self._quantized(node, activation, weight)
        widths = self._planes.widths(weight, level)
        args = (*codes, *read, new_bias, example.dtype, nonlinearity, variant.kernel, *widths)
        return self._graph.call_function(torch.ops.tadp.linear.default, args)

    def _balanced(self, activation: fx.Node, weight: fx.Node) -> fx.Node:
        """An activation as a weight takes it. Layers that read one activation share their factors."""
        factors = self._planes.factors(weight)
        if factors is None:
            return self._copies[activation]
        if activation not in self._products:
            product = self._graph.call_function(operator.mul, (self._copies[activation], factors))
            self._products[activation] = self._graph.call_method("to", (product, weight.meta[EXAMPLE].dtype))
        return self._products[activation]

    def _quantized(self, node: fx.Node, activation: fx.Node, weight: fx.Node) -> tuple[fx.Node, ...]:
        example = weight.meta[EXAMPLE]
        key = activation, getattr(example, "groups", 0), _is_balanced(weight)
        if key not in self._codes:
            args = (self._balanced(activation, weight), key[1])
            both = self._graph.call_function(quantizer(example.device), args)
            both.meta = dict(node.meta)  # a probe names what it measures here after the first layer that reads it
            self._codes[key] = tuple(
                self._graph.call_function(operator.getitem, (both, position)) for position in range(3)
            )
        return self._codes[key]


def plane_shape(rows: int, columns: int, part: Part) -> tuple[int, ...]:
    """Shape of one plane of a ``(rows, columns)`` weight, as kernels/bitplanes.py packs them."""
    padded = padded_columns(columns)
    return (rows, padded // 2 if part is Part.HIGH else padded // 4)


def _example_part(weight: torch.Tensor, part: Part) -> torch.Tensor:
    rows, columns = weight.shape
    if part.value.startswith("widths:"):
        return torch.empty(rows, dtype=torch.uint8, device="meta")
    if part is Part.FACTORS:
        return torch.empty(columns, dtype=torch.float32, device="meta")
    if part is not Part.SCALE:
        return torch.empty(plane_shape(rows, columns, part), dtype=torch.uint8, device="meta")
    groups = getattr(weight, "groups", 0)
    scale = torch.empty((groups, rows) if groups else (rows,), dtype=torch.float32, device="meta")
    return scale.t() if groups else scale  # laid out group by group, see planes.encode


def _reorder_placeholders(graph: fx.Graph, order: list[int]) -> None:
    """Bring placeholders to the front of a graph, in the given order of their present positions."""
    nodes = list(graph.find_nodes(op="placeholder"))
    anchor = next(iter(graph.nodes))
    for index in order:
        if nodes[index] is anchor:
            continue
        anchor.prepend(nodes[index])
    # The anchor itself may be a placeholder that belongs elsewhere: moving all others before it left it last.
    if anchor.op == "placeholder":
        position = order.index(nodes.index(anchor))
        if position + 1 < len(order):
            nodes[order[position + 1]].prepend(anchor)
