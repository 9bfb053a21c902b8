"""Second pass: say of every node which block it lies in, and of every linear and attention product its layer and role.

Dynamo tags nodes with the path of the module that they were traced in.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import fx

from tadp.families.family import Family, plain_name
from tadp.families.generic import GENERIC
from tadp.families.names import KEY_VALUE, QUERY, is_adapter
from tadp.passes.operations import ATTENTION, EXAMPLE, is_linear
from tadp.precision import Role

ADAPTER = "an adapter's own products stay at 16 bits"

_META = "tadp"
_BLOCK = re.compile(r"(?:^|.*?\.)(?P<list>[A-Za-z_]\w*)\.(?P<index>\d+)(?=\.|$)")


@dataclass(frozen=True)
class Annotation:
    """What is known of a node: the block's path, its own layer's path and its role; None where there is none.

    `stays_at_16` says why the layer is not to be quantized; "" where it may be.
    """

    block: str | None = None
    layer: str | None = None
    role: Role | None = None
    stays_at_16: str = ""


def annotate(
    graph: fx.GraphModule,
    prefix: str = "",
    blocks: frozenset[str] | None = None,
    family: Family = GENERIC,
    stays_at_16: Mapping[str, str] = MappingProxyType({}),
    layer_of: Callable[[fx.Node], str | None] = lambda weight: None,
) -> fx.GraphModule:
    """Attach an `Annotation` to every node of a normalized graph; changes nothing else.

    Args:
        graph: what `normalize` made of a graph from Dynamo.
        prefix: path of the module that was captured, for graphs that hold only a part of the model.
        blocks: paths of the model's blocks where they are known; otherwise lists of two or more modules of one class
            count as lists of blocks.
        family: says the roles of layers.
        stays_at_16: layers that are not to be quantized, each with the reason.
        layer_of: the layer that a weight, an input of the graph, is known to belong to; where it is not, the module
            that a linear was traced in is its layer.
    """
    paths = {node: ".".join(filter(None, (prefix, module_path(node)))) for node in graph.graph.nodes}
    for node in graph.graph.nodes:
        if is_linear(node) and isinstance(node.args[1], fx.Node):
            paths[node] = layer_of(node.args[1]) or paths[node]
    known = _repeated(graph, prefix) if blocks is None else blocks
    seen_block = False
    for node, path in paths.items():
        block = _block_in(path, known) if node.op not in ("placeholder", "output") else None
        seen_block |= block is not None
        layer = role = None
        if node.op == "call_function" and node.target in ATTENTION:
            layer, role = path, Role.ATTENTION
        elif is_linear(node):
            outside = Role.HEAD if seen_block else Role.EMBED
            layer, role = path, _linear_role(node, path, block, paths, family) if block else outside
        reason = ADAPTER if layer and is_adapter(layer) else stays_at_16.get(layer or "", "")
        node.meta[_META] = Annotation(block, layer, role, reason)
    return graph


def _block_in(path: str, known: frozenset[str]) -> str | None:
    """The block that a module path lies in: blocks do not lie within each other, so at most one begins the path."""
    parts = path.split(".")
    return next((found for end in range(1, len(parts) + 1) if (found := ".".join(parts[:end])) in known), None)


def _repeated(graph: fx.GraphModule, prefix: str) -> frozenset[str]:
    """Paths that look like blocks and share list and class with another one."""
    classes: dict[str, object] = {}
    for node in graph.graph.nodes:
        for source, kind in (node.meta.get("nn_module_stack") or {}).values():
            path = ".".join(filter(None, (prefix, plain_path(source))))
            if block_of(path) == path and kind is not torch.nn.Linear:
                classes[path] = kind
    kinds = Counter((path.rpartition(".")[0], kind) for path, kind in classes.items())
    return frozenset(path for path, kind in classes.items() if kinds[path.rpartition(".")[0], kind] > 1)


def annotation(node: fx.Node) -> Annotation:
    """What `annotate` found out about a node."""
    found = node.meta.get(_META)
    return found if isinstance(found, Annotation) else Annotation()


def module_path(node: fx.Node) -> str:
    """Dotted path of the module that a node was traced in, from the compiled module on; "" for that module itself."""
    stack = node.meta.get("nn_module_stack")
    return plain_path(list(stack.values())[-1][0]) if stack else ""


def plain_path(source: str) -> str:
    """A Dynamo source such as ``L['self']._modules['blocks']._modules['0'].norm`` as ``blocks.0.norm``."""
    path = re.sub(r"^L\[['\"]\w+['\"]\]", "", source)
    path = re.sub(
        r"\.?(__dict__|_modules|_parameters|_buffers)\b|\[['\"]_(modules|parameters|buffers)['\"]\]", "", path
    )
    path = re.sub(r"\[['\"]?([^\]'\"]+)['\"]?\]", r".\1", path)
    return path.strip(".")


def block_of(path: str) -> str | None:
    """Path of the block that a module path lies in, or None outside all blocks."""
    match = _BLOCK.match(path)
    return path[: match.end()] if match else None


def _linear_role(node: fx.Node, layer: str, block: str, paths: dict[fx.Node, str], family: Family) -> Role | None:
    weight = node.args[1]
    if not isinstance(weight, fx.Node) or EXAMPLE not in weight.meta:
        return None
    rows, columns = weight.meta[EXAMPLE].shape
    return family.role(layer[len(block) + 1 :], rows, columns, _is_self_attention(layer, paths))


def _is_self_attention(layer: str, paths: dict[fx.Node, str]) -> bool:
    """Whether the attention module around a layer projects its queries and its keys from the same tensor."""
    parent = re.sub(r"\.(to_out\.0|[^.]+)$", "", plain_name(layer)) + "."
    sources: dict[str, object] = {}
    for node, path in paths.items():
        name = plain_name(path)
        if is_linear(node) and name.startswith(parent):
            if QUERY.search(name):
                sources.setdefault("query", node.args[0])
            elif KEY_VALUE.search(name):
                sources.setdefault("key", node.args[0])
    return sources.get("query") is sources.get("key")
