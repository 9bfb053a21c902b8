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
        from tadp.compiler.quantization_config import TadpConfig
        from tadp.compiler.quantizer import let_diffusers_read_saved_models

        let_diffusers_read_saved_models()
        return TadpConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
