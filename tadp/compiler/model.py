"""`tadp.compile`: from a model or a pipeline to packed weights and controllers."""

import itertools
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from tadp.compiler.adoption import adopt_pipeline
from tadp.compiler.rotating import roles_of
from tadp.compiler.state import methods_of
from tadp.compiler.transformer import AUTO, compile_transformer, named, order_for
from tadp.errors import UnsupportedModelError
from tadp.families import family_of
from tadp.families.generic import GENERIC
from tadp.files.codes import CodesDirectory
from tadp.kernels.formats import GROUP_SIZES
from tadp.planning.calibration import Calibration
from tadp.policy import Policy, parse
from tadp.precision import Role
from tadp.runtime.controller import Controller

Model = TypeVar("Model")


def compile(
    model: Model,
    policy: str | Policy = "complexity",
    *,
    calibration: Calibration | str | Path | None = AUTO,
    precompile: bool = True,
    group_size: int | None = None,
    balance: float | None = None,
    rotate: Collection[Role | str] | str | None = AUTO,
    codes: CodesDirectory | str | Path | None = None,
    dynamic: bool | None = None,
    **torch_compile_options: Any,
) -> Model:
    """Compile a diffusion transformer for adaptive precision, in place.

    Linear weights of the repeated blocks become bit planes; their 16-bit originals move to a memory-mapped file. The
    first forward captures the model and compiles a variant of each distinct block for every recipe that the policy may
    choose; from then on plans change without compiling anything.

    Args:
        model: an `nn.Module` with repeated transformer blocks, or a diffusers pipeline, whose transformers are compiled
            and whose prompt and number of steps are observed.
        policy: "complexity", "static:8" and its like, or an object of `tadp.policy`.
        calibration: what `tadp calibrate` measured of this model, or the path of its file: policies then use the score,
            the sensitivities and the costs that were found, also those that are passed to ``.tadp.use`` later. "auto"
            finds the file that lies beside the weights or in the cache, if there is one; None uses none.
        precompile: compile all variants that the policy may choose at the first forward; otherwise each at first use.
        group_size: columns of a weight that share a scale, 64 or 128; None, and where it does not divide a layer's
            columns, all of a row do. Groups make 4 and 6 bits more precise and products slower.
        balance: how much of the difficulty of large activation channels goes into weights, 0 to 1, at all levels below
            16 bits; needs a calibration. For models with large outliers; None leaves channels as they are.
        rotate: roles of layers whose columns are mixed by rotations before they are rounded, in the weight and in what
            it multiplies, such as ``("ffn.down", "self_attn.out")``, see `tadp.kernels.rotation`. "auto" takes those
            that a calibration found to gain by it, and without one those behind an activation function, "ffn.down";
            None rotates nothing.
        codes: what `tadp compensate` chose for this model's weights with sample prompts, or its directory: 6 and 4 bits
            become more precise, at no cost. Layers without codes are packed as always, with a warning. They come with
            a group size and rotations of their own, and leave channels as they are.
        dynamic: what is compiled for which shapes, as in `torch.compile`. None: the first shape is compiled for itself,
            and the second, whether in resolution, frames, text length or batch, for all that follow; True: all shapes
            from the first on; False: each for itself, which makes the fastest code and takes a compilation of every
            variant at every new shape. Sizes of 1 are always compiled for themselves.
        torch_compile_options: passed to `torch.compile`; CUDA graphs of a mode are left out, with a warning.

    Returns:
        The same object, with its `Controller` as attribute ``tadp``. A pipeline keeps one controller per transformer;
        ``pipeline.tadp`` is that of the first, and passes changes of policy on to the others.

    Raises:
        UnsupportedModelError: where no repeated blocks with linear layers are found.
        ValueError: for an unknown policy, level, group size or role, for a calibration that is damaged, of another
            model or of another version of tadp, and for what needs one where there is none; likewise for codes, and for
            codes with another group size, with `balance` or with roles to rotate; for a `dynamic` other than that of a
            model that is compiled already.
    """
    chosen = parse(policy)
    given = named(calibration)
    rounded = CodesDirectory.load(Path(codes)) if isinstance(codes, (str, Path)) else codes
    if group_size is not None and group_size not in GROUP_SIZES:
        raise ValueError(f"group_size is None or one of {GROUP_SIZES}, not {group_size!r}")
    if dynamic not in (None, True, False):
        raise ValueError(f"dynamic is None, True or False, not {dynamic!r}")
    if rounded is not None:
        group_size = _check_codes(rounded, group_size, balance, rotate)
    transformers = transformers_of(model)
    rotated = rotate if rotate == AUTO else roles_of(rotate or ())
    _check_dynamic(transformers, dynamic)
    orders = [order_for(module, chosen, given, group_size, balance, rotated, rounded) for module in transformers]
    controllers: list[Controller] = []
    for module, order in zip(transformers, orders, strict=True):
        controller = getattr(module, "tadp", None)
        if isinstance(controller, Controller):
            if order.measured is not None:
                controller.learn(order.measured)
            controller.use(chosen)
        else:
            options = dict(torch_compile_options)
            controller = compile_transformer(module, order, precompile, options, methods_of, dynamic)
        controllers.append(controller)
    if not isinstance(model, torch.nn.Module):
        join_pipeline(model, transformers, controllers)
    return model


