"""From a model to packed weights, captured graphs and a controller, to disk and back: what `tadp` offers to call."""

from typing import TYPE_CHECKING, Any

from tadp.compiler.backend import backend
from tadp.compiler.loading import load
from tadp.compiler.model import compile
from tadp.compiler.restoring import restore
from tadp.compiler.saving import save

if TYPE_CHECKING:
    from tadp.compiler.quantization_config import TadpConfig

__all__ = ["TadpConfig", "backend", "compile", "load", "restore", "save"]


def __getattr__(name: str) -> Any:
    """Import what needs diffusers when it is first asked for, and tell diffusers of it."""
    if name == "TadpConfig":
        from tadp.compiler import quantization_config, quantizer  # noqa: F401  the second registers the first

        return quantization_config.TadpConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
