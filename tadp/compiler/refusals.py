"""Calls that people make of models and that a compiled one cannot follow: each says why, and what to do."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch

UNDO = "undo tadp.compile with tadp.restore(model), call it, and compile again"

REFUSED: Mapping[str, str] = {
    "fuse_qkv_projections": "it puts 16-bit weights together, which are packed here",
    "unfuse_qkv_projections": "it takes 16-bit weights apart, which are packed here",
    "enable_layerwise_casting": "it stores 16-bit weights in 8 bits, which packed weights have already",
}
"""By method of diffusers' models, why it cannot be called."""

COMPILED_ALREADY: tuple[str, ...] = ("compile", "compile_repeated_blocks")
"""Methods that would take the model's blocks away from their plans."""


def refusals() -> Mapping[str, Callable[..., Any]]:
    """Methods for a compiled model's class that refuse, or say that there is nothing left to do."""
    return {
        **{name: _refusing(name, reason) for name, reason in REFUSED.items()},
        **{name: _warning(name) for name in COMPILED_ALREADY},
    }


def check_gradients(inputs: Mapping[str, object]) -> None:
    """That nobody waits for gradients of what a model is called with.

    Raises:
        ValueError: where an input requires gradients and they are being recorded.
    """
    if not torch.is_grad_enabled():
        return
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor) and value.requires_grad:
            raise ValueError(
                f"input {name!r} requires gradients, and none go through a compiled model: call it under "
                "torch.no_grad(), or take the gradients of tadp.restore(model)"
            )


def undo_compile(model: torch.nn.Module) -> None:
    """Take back ``model.compile()``: what it compiled would hold the blocks, and no plan would reach them."""
    if model._compiled_call_impl is not None:
        model._compiled_call_impl = None
        warnings.warn(
            f"{type(model).__name__} was compiled as a whole with model.compile(), which is undone: tadp compiles its "
            "blocks, so that their precision can change",
            UserWarning,
            stacklevel=4,
        )


def _refusing(name: str, reason: str) -> Callable[..., Any]:
    def method(self: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        raise ValueError(f"{name} cannot be called on a compiled model: {reason}. {UNDO[0].upper()}{UNDO[1:]}")

    return method


def _warning(name: str) -> Callable[..., Any]:
    def method(self: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        warnings.warn(
            f"{name} does nothing here: the blocks are compiled already; options of torch.compile go to tadp.compile",
            UserWarning,
            stacklevel=2,
        )

    return method
