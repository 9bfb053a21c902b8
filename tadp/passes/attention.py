"""Attention products in a graph: what they are given, whether a kernel below 16 bits takes them, and how it is called.

Both forms are understood: scaled_dot_product_attention as models call it, and the operator that the quantize pass puts
in its place.
"""

from dataclasses import dataclass

import torch
from torch import fx
from torch.fx.node import Argument

from tadp.kernels.block_map import KEY_BLOCK, blocks_of, map_shape, query_block_on
from tadp.kernels.registry import AttentionRequest, Kernel, choose
from tadp.passes.annotate import annotation
from tadp.passes.operations import ATTENTION, EXAMPLE
from tadp.precision import Level, Role

CHOOSER = torch.ops.tadp.block_map.default
OPERATORS = (torch.ops.tadp.attention.default, torch.ops.tadp.registered_attention.default)

_MODEL_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
_OPERATOR_ARGUMENTS = ("q", "k", "v", "mask", "scale", "level", "kernel_name", "block_map")

MIN_KEY_BLOCKS = 20
"""From so many blocks of keys on attention is made sparse.

On two threads half of 20 blocks take as long as all, choosing them included, and a quarter 0.83 of it; of 16 a quarter
takes 0.94, and half more than all (`python -m bench.kernels.sparse_attention`).
"""


@dataclass(frozen=True)
class AttentionArguments:
    """What an attention product is given; the mask is None where there is none, the scale where it is the usual one."""

    q: Argument
    k: Argument
    v: Argument
    mask: Argument
    scale: Argument
    dropout: Argument = 0.0
    causal: Argument = False
    grouped: Argument = False


def is_attention(node: fx.Node) -> bool:
    """Whether a node is an attention product, in either form."""
    return node.op == "call_function" and (node.target in ATTENTION or node.target in OPERATORS)


def arguments_of(node: fx.Node) -> AttentionArguments:
    """The arguments of an attention product by name, however they were passed."""
    is_operator = node.target in OPERATORS
    names = _OPERATOR_ARGUMENTS if is_operator else _MODEL_ARGUMENTS
    given: dict[str, Argument] = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    if is_operator:
        return AttentionArguments(given["q"], given["k"], given["v"], given.get("mask"), given.get("scale"))
    return AttentionArguments(
        given["query"],
        given["key"],
        given["value"],
        given.get("attn_mask"),
        given.get("scale"),
        given.get("dropout_p", 0.0),
        given.get("is_causal", False),
        given.get("enable_gqa", False),
    )


def kernel_for(node: fx.Node, level: Level) -> Kernel | str:
    """What runs an attention product of a model at a level below 16 bits, or why nothing does.

    At a sparse level, cross-attention and attention over few tokens have nothing that runs them.
    """
    if level.activation == 16:
        return "attention has no weights to round"
    given = arguments_of(node)
    if given.dropout != 0.0:
        return "attention with dropout has no kernel below 16 bits"
    if given.causal is not False:
        return "causal attention has no kernel below 16 bits"
    if given.grouped is not False:
        return "attention with heads in groups has no kernel below 16 bits"
    q, k, v, mask = (_example(argument) for argument in (given.q, given.k, given.v, given.mask))
    if q is None or k is None or v is None or (mask is None and given.mask is not None):
        return "the shapes of its attention are not known"
    block_map = None
    if level.is_sparse:
        obstacle = _dense_because(node, q, k, mask)
        if obstacle is not None:
            return obstacle
        block_map = q.new_empty(map_shape(q, k, query_block_on(q.device.type)), dtype=torch.bool)
    return choose(AttentionRequest.of(q, k, v, mask, level.weight, block_map), q.device)


def _dense_because(node: fx.Node, q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor | None) -> str | None:
    """Why attention is not to be made sparse; None if it is."""
    if q.dim() != 4 or k.dim() != 4 or q.shape[2] != k.shape[2] or _is_cross_attention(node):
        return "only self-attention is made sparse"
    if mask is not None:
        return "attention with a mask is not made sparse"
    blocks = blocks_of(k.shape[2], KEY_BLOCK)
    if blocks < MIN_KEY_BLOCKS:
        return (
            f"attention over {k.shape[2]} tokens, {blocks} blocks, is not made sparse: it pays from {MIN_KEY_BLOCKS} on"
        )
    return None


def _is_cross_attention(node: fx.Node) -> bool:
    """Whether the layers of the module around an attention product have roles of cross-attention."""
    layers = f"{annotation(node).layer}."
    return any(
        found.role in (Role.CROSS_ATTN_Q, Role.CROSS_ATTN_KV) and (found.layer or "").startswith(layers)
        for found in map(annotation, node.graph.nodes)
    )


def write(graph: fx.Graph, node: fx.Node, copies: dict[fx.Node, fx.Node], level: Level, kernel: Kernel) -> fx.Node:
    """Append to a graph what does at a level what an attention product of another graph does."""
    given = arguments_of(node)
    q, k, v, mask, scale = (
        copies[argument] if isinstance(argument, fx.Node) else argument
        for argument in (given.q, given.k, given.v, given.mask, given.scale)
    )
    if not level.is_sparse:
        return graph.call_function(kernel.target, (q, k, v, mask, scale, level.weight, kernel.name))
    share = 0.0 if level.mass else level.kept / 100  # the map takes whichever keeps more
    chosen = graph.call_function(CHOOSER, (q, k, share, level.mass / 100, scale, query_block_on(kernel.device)))
    return graph.call_function(kernel.target, (q, k, v, None, scale, level.weight, kernel.name, chosen))


def _example(argument: Argument) -> torch.Tensor | None:
    found = argument.meta.get(EXAMPLE) if isinstance(argument, fx.Node) else None
    return found if isinstance(found, torch.Tensor) else None
