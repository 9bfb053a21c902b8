"""tadp: diffusion transformers at the precision that their content needs, chosen while they are sampling."""

from typing import TYPE_CHECKING, Any

from tadp.errors import PrecisionFallbackWarning, UnsupportedModelError
from tadp.precision import Level, Plan, Recipe, Role
from tadp.version import VERSION

if TYPE_CHECKING:
    from tadp.compiler import compile

__version__ = VERSION

__all__ = [
    "Level",
    "Plan",
    "PrecisionFallbackWarning",
    "Recipe",
    "Role",
    "UnsupportedModelError",
    "__version__",
    "compile",
]


def __getattr__(name: str) -> Any:
    """Import the compiler, and PyTorch with it, when it is first asked for: `tadp --help` needs neither."""
    if name == "compile":
        from tadp.compiler import compile

        return compile
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
