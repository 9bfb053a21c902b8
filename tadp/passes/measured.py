"""How a measure stands in a graph: compiled with it, or as one operation that runs the measure as it is.

    measured(name, first, second=None, mask=None, scale=None, columns) -> (batch, columns) float32

`name` is that of a measure, `first` and `second` what it is given: the input of a linear layer, or query and key.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

Measure = Callable[..., torch.Tensor]

_MEASURES: dict[str, Measure] = {}

torch.library.define(
    "tadp::measured",
    "(str name, Tensor first, Tensor? second=None, Tensor? mask=None, float? scale=None, *, int columns) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)


@torch.library.impl("tadp::measured", "CompositeExplicitAutograd")
def _measured(
    name: str,
    first: torch.Tensor,
    second: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    scale: float | None = None,
    *,
    columns: int,
) -> torch.Tensor:
    measure = _MEASURES[name]
    return measure(first) if second is None else measure(first, second, mask, scale)


@torch.library.register_fake("tadp::measured")
def _fake_measured(
    name: str,
    first: torch.Tensor,
    second: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    scale: float | None = None,
    *,
    columns: int,
) -> torch.Tensor:
    return first.new_empty((first.shape[0], columns), dtype=torch.float32)


def insert(
    graph: fx.GraphModule, before: fx.Node, measure: Measure, arguments: Sequence[Any], as_it_is: bool = False
) -> fx.Node:
    """Put a measure into a graph before a node.

    Args:
        graph: to be changed.
        before: a node of it.
        measure: gives ``(batch, columns)`` float32.
        arguments: nodes and constants that the measure is given, by position.
        as_it_is: whether the measure is to run uncompiled; with one argument, or with query, key, mask and scale.
    """
    target: Callable[..., Any] = torch.ops.tadp.measured.default if as_it_is else measure
    given = (_name_of(measure), *arguments) if as_it_is else tuple(arguments)
    named: dict[str, Any] = {"columns": _columns_of(measure, len(arguments))} if as_it_is else {}
    with graph.graph.inserting_before(before):
        return graph.graph.call_function(target, given, named)


def _name_of(measure: Measure) -> str:
    """The name under which the operation finds a measure; it stands in graphs on disk, and so is the same next time."""
    name = f"{measure.__module__}.{getattr(measure, '__qualname__', repr(measure))}"
    while _MEASURES.setdefault(name, measure) is not measure:  # two lambdas of one function
        name += "'"
    return name


def _columns_of(measure: Measure, arguments: int) -> int:
    """How many numbers a measure gives for each sample: it is tried on one, of two tokens with eight channels."""
    sample = torch.ones(1, 2, 8) if arguments == 1 else torch.ones(1, 1, 2, 8)
    with torch.no_grad():
        return measure(sample).shape[1] if arguments == 1 else measure(sample, sample, None, None).shape[1]
