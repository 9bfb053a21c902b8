"""First pass: bring a captured graph to the form that the other passes know.

- Regions that are only wrapped are written out: activation checkpointing, which means nothing where no gradients are
  taken, and regions that are marked to be compiled once. Their linear layers lie in graphs of their own otherwise.
- A linear gets its activation, weight and bias in this order, however it was called.
"""

import operator
from typing import Any

import torch
from torch import fx

from tadp.passes.operations import is_linear


def normalize(graph: fx.GraphModule) -> fx.GraphModule:
    """Rewrite a graph from Dynamo in place; it computes what it did."""
    while _write_out_regions(graph):
        pass
    for node in graph.graph.nodes:
        if is_linear(node):
            given = dict(zip(("input", "weight", "bias"), node.args, strict=False)) | node.kwargs
            bias = given.get("bias")
            node.args = (given["input"], given["weight"]) if bias is None else (given["input"], given["weight"], bias)
            node.kwargs = {}
    graph.graph.lint()
    graph.recompile()
    return graph


def _write_out_regions(graph: fx.GraphModule) -> bool:
    """Write out every region that the graph has now; returns whether there were any."""
    regions = [(node, found) for node in graph.graph.nodes if (found := _region(graph, node)) is not None]
    for node, (body, operands) in regions:
        _write_out(graph, node, body, operands)
    return bool(regions)


def _write_out(graph: fx.GraphModule, node: fx.Node, body: fx.GraphModule, operands: tuple[Any, ...]) -> None:
    copies: dict[fx.Node, Any] = dict(zip(body.graph.find_nodes(op="placeholder"), operands, strict=True))
    with graph.graph.inserting_before(node):
        for inner in body.graph.nodes:
            if inner.op == "placeholder":
                continue
            if inner.op == "output":
                _replace(graph, node, fx.node.map_arg(inner.args[0], copies.__getitem__))
                continue
            copies[inner] = graph.graph.node_copy(inner, copies.__getitem__)
            if inner.op == "get_attr":
                copies[inner].target = _adopt(graph, body, str(inner.target))


def _region(graph: fx.GraphModule, node: fx.Node) -> tuple[fx.GraphModule, tuple[Any, ...]] | None:
    """The graph of a wrapped region and what it is called with; None for every other node."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.HigherOrderOperator):
        return None
    operands = {
        "tag_activation_checkpoint": 1,
        "wrap": 1,
        "wrap_activation_checkpoint": 1,
        "invoke_subgraph": 2,  # an identifier follows the graph
    }.get(node.target.name())
    body = node.args[0] if operands else None
    if operands is None or not isinstance(body, fx.Node) or body.op != "get_attr":
        return None
    module = graph.get_submodule(str(body.target))
    return (module, node.args[operands:]) if isinstance(module, fx.GraphModule) else None


def _replace(graph: fx.GraphModule, node: fx.Node, returned: Any) -> None:
    """Let those that read results of a region read the nodes that now compute them."""
    for user in list(node.users):
        picked = user.op == "call_function" and user.target is operator.getitem and isinstance(returned, (tuple, list))
        if picked:
            user.replace_all_uses_with(returned[user.args[1]])
            graph.graph.erase_node(user)
        else:
            only = returned[0] if isinstance(returned, (tuple, list)) and len(returned) == 1 else returned
            user.replace_input_with(node, only)
    graph.graph.erase_node(node)


def _adopt(graph: fx.GraphModule, body: fx.GraphModule, name: str) -> str:
    """Give a constant or a graph of a region to the graph around it; returns its name there."""
    own = f"region_{len(graph._modules)}_{name.replace('.', '_')}"
    value: Any = body
    for part in name.split("."):
        value = getattr(value, part)
    setattr(graph, own, value)
    return own
