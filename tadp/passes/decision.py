"""Which level an operation of a piece gets for a recipe, what runs it, and why it is not what the recipe asked for."""

import math
from dataclasses import dataclass, replace

import torch
from torch import fx

from tadp.kernels.registry import Fastest, Kernel, Request, architecture_of, choose, for_any_size
from tadp.passes import attention
from tadp.passes.annotate import annotation
from tadp.passes.operations import ATTENTION, EXAMPLE, LINEAR
from tadp.passes.symbols import has_open_rows
from tadp.precision import L16, Level, Recipe, Role

GELU = (torch.nn.functional.gelu, torch._C._nn.gelu)
SILU = (torch.nn.functional.silu,)

_GROUPED = "widths of single channels need one scale a row; compile without group_size"


@dataclass(frozen=True)
class Decision:
    """The level that one operation of a piece got, and why, where it is not what the recipe asked for.

    `shape` is the weight's, ``(rows, columns)``; None for attention. `tokens` are the rows of the activation, where the
    graph tells; `nonlinearity` is what a product applies, `biased` whether it has a bias, `kernel` is the name of
    what runs, and `packing` what was done to the weight before it was rounded.
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
    packing: str = ""

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weight that are read at this level, but for its scales; 16-bit types are assumed at 16."""
        return 0 if self.shape is None else math.prod(self.shape) * self.level.weight // 8


def has_level(node: fx.Node) -> bool:
    """Whether a node is an operation whose level may be chosen: a linear or an attention product.

    A model that calls the operator itself, such as one with SLA, has chosen.
    """
    return node.op == "call_function" and (node.target in ATTENTION or node.target in LINEAR)


def decide(node: fx.Node, recipe: Recipe, fastest: Fastest) -> tuple[Decision, Kernel | None]:
    """The level of an operation and, below 16 bits, the kernel that runs it.

    Where the number of tokens may differ from call to call, the operator asks for a kernel anew at each call, unless it
    has one alone. The decision names the one for the tokens at hand.
    """
    if attention.is_attention(node):
        return _decide_attention(node, recipe)
    found = annotation(node)
    layer = found.layer or node.name
    weight = node.args[1]
    if not isinstance(weight, fx.Node) or weight.op != "placeholder":
        return Decision(layer, found.role, L16, reason="its weight is computed inside the graph"), None
    example = weight.meta[EXAMPLE]
    level = L16 if found.block is None or found.role is None else recipe[found.role]
    groups = getattr(example, "groups", 0)
    obstacle = found.stays_at_16 or (_GROUPED if level.mixed and groups else "")
    level = L16 if obstacle else level
    plain = Decision(
        layer,
        found.role,
        level,
        tuple(example.shape),
        obstacle,
        tokens=_tokens(node),
        nonlinearity=nonlinearity_after(node)[1],
        biased=bias_of(node) is not None,
    )
    if level != L16:
        if plain.tokens is None:
            return replace(plain, level=L16, reason="the shape of its activation is not known"), None
        device = example.device
        request = Request(
            level=level,
            tokens=max(plain.tokens, 1),
            columns=example.shape[1],
            rows=example.shape[0],
            groups=groups,
            dtype=example.dtype,
            device=device.type,
            architecture=architecture_of(device),
        )
        kernel = choose(request, device, fastest)
        if isinstance(kernel, str):
            return replace(plain, level=L16, reason=kernel), None
        decision = replace(plain, kernel=str(kernel), packing=getattr(example, "packing", ""))
        return decision, for_any_size(kernel) if _is_open(node) else kernel
    if found.block is None:
        return replace(plain, reason="outside the blocks"), None
    if found.role is None:
        return replace(plain, reason="neither its name nor its shape tells its role"), None
    return plain, None


def _decide_attention(node: fx.Node, recipe: Recipe) -> tuple[Decision, Kernel | None]:
    found = annotation(node)
    level = recipe[Role.ATTENTION] if found.block else L16
    plain = Decision(found.layer or node.name, Role.ATTENTION, L16)
    if level == L16:
        return plain, None
    kernel = attention.kernel_for(node, level)
    if isinstance(kernel, str) and level.is_sparse:
        plain, level = replace(plain, reason=kernel), level.dense
        kernel = attention.kernel_for(node, level)
    if isinstance(kernel, str):
        return replace(plain, reason=kernel), None
    return replace(plain, level=level, kernel=str(kernel)), for_any_size(kernel) if _is_open(node) else kernel


def _is_open(node: fx.Node) -> bool:
    return any(has_open_rows(source) for source in node.all_input_nodes)


def bias_of(node: fx.Node) -> object:
    """The bias of a linear, however it was passed; None where there is none."""
    return node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")


def _tokens(node: fx.Node) -> int | None:
    """Rows of a linear's activation, all leading dimensions taken together."""
    example = node.args[0].meta.get(EXAMPLE) if isinstance(node.args[0], fx.Node) else None
    return math.prod(example.shape[:-1]) if isinstance(example, torch.Tensor) else None


def nonlinearity_after(node: fx.Node) -> tuple[fx.Node, str]:
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
