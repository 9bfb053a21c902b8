"""How many kernels of its own tadp launches for the operators of a graph, counted under a driver that launches none."""

from collections.abc import Iterable
from unittest import mock

import torch
from torch import fx
from triton.runtime import driver

from tadp.kernels.operators import unflatten
from tadp.kernels.registry import find


def own_launches(nodes: Iterable[fx.Node]) -> int:
    """Launches by all calls of tadp's products among `nodes`; call it while `stated_gpu.stated` is in force.

    Operators are called on tensors of the meta device, as the graph's are in shape and type.
    """
    count = 0

    def launcher(source: object, metadata: object) -> object:
        def launch(*arguments: object) -> None:
            nonlocal count
            count += 1

        return launch

    with mock.patch.object(driver.active, "launcher_cls", launcher):
        for node in nodes:
            if isinstance(node.target, torch._ops.OpOverload) and node.target.namespace == "tadp":
                _run(node)
    return count


def _run(node: fx.Node) -> None:
    operator = node.target._schema.name.removeprefix("tadp::")  # type: ignore[union-attr]
    arguments, named = fx.node.map_arg((node.args, node.kwargs), _like)
    if operator == "attention":
        given = {a.name: a.default_value for a in node.target._schema.arguments if a.has_default_value()}  # type: ignore[union-attr]
        names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
        given |= {**dict(zip(names, arguments, strict=False)), **named}
        kernel = find(operator, "cuda", given["kernel_name"])
        kernel.run(given["q"], given["k"], given["v"], given["mask"], given["scale"])
        return
    activations, planes, epilogue, name = unflatten(operator, *arguments, **named)
    find(operator, "cuda", name).run(activations, planes, epilogue)


def _like(node: fx.Node) -> object:
    value = node.meta["val"]
    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
