"""`tadp.restore`: a compiled model as it was before."""

import warnings
from typing import Any, TypeVar, cast

import torch

from tadp.compiler.adoption import release_block
from tadp.compiler.transformer import Belongings
from tadp.errors import PrecisionFallbackWarning
from tadp.kernels.bitplanes import BitPlaneWeight
from tadp.runtime.controller import Controller

Model = TypeVar("Model")


def restore_transformer(model: torch.nn.Module, belongings: Belongings) -> None:
    """Give a compiled module back its 16-bit weights, its class and its uncompiled blocks, in place."""
    belongings.offloading.stop()
    belongings.adapters.release(model)
    masters = belongings.pool.masters
    assert masters is not None
    restored = []
    for linear in belongings.packed:
        weight = cast(BitPlaneWeight, linear.module.weight)
        if masters.holds(linear.layer):
            plain = masters.get(linear.layer, weight.device).clone()  # not the file's pages
        else:
            plain = belongings.pool.restored(weight)
            restored.append(linear.layer)
        name = f"{linear.layer}.weight"
        linear.module.weight = torch.nn.Parameter(plain, requires_grad=name in belongings.trainable)
    for block in belongings.controller.blocks:
        model.get_submodule(block)._compiled_call_impl = None
        release_block(model.get_submodule(block))
    model.__class__ = type(model).__mro__[1]
    del model.tadp
    model.__dict__.pop("hf_quantizer", None)
    if "quantization_config" in (config := getattr(model, "_internal_dict", {})):  # of diffusers
        kept = {key: config[key] for key in config if key != "quantization_config"}
        cast(Any, model)._internal_dict = type(config)(kept)
    if restored:
        warnings.warn(
            f"{len(restored)} layers, {restored[0]} first, have their values as 8 bits restore them: no 16-bit weights "
            "of theirs are known",
            PrecisionFallbackWarning,
            stacklevel=4,
        )


def restore(model: Model) -> Model:
    """Undo `tadp.compile`, in place.

    The model gets back its class, its blocks as they were, and its 16-bit weights; one that was loaded without them
    gets what 8 bits restore, with a warning.

    Args:
        model: what `tadp.compile` or `tadp.load` returned: a module or a pipeline.

    Returns:
        The same object.

    Raises:
        ValueError: for a model that is not compiled.
    """
    whole = isinstance(model, torch.nn.Module)
    modules: list[Any] = [model] if whole else list(getattr(model, "components", {}).values())
    compiled = [module for module in modules if isinstance(getattr(module, "tadp", None), Controller)]
    if not compiled:
        raise ValueError(f"this {type(model).__name__} is not compiled: there is nothing to restore")
    for module in compiled:
        module._restore_16_bits()
    if not whole and isinstance(getattr(model, "tadp", None), Controller):
        object.__delattr__(model, "tadp")
        model.__class__ = type(model).__mro__[1]
    return model
