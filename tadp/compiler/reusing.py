"""Where reuse meets a model: calls of its blocks go through the store of their residuals."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from tadp.runtime.reuse import ResidualStore

Runs = Callable[[str, Callable[..., Any], Sequence[object], Mapping[str, object]], Any]
"""Runs a block's compiled code, by the block's name, on arguments."""


def through(block: torch.nn.Module, name: str, residuals: ResidualStore, runs: Callable[[], Runs | None]) -> None:
    """Let a store run a compiled block, or not.

    It stands before the block's compiled code, so that a block that is reused costs neither guards nor hooks. Where
    `runs` gives something, that runs the compiled code.
    """
    compiled = block._compiled_call_impl
    assert compiled is not None

    def run(*args: Any, **kwargs: Any) -> Any:
        inside = runs()
        return compiled(*args, **kwargs) if inside is None else inside(name, compiled, args, kwargs)

    def call(*args: Any, **kwargs: Any) -> Any:
        return residuals.call(name, run, args, kwargs)

    block._compiled_call_impl = call