def join_pipeline(model: Any, transformers: Sequence[torch.nn.Module], controllers: Sequence[Controller]) -> None:
    """Let a pipeline announce its generations to the controllers of its compiled transformers."""
    if getattr(model, "tadp", None) is None:
        adopt_pipeline(model, tuple(controllers))
    controllers[0].lead(controllers[1:])
    alike = [type(module).__name__ == type(transformers[0]).__name__ for module in transformers]
    controllers[0].share_generations(itertools.compress(controllers, alike))
    object.__setattr__(model, "tadp", controllers[0])


def _check_codes(
    codes: CodesDirectory,
    group_size: int | None,
    balance: float | None,
    rotate: Collection[Role | str] | str | None,
) -> int | None:
    """That codes go with what else is asked for; the group size that they have."""
    own = codes.header.group_size
    if group_size not in (None, own):
        raise ValueError(
            f"the codes in {codes.directory} were chosen with group_size={own}, not {group_size}: leave group_size "
            f"out, or choose them anew with `tadp compensate --group-size {group_size}`"
        )
    if balance is not None:
        raise ValueError("codes were chosen for channels as they are: leave out either codes or balance")
    if rotate != AUTO:
        raise ValueError("codes were chosen for layers rotated as they say: leave out either codes or rotate")
    return own


def _check_dynamic(models: Iterable[torch.nn.Module], dynamic: bool | None) -> None:
    """That models which are compiled already are compiled for the shapes that are asked for, if any are."""
    for controller in (getattr(model, "tadp", None) for model in models):
        if dynamic is not None and isinstance(controller, Controller) and controller.dynamic != dynamic:
            raise ValueError(
                f"the model is compiled already, with dynamic={controller.dynamic}: leave dynamic out, or compile it "
                "from its weights"
            )


def transformers_of(model: object) -> list[torch.nn.Module]:
    """The modules to compile: the model itself, or the transformers of a pipeline."""
    if isinstance(model, torch.nn.Module):
        return [model]
    components = getattr(model, "components", None)
    if not isinstance(components, dict):
        raise TypeError(f"expected an nn.Module or a diffusers pipeline, got {type(model).__name__}")
    found = [
        component
        for name, component in components.items()
        if isinstance(component, torch.nn.Module)
        and (name.startswith("transformer") or family_of(component) is not GENERIC)
    ]
    if not found:
        names = ", ".join(sorted(components))
        raise UnsupportedModelError(f"{type(model).__name__} has no transformer among its components ({names})")
    return found
