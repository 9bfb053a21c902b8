"""From a model to packed weights, captured graphs and a controller, to disk and back: what `tadp` offers to call."""

from tadp.compiler.backend import backend
from tadp.compiler.loading import load
from tadp.compiler.model import compile
from tadp.compiler.quantization_config import TadpConfig
from tadp.compiler.quantizer import TadpQuantizer
from tadp.compiler.restoring import restore
from tadp.compiler.saving import save

__all__ = ["TadpConfig", "TadpQuantizer", "backend", "compile", "load", "restore", "save"]
