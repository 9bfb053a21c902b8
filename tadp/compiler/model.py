"""`tadp.compile`: from a model to packed weights and a controller."""

import itertools
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from tadp.compiler.adoption import adopt_module, adopt_pipeline
from tadp.compiler.balancing import Balancing
from tadp.compiler.capture import Capture, weakly
from tadp.compiler.guards import guard_filter
from tadp.compiler.layers import BlockLinear, block_linears
from tadp.compiler.options import inductor_options
from tadp.compiler.packing import move_packed, pack_blocks
from tadp.compiler.reusing import through
from tadp.compiler.rotating import measured_roles, roles_of
from tadp.compiler.shapes import Shapes
from tadp.compiler.variants import Variants
from tadp.errors import UnsupportedModelError
from tadp.families import family_of
from tadp.families.blocks import block_paths
from tadp.families.generic import GENERIC
from tadp.files.automatic import find_calibration, weight_directories
from tadp.files.calibration import load
from tadp.files.codes import CodesDirectory
from tadp.files.fingerprint import fingerprint
from tadp.kernels.bitplanes import BitPlaneWeight
from tadp.kernels.formats import GROUP_SIZES
from tadp.planning.calibration import Calibration, check_levels
from tadp.policy import Policy, parse
from tadp.precision import Role
from tadp.runtime import signals
from tadp.runtime.controller import Controller, ModelFacts
from tadp.runtime.host_copies import HostCopies
from tadp.runtime.pool import WeightPool

Model = TypeVar("Model")

AUTO = "auto"
"""The calibration that is found beside the weights or in the cache, if there is one."""


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
    given = _named(calibration)
    rounded = CodesDirectory.load(Path(codes)) if isinstance(codes, (str, Path)) else codes
    if group_size is not None and group_size not in GROUP_SIZES:
        raise ValueError(f"group_size is None or one of {GROUP_SIZES}, not {group_size!r}")
    if dynamic not in (None, True, False):
        raise ValueError(f"dynamic is None, True or False, not {dynamic!r}")
    if rounded is not None:
        group_size = _check_codes(rounded, group_size, balance, rotate)
    transformers = _transformers(model)
    rotated = rotate if rotate == AUTO else roles_of(rotate or ())
    _check_dynamic(transformers, dynamic)
    orders = [_order_for(module, chosen, given, group_size, balance, rotated, rounded) for module in transformers]
    controllers: list[Controller] = []
    for module, order in zip(transformers, orders, strict=True):
        controller = getattr(module, "tadp", None)
        if isinstance(controller, Controller):
            if order.measured is not None:
                controller.learn(order.measured)
            controller.use(chosen)
        else:
            options = dict(torch_compile_options)
            controller = _compile_module(module, order, precompile, group_size, dynamic, options)
            if order.measured is not None:
                controller.learn(order.measured)
        controllers.append(controller)
    if not isinstance(model, torch.nn.Module):
        if getattr(model, "tadp", None) is None:
            adopt_pipeline(model, tuple(controllers))
        controllers[0].lead(controllers[1:])
        alike = [type(module).__name__ == type(transformers[0]).__name__ for module in transformers]
        controllers[0].share_generations(itertools.compress(controllers, alike))
        object.__setattr__(model, "tadp", controllers[0])
    return model


@dataclass(frozen=True)
class _Belongings:
    """What a compiled model keeps alive beside its controller.

    Attributes:
        packed: its packed layers.
        pool: that hands out their planes and masters.
        controller: of the model.
        capture: the backend of its blocks, which PyTorch knows weakly.
        copies: planes that are kept in main memory while the model is elsewhere.
    """

    packed: tuple[BlockLinear, ...]
    pool: WeightPool
    controller: Controller
    capture: Capture
    copies: HostCopies = field(default_factory=HostCopies)

    def relocate(self, function: Callable[[torch.Tensor], torch.Tensor], rest: Callable[[], object]) -> object:
        """Apply a function to the packed weights, and let `rest` apply it to everything else."""
        moved, result = move_packed(self.packed, self.pool, self.copies, function, rest)
        if moved:
            self.controller.relocate()
        return result


def _named(calibration: Calibration | str | Path | None) -> Calibration | str | None:
    """A calibration, `AUTO`, or None."""
    if calibration == AUTO:
        return AUTO
    return load(Path(calibration)) if isinstance(calibration, (str, Path)) else calibration


@dataclass(frozen=True)
class _Order:
    """What one transformer is to be compiled with.

    Attributes:
        fingerprint: of the model; "" where it is compiled already.
        policy: with what was measured.
        measured: its calibration; None for none, or for the one that it has already.
        balancing: of its channels.
        rotated: roles whose layers are rotated.
        codes: of its weights.
    """

    fingerprint: str
    policy: Policy
    measured: Calibration | None
    balancing: Balancing | None
    rotated: frozenset[Role]
    codes: CodesDirectory | None = None


