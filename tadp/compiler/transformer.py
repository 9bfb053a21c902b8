"""Compiling one transformer: what it is to be compiled with, and what then stands around it."""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from tadp.compiler.adapters import Adapters
from tadp.compiler.adoption import adopt_block, adopt_module
from tadp.compiler.balancing import Balancing
from tadp.compiler.capture import Capture, weakly
from tadp.compiler.guards import guard_filter
from tadp.compiler.layers import BlockLinear, block_linears
from tadp.compiler.offloading import Offloading
from tadp.compiler.options import inductor_options
from tadp.compiler.packing import Origin, Packing, move_packed, pack_blocks, target_of, without_packed
from tadp.compiler.refusals import undo_compile
from tadp.compiler.reusing import through
from tadp.compiler.rotating import measured_roles
from tadp.compiler.shapes import Shapes
from tadp.compiler.variants import Variants
from tadp.errors import UnsupportedModelError
from tadp.families import family_of
from tadp.families.blocks import block_paths
from tadp.families.family import plain_name
from tadp.files.automatic import find_calibration, weight_directories
from tadp.files.calibration import load
from tadp.files.codes import CodesDirectory
from tadp.files.fingerprint import fingerprint
from tadp.kernels.bitplanes import BitPlaneWeight
from tadp.planning.calibration import Calibration, check_levels
from tadp.policy import Policy
from tadp.precision import Role
from tadp.runtime import signals
from tadp.runtime.controller import Controller, ModelFacts
from tadp.runtime.host_copies import HostCopies
from tadp.runtime.pool import WeightPool

AUTO = "auto"
"""The calibration that is found beside the weights or in the cache, if there is one."""


@dataclass(frozen=True)
class Belongings:
    """What a compiled model keeps alive beside its controller.

    Attributes:
        packed: its packed layers.
        pool: that hands out their planes and masters.
        controller: of the model.
        capture: the backend of its blocks, which PyTorch knows weakly.
        adapters: follows LoRA adapters in its blocks.
        trainable: names of the parameters that required gradients.
        precompile: as `tadp.compile` took it.
        options: of torch.compile.
        offloading: streams planes of its blocks, where that was asked for.
        copies: planes that are kept in main memory while the model is elsewhere.
        warned: of what, once.
    """

    packed: tuple[BlockLinear, ...]
    pool: WeightPool
    controller: Controller
    capture: Capture
    adapters: Adapters
    offloading: Offloading
    trainable: frozenset[str] = frozenset()
    precompile: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    copies: HostCopies = field(default_factory=HostCopies)
    warned: set[str] = field(default_factory=set)

    def relocate(self, function: Callable[[torch.Tensor], torch.Tensor], rest: Callable[[], object]) -> object:
        """Apply a function to the packed weights, and let `rest` apply it to everything else.

        Planes that are streamed stay where they wait; a move to another device than they are streamed to ends that.
        """
        return self.relocate_part(self.packed, function, rest)

    def relocate_part(
        self,
        linears: tuple[BlockLinear, ...],
        function: Callable[[torch.Tensor], torch.Tensor],
        rest: Callable[[], object],
    ) -> object:
        """The same for some of the packed weights."""
        streamer = self.offloading.streamer
        if streamer is not None:
            if target_of(linears, function, streamer.device) == streamer.device:
                return without_packed(linears, rest)
            self.offloading.stop()
        moved, result = move_packed(linears, self.copies, function, rest)
        if moved:
            weights = [(one.block, one.layer, cast(BitPlaneWeight, one.module.weight)) for one in self.packed]
            if self.pool.replace(weights):
                self.controller.relocate()
        return result


Methods = Callable[[Belongings], Mapping[str, Callable[..., Any]]]
"""Methods of a compiled model's class, by name, for what the model keeps."""


@dataclass(frozen=True)
class Order:
    """What one transformer is to be compiled with.

    Attributes:
        fingerprint: of the model; "" where it is compiled already.
        policy: with what was measured.
        measured: its calibration; None for none, or for the one that it has already.
        balancing: of its channels.
        rotated: roles whose layers are rotated.
        codes: of its weights.
        group_size: columns that share a scale.
        origin: of weights that are packed already.
        directories: where files of the weights and a calibration of them may lie.
    """

    fingerprint: str
    policy: Policy
    measured: Calibration | None
    balancing: Balancing | None
    rotated: frozenset[Role]
    codes: CodesDirectory | None = None
    group_size: int | None = None
    origin: Origin | None = None
    directories: tuple[Path, ...] = ()

    @property
    def packing(self) -> dict[str, object]:
        """How weights are packed, as a manifest says it."""
        if self.origin is not None and self.origin.packing:
            return dict(self.origin.packing)
        return {
            "group_size": self.group_size,
            "rotated": sorted(self.rotated) if self.codes is None else sorted(self.codes.header.rotations),
            "balance": None if self.balancing is None else self.balancing.alpha,
            "codes": None if self.codes is None else dict(self.codes.header.data),
        }


