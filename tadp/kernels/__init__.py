"""The operators of tadp: schemas, references, the weight store, and the compiled library behind them.

Importing this package registers ``torch.ops.tadp`` and loads tadp/_C.so.
"""

from pathlib import Path

import torch

from tadp.kernels import devices, operators, registry  # schemas stand before the library that implements them

_LIBRARY = Path(__file__).resolve().parent.parent / "_C.so"

if not _LIBRARY.is_file():
    raise ImportError(
        f"{_LIBRARY} is missing: the operators of tadp have not been built; run "
        "`pip install --no-build-isolation --no-deps -e .` (or `make install`) in the source tree"
    )
torch.ops.load_library(str(_LIBRARY))

from tadp.kernels.bitplanes import (  # noqa: E402  its class refers to the operators just loaded
    BitPlaneWeight,
    TadpWeightConfig,
    pack_linear_,
)

__all__ = [
    "BitPlaneWeight",
    "TadpWeightConfig",
    "devices",
    "operators",
    "pack_linear_",
    "registry",
]
