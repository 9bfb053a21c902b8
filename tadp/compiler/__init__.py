"""From a model to packed weights, captured graphs and a controller: `tadp.compile` and the torch.compile backend."""

from tadp.compiler.backend import backend
from tadp.compiler.model import compile

__all__ = ["backend", "compile"]