def order_for(
    module: torch.nn.Module,
    policy: Policy,
    calibration: Calibration | str | None,
    group_size: int | None,
    balance: float | None,
    rotate: str | frozenset[Role],
    codes: CodesDirectory | None,
    origin: Origin | None = None,
    directories: tuple[Path, ...] | None = None,
) -> Order:
    """Check everything that can be before anything changes.

    `directories` are where the model's files lie; None: where diffusers noted that it was loaded from.

    Raises:
        UnsupportedModelError, ValueError: see `compile`.
    """
    if isinstance(getattr(module, "tadp", None), Controller):
        check_packing(module, group_size, balance, rotate, codes)
        return Order("", policy, calibration if isinstance(calibration, Calibration) else None, None, frozenset())
    if not block_paths(module, family_of(module)):
        raise UnsupportedModelError(
            f"{type(module).__name__} has no transformer blocks: tadp looks for an nn.ModuleList or nn.Sequential of "
            "modules that attend, or of two or more of one class with linear layers; declare where they are with "
            "tadp.families.register(Family(name, classes=..., blocks=...))"
        )
    if origin is None and any(isinstance(weight, BitPlaneWeight) for weight in module.parameters()):
        origin = Origin()
    if origin is not None:
        check_packing(module, group_size, balance, rotate, codes)
    identity = fingerprint(module) if origin is None else origin.fingerprint
    directories = weight_directories(module) if directories is None else directories
    if isinstance(calibration, Calibration):
        calibration.check(identity)
        measured: Calibration | None = calibration
    else:
        measured = find_calibration(identity, directories) if calibration == AUTO and identity else None
    own = policy if measured is None else policy.calibrated(measured)
    check_levels(own.recipes(), measured)  # a policy that needs a calibration says so here
    balancing = None if balance is None else Balancing(measured.channel_peaks if measured else {}, balance)
    rotated = measured_roles(measured) if isinstance(rotate, str) else rotate
    if codes is not None:
        codes.check(identity, {linear.layer: linear.module.weight for linear in block_linears(module)})
    return Order(identity, own, measured, balancing, rotated, codes, group_size, origin, directories)


def compile_transformer(
    model: torch.nn.Module,
    order: Order,
    precompile: bool,
    torch_compile_options: dict[str, Any],
    methods: Methods,
    dynamic: bool | None = None,
) -> Controller:
    """Compile a model in place.

    Args:
        model: the transformer.
        order: of `order_for`.
        precompile: as `tadp.compile` takes it.
        torch_compile_options: likewise; what is understood here is taken out.
        methods: gives the methods that take the place of the model's own.
        dynamic: as `tadp.compile` takes it.

    """
    family = family_of(model)
    blocks = block_paths(model, family)
    undo_compile(model)
    asked_for = dict(torch_compile_options)
    given = dict(torch_compile_options.pop("options", None) or {})
    asked = given.pop("guard_filter_fn", None)
    options = inductor_options(torch_compile_options.pop("mode", None), given)
    pool = WeightPool(BitPlaneWeight.from_hp)
    trainable = frozenset(plain_name(name) for name, parameter in model.named_parameters() if parameter.requires_grad)
    how = Packing(order.group_size, order.balancing, order.rotated, order.codes, order.origin, order.directories)
    linears = pack_blocks(model, family, pool, how)
    packed = tuple(linear for linear in linears if linear.is_packed)
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
        packing=order.packing,
        dynamic=dynamic,
    )
    controller = Controller(order.policy, pool, Variants(options, precompile), facts)
    stays = {linear.layer: linear.reason for linear in linears if linear.reason}
    capture = Capture(controller, pool, family, stays)
    offloading = Offloading(packed, pool, controller)
    # Blocks are captured one by one, not as one graph of the whole model: Dynamo then traces one block of each kind.
    receiver = weakly(capture)
    for block in blocks:
        dynamo_options = {"guard_filter_fn": guards}  # one for each: torch.compile takes out what it understands
        module = model.get_submodule(block)
        module.compile(backend=receiver, options=dynamo_options, **torch_compile_options)
        through(module, block, controller.residuals, offloading.runs)
    adapters = Adapters(packed, pool, controller, offloading)
    belongings = Belongings(
        packed, pool, controller, capture, adapters, offloading, trainable, precompile=precompile, options=asked_for
    )
    for block in blocks:
        own = tuple(linear for linear in packed if linear.block == block)
        adopt_block(model.get_submodule(block), functools.partial(belongings.relocate_part, own))
    own_methods, follow = methods(belongings), belongings.adapters.follow
    adopt_module(model, controller, belongings.relocate, family, own_methods, follow, Shapes(dynamic))
    belongings.adapters.follow(model)
    if order.measured is not None:
        controller.learn(order.measured)
    return controller


def _packed_alike(linears: Iterable[BlockLinear]) -> bool:
    """Whether the same layer of all blocks is packed alike, so that any block may run what another one captured."""
    found: dict[str, set[str]] = {}
    for linear in linears:
        packing = cast(BitPlaneWeight, linear.module.weight).packing
        found.setdefault(linear.layer.removeprefix(f"{linear.block}."), set()).add(packing)
    return all(len(ways) == 1 for ways in found.values())


def check_packing(
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


def named(calibration: Calibration | str | Path | None) -> Calibration | str | None:
    """A calibration, `AUTO`, or None."""
    if calibration == AUTO:
        return AUTO
    return load(Path(calibration)) if isinstance(calibration, (str, Path)) else calibration
