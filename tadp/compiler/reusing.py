"""Where reuse meets a model: calls of its blocks go through the store of their residuals."""

from typing import Any

import torch

from tadp.runtime.reuse import ResidualStore


def through(block: torch.nn.Module, name: str, residuals: ResidualStore) -> None:
    """Let a store run a compiled block, or not.

    It stands before the block's compiled code, so that a block that is reused costs neither guards nor hooks.
    """
    compiled = block._compiled_call_impl
    assert compiled is not None

    def call(*args: Any, **kwargs: Any) -> Any:
        return residuals.call(name, compiled, args, kwargs)

    block._compiled_call_impl = call
