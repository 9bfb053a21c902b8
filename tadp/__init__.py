"""tadp: diffusion transformers at the precision that their content needs, chosen while they are sampling."""

from tadp.compiler import compile
from tadp.errors import PrecisionFallbackWarning, UnsupportedModelError
from tadp.precision import Level, Plan, Recipe, Role

__version__ = "0.1.0"

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
