"""For which shapes Dynamo captures blocks: for the one at hand, or for all.

Dynamo itself would make a size open that it has seen change, one after the other: a model is then compiled anew for
the first other text, and for the first other resolution. It also remembers for a class, not for a model, so that one
model's shapes would decide for another one. So the shapes of a model are looked at here, in front of it.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch.fx.experimental import _config as symbolic_shapes

CAPTURES_PER_BLOCK_CLASS = 256
"""Captures, times models, that one class of blocks may have: one for each shape where each is compiled for itself, else
few. At Dynamo's own limit of 8 blocks would silently run uncompiled, and no longer follow the plan.
"""

_COMMON: dict[str, Any] = {
    "recompile_limit": CAPTURES_PER_BLOCK_CLASS,
    "automatic_dynamic_shapes": False,
    "record_runtime_overhead": False,
    "specialize_float": True,
}
"""Dynamo's settings while a model runs: numbers such as an epsilon are part of a graph, and calls leave no mark in
profiles.

Set once for a forward. The same through ``dynamic`` is set and unset at the call of every block.
"""


class Shapes:
    """Dynamo's settings for each forward of a model.

    Sizes that happen to be equal get symbols of their own: a text that is once as long as a row of the weights, or as
    the picture, must not be taken for it.
    """

    def __init__(self, dynamic: bool | None) -> None:
        """`dynamic` is that of `tadp.compile`."""
        self.dynamic = dynamic
        self._first: object = None
        # One each for all calls: making them takes longer than entering them.
        self._fixed = torch._dynamo.config.patch(**_COMMON, assume_static_by_default=True)
        self._open = torch._dynamo.config.patch(**_COMMON, assume_static_by_default=False)
        self._apart = symbolic_shapes.patch(use_duck_shape=False)  # type: ignore[attr-defined]

    def settings(self, given: Mapping[str, object]) -> AbstractContextManager[None]:
        """What a forward is to run under, from its arguments by name."""
        if self.dynamic is not None:
            return self._for_all() if self.dynamic else self._fixed
        is_first = self._first is None or self._first == _shapes_of(given)
        return self._fixed if is_first else self._for_all()

    def keep(self, given: Mapping[str, object]) -> None:
        """Take note of a forward that went well: the first one's shapes are those that code is compiled for alone."""
        if self._first is None:
            self._first = _shapes_of(given)

    @contextmanager
    def _for_all(self) -> Iterator[None]:
        with self._open, self._apart:
            yield


def _shapes_of(value: Any) -> object:
    """The shapes of all tensors in an argument, and the whole numbers among them."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    if isinstance(value, Mapping):
        return tuple(_shapes_of(one) for one in value.values())
    if isinstance(value, (list, tuple)):
        return tuple(map(_shapes_of, value))
    return value if isinstance(value, int) else None
