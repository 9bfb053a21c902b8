"""tadp: diffusion transformers at the precision that their content needs, chosen while they are sampling."""

import importlib
from typing import TYPE_CHECKING, Any

from tadp.errors import PrecisionFallbackWarning, UnsupportedModelError
from tadp.precision import Level, Plan, Recipe, Role
from tadp.version import VERSION

if TYPE_CHECKING:
    from tadp.compiler import TadpConfig, compile, load, restore, save
    from tadp.kernels import TadpWeightConfig

__version__ = VERSION

__all__ = [
    "Level",
    "Plan",
    "PrecisionFallbackWarning",
    "Recipe",
    "Role",
    "TadpConfig",
    "TadpWeightConfig",
    "UnsupportedModelError",
    "__version__",
    "compile",
    "load",
    "restore",
    "save",
]

_LATER = {
    **dict.fromkeys(("TadpConfig", "compile", "load", "restore", "save"), "tadp.compiler"),
    "TadpWeightConfig": "tadp.kernels",
}
"""What needs PyTorch, by the package that has it: `tadp --help` does without."""


def __getattr__(name: str) -> Any:
    """Import what needs PyTorch when it is first asked for."""
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
