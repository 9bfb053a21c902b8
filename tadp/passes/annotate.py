"""First pass: say of every node which block it lies in, and of every linear and attention product its layer and role.

Dynamo tags nodes with the path of the module that they were traced in. A block is a child of a list of modules, hence
the first numbered part of that path: ``blocks.3`` in ``blocks.3.attn1.to_out.0``.
"""

import re
from collections import Counter
from dataclasses import dataclass

import torch
from torch import fx

from tadp.precision import Role

LINEAR = (torch.nn.functional.linear, torch._C._nn.linear)
ATTENTION = (torch.nn.functional.scaled_dot_product_attention, torch._C._nn.scaled_dot_product_attention)

_META = "tadp"
_BLOCK = re.compile(r"(?:^|.*?\.)(?P<list>[A-Za-z_]\w*)\.(?P<index>\d+)(?=\.|$)")

_QUERY = re.compile(r"(^|\.)(add_|to_)?(q|query)(_proj|_linear)?$")
_KEY_VALUE = re.compile(r"(^|\.)(add_|to_|added_)?(k|v|kv|key|value)(_proj|_linear|_img)?$")
_FUSED = re.compile(r"(^|\.)(to_|c_|in_)?(qkv|qkv_proj|added_qkv)(_proj|_mlp)?$")
_ATTN_OUT = re.compile(r"(attn|attention)[\w.]*\.(to_out|to_add_out|o|o_proj|out_proj|wo|proj|dense)(\.0)?$")
_MODULATION = re.compile(r"(^|\.)(norm\w*\.linear|\w*modulation\w*|ada_?ln\w*|adaln\w*)(\.\w+)*$", re.IGNORECASE)
_FFN_UP = re.compile(r"(net\.0(\.proj)?|fc1|fc_in|w1|w3|up_proj|gate_proj|linear_?1|proj_mlp|proj_in|mlp\.0|ffn\.0)$")
_FFN_DOWN = re.compile(r"(net\.2|fc2|fc_out|w2|down_proj|linear_?2|proj_out|mlp\.2|ffn\.2)$")


@dataclass(frozen=True)
class Annotation:
    """What is known of a node: the block's path, its own layer's path and its role; None where there is none."""

    block: str | None = None
    layer: str | None = None
    role: Role | None = None


def annotate(graph: fx.GraphModule, prefix: str = "", blocks: frozenset[str] | None = None) -> fx.GraphModule:
    """Attach an `Annotation` to every node of a graph captured by Dynamo; changes nothing else.

    Args:
        graph: what Dynamo hands to a backend.
        prefix: path of the module that was captured, for graphs that hold only a part of the model.
        blocks: paths of the model's blocks where they are known; otherwise lists of two or more modules of one class
            count as lists of blocks.
    """
    paths = {node: ".".join(filter(None, (prefix, module_path(node)))) for node in graph.graph.nodes}
    known = _repeated(graph, prefix) if blocks is None else blocks
    seen_block = False
    for node, path in paths.items():
        block = block_of(path) if node.op not in ("placeholder", "output") else None
        block = block if block in known else None
        seen_block |= block is not None
        layer = role = None
        if node.op == "call_function" and node.target in ATTENTION:
            layer, role = path, Role.ATTENTION
        elif node.op == "call_function" and node.target in LINEAR:
            outside = Role.HEAD if seen_block else Role.EMBED
            layer, role = path, _linear_role(node, path, paths) if block else outside
        node.meta[_META] = Annotation(block, layer, role)
    return graph


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


def role_of(layer: str, rows: int, columns: int, self_attention: bool = True) -> Role | None:
    """The role that a linear layer's name tells, or else its shape ``(rows, columns)``; None where neither does."""
    block = block_of(layer)
    name = layer[len(block) + 1 :] if block else layer
    if _MODULATION.search(name):
        return Role.MODULATION
    if _FUSED.search(name):
        return Role.SELF_ATTN_QKV
    if _QUERY.search(name):
        return Role.SELF_ATTN_QKV if self_attention else Role.CROSS_ATTN_Q
    if _KEY_VALUE.search(name):
        return Role.SELF_ATTN_QKV if self_attention else Role.CROSS_ATTN_KV
    if _ATTN_OUT.search(name):
        return Role.SELF_ATTN_OUT if self_attention else Role.CROSS_ATTN_OUT
    if _FFN_UP.search(name):
        return Role.FFN_UP
    if _FFN_DOWN.search(name):
        return Role.FFN_DOWN
    if rows >= 2 * columns:
        return Role.FFN_UP
    return Role.FFN_DOWN if columns >= 2 * rows else None


def _linear_role(node: fx.Node, layer: str, paths: dict[fx.Node, str]) -> Role | None:
    weight = node.args[1]
    if not isinstance(weight, fx.Node) or "example_value" not in weight.meta:
        return None
    rows, columns = weight.meta["example_value"].shape
    return role_of(layer, rows, columns, _is_self_attention(layer, paths))


def _is_self_attention(layer: str, paths: dict[fx.Node, str]) -> bool:
    """Whether the attention module around a layer projects its queries and its keys from the same tensor."""
    parent = re.sub(r"\.(to_out\.0|[^.]+)$", "", layer) + "."
    sources: dict[str, object] = {}
    for node, path in paths.items():
        if node.op == "call_function" and node.target in LINEAR and path.startswith(parent):
            if _QUERY.search(path):
                sources.setdefault("query", node.args[0])
            elif _KEY_VALUE.search(path):
                sources.setdefault("key", node.args[0])
    return sources.get("query") is sources.get("key")