def _order_for(
    module: torch.nn.Module,
    policy: Policy,
    calibration: Calibration | str | None,
    group_size: int | None,
    balance: float | None,
    rotate: str | frozenset[Role],
    codes: CodesDirectory | None,
) -> _Order:
    """Check everything that can be before anything changes.

    Raises:
        ValueError: see `compile`.
    """
    if isinstance(getattr(module, "tadp", None), Controller):
        _check_packing(module, group_size, balance, rotate, codes)
        return _Order("", policy, calibration if isinstance(calibration, Calibration) else None, None, frozenset())
    identity = fingerprint(module)
    if isinstance(calibration, Calibration):
        calibration.check(identity)
        measured: Calibration | None = calibration
    else:
        measured = find_calibration(identity, weight_directories(module)) if calibration == AUTO else None
    own = policy if measured is None else policy.calibrated(measured)
    check_levels(own.recipes(), measured)  # a policy that needs a calibration says so here
    balancing = None if balance is None else Balancing(measured.channel_peaks if measured else {}, balance)
    rotated = measured_roles(measured) if isinstance(rotate, str) else rotate
    if codes is not None:
        codes.check(identity, {linear.layer: linear.module.weight for linear in block_linears(module)})
    return _Order(identity, own, measured, balancing, rotated, codes)


def _compile_module(
    model: torch.nn.Module,
    order: _Order,
    precompile: bool,
    group_size: int | None,
    dynamic: bool | None,
    torch_compile_options: dict[str, Any],
) -> Controller:
    family = family_of(model)
    blocks = block_paths(model, family)
    if not blocks:
        raise UnsupportedModelError(
            f"{type(model).__name__} has no transformer blocks: tadp looks for an nn.ModuleList or nn.Sequential of "
            "modules that attend, or of two or more of one class with linear layers; declare where they are with "
            "tadp.families.register(Family(name, classes=..., blocks=...))"
        )
    given = dict(torch_compile_options.pop("options", None) or {})
    asked = given.pop("guard_filter_fn", None)
    options = inductor_options(torch_compile_options.pop("mode", None), given)
    pool = WeightPool(BitPlaneWeight.from_hp)
    linears = pack_blocks(model, family, pool, group_size, order.balancing, order.rotated, order.codes)
    packed = tuple(linear for linear in linears if not linear.reason)
    guards = guard_filter(asked, _packed_alike(packed))
    plain = {name: tensor for name, tensor in model.named_parameters() if not isinstance(tensor, BitPlaneWeight)}
    inside = tuple(f"{block}." for block in blocks)
    outside = {
        name: tuple(module.weight.shape)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and f"{name}.weight" in plain and not name.startswith(inside)
    }
    mapped = tuple(
        (block, module)
        for block in blocks
        for module in model.get_submodule(block).modules()
        if isinstance(module, signals.HasBlockMap)
    )
    facts = ModelFacts(
        blocks=blocks,
        fingerprint=order.fingerprint,
        layers={linear.layer: (linear.block, tuple(linear.module.weight.shape), linear.reason) for linear in linears},
        outside=outside,
        other_weight_bytes=sum(tensor.nbytes for tensor in plain.values()),
        mapped=mapped,
        dynamic=dynamic,
    )
    controller = Controller(order.policy, pool, Variants(options, precompile), facts)
    stays = {linear.layer: linear.reason for linear in linears if linear.reason}
    capture = Capture(controller, pool, family, stays)
    # Blocks are captured one by one, not as one graph of the whole model: Dynamo then traces one block of each kind.
    receiver = weakly(capture)
    for block in blocks:
        dynamo_options = {"guard_filter_fn": guards}  # one for each: torch.compile takes out what it understands
        module = model.get_submodule(block)
        module.compile(backend=receiver, options=dynamo_options, **torch_compile_options)
        through(module, block, controller.residuals)
    belongings = _Belongings(packed, pool, controller, capture)
    adopt_module(model, controller, belongings.relocate, family, Shapes(dynamic))
    return controller


def _packed_alike(linears: Iterable[BlockLinear]) -> bool:
    """Whether the same layer of all blocks is packed alike, so that any block may run what another one captured."""
    found: dict[str, set[str]] = {}
    for linear in linears:
        packing = cast(BitPlaneWeight, linear.module.weight).packing
        found.setdefault(linear.layer.removeprefix(f"{linear.block}."), set()).add(packing)
    return all(len(ways) == 1 for ways in found.values())


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


def _check_packing(
    model: torch.nn.Module,
    group_size: int | None,
    balance: float | None,
    rotate: str | frozenset[Role],
    codes: CodesDirectory | None,
) -> None:
    """That a model which is compiled already was packed as is asked for, if it is."""
    packed = [weight for weight in model.parameters() if isinstance(weight, BitPlaneWeight)]
    if group_size is not None and not any(weight.groups * group_size == weight.columns for weight in packed):
        raise ValueError(f"the model is compiled already, without group_size={group_size}: compile it from its weights")
    if codes is not None:
        raise ValueError("the model is compiled already: codes are taken when it is compiled from its weights")
    if balance is not None:
        raise ValueError("the model is compiled already: channels are balanced when it is compiled from its weights")
    if not isinstance(rotate, str):
        raise ValueError("the model is compiled already: columns are rotated when it is compiled from its weights")


def _transformers(model: object) -> list[torch.nn.Module]:
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
