"""LoRA adapters of peft in a compiled model: a side path beside each packed layer that changes without a compilation.

Peft's own layer runs one pair of products for each active adapter, and torch.compile compiles it anew for each scale,
adapter and switch. Here the active adapters of a layer stand side by side in one pair of matrices, the second of which
has their scales in it; what changes are the numbers in them, see `SidePath`.
"""

import functools
import math
import sys
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from tadp.compiler.layers import BlockLinear
from tadp.compiler.offloading import Offloading
from tadp.errors import KernelWarning, PrecisionFallbackWarning
from tadp.families.family import plain_name
from tadp.families.names import is_adapter
from tadp.kernels.bitplanes import BitPlaneWeight
from tadp.runtime.checkpoint import CheckpointMasters
from tadp.runtime.controller import Controller
from tadp.runtime.pool import WeightPool

RANK_STEP = 16
"""Ranks of side paths are multiples of it, so that an adapter of a few more ranks fits too."""


class SidePath(torch.nn.Module):
    """``x @ down.T @ up.T``: all active adapters of a layer together.

    Attributes:
        down: ``(rank, columns)``; rows that no adapter needs are zero.
        up: ``(rows, rank)``, with the scales of the adapters.
    """

    down: torch.Tensor
    up: torch.Tensor

    def __init__(self, rank: int, like: torch.nn.Linear) -> None:
        """Zeros for a layer, of the type that its weight stands for."""
        super().__init__()
        rows, columns = like.weight.shape
        options: dict[str, Any] = {"dtype": like.weight.dtype, "device": like.weight.device}
        self.register_buffer("down", torch.zeros(rank, columns, **options), persistent=False)
        self.register_buffer("up", torch.zeros(rows, rank, **options), persistent=False)

    @property
    def rank(self) -> int:
        """How many ranks fit."""
        return self.down.shape[0]

    def forward(self, x: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
        """What a layer made of ``(..., columns)``, ``(..., rows)``, with what the adapters add."""
        inner = torch.nn.functional.linear(x, self.down)
        # One product that begins at the result: a sum of its own would pass over both once more.
        total = torch.addmm(result.flatten(0, -2), inner.flatten(0, -2), self.up.t())
        return total.view(result.shape)

    @torch.no_grad()
    def fill(self, pairs: Iterable[tuple[torch.Tensor, torch.Tensor, float]]) -> None:
        """Take over adapters, in place: ``(rank, columns)``, ``(rows, rank)`` and the scale of each."""
        end = 0
        for down, up, scale in pairs:
            start, end = end, end + down.shape[0]
            self.down[start:end].copy_(down)
            self.up[:, start:end].copy_(up.float() * scale)
        self.down[end:].zero_()
        self.up[:, end:].zero_()


class _Followed:
    """What stands before the class of a peft layer whose adapters are in a side path."""

    side_path: SidePath | None
    adapters: "Callable[[], Adapters | None]"

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if kwargs.get("adapter_names") is not None:  # an adapter for each sample, which peft's own layer does
            return super().forward(x, *args, **kwargs)  # type: ignore[misc]
        result: torch.Tensor = self.base_layer(x, *args, **kwargs)  # type: ignore[attr-defined]
        return result if self.side_path is None else self.side_path(x, result)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add adapters to the packed weight: it is packed anew from the 16-bit weight and their sum."""
        if not _owner(self).merge(self, adapter_names):
            super().merge(safe_merge, adapter_names)  # type: ignore[misc]

    def unmerge(self) -> None:
        """Take back the packed weight from before `merge`."""
        if not _owner(self).unmerge(self):
            super().unmerge()  # type: ignore[misc]

    def scale_layer(self, scale: float) -> None:
        super().scale_layer(scale)  # type: ignore[misc]
        _owner(self).refresh(self)

    def unscale_layer(self, scale: float | None = None) -> None:
        super().unscale_layer(scale)  # type: ignore[misc]
        _owner(self).refresh(self)

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        state = cast(torch.nn.Module, self).__getstate__()
        return _make, (type(self).__mro__[2],), {name: value for name, value in state.items() if name != "adapters"}


@functools.lru_cache
def _followed(kind: type) -> type:
    return type(kind.__name__, (_Followed, kind), {"__module__": kind.__module__})


def _make(kind: type) -> object:
    followed: Any = _followed(kind)
    return followed.__new__(followed)


def _owner(layer: Any) -> "Adapters":
    found: Adapters | None = layer.adapters()
    assert found is not None  # it lives as long as the compiled model that the layer is in
    return found


@dataclass(frozen=True)
class _Merged:
    """A layer's weight before adapters were added, in main memory, and what was added to it, by adapter."""

    weight: BitPlaneWeight
    deltas: dict[str, torch.Tensor] = field(default_factory=dict)


class Adapters:
    """Follows the adapters in the blocks of one compiled model."""

    def __init__(
        self, packed: Iterable[BlockLinear], pool: WeightPool, controller: Controller, offloading: Offloading
    ) -> None:
        self._linears = {id(linear.module): linear for linear in packed}
        self._pool, self._controller, self._offloading = pool, controller, offloading
        self._known: dict[int, tuple[Any, ...]] = {}
        self._merged: dict[str, _Merged] = {}
        self._warned: set[str] = set()
        self._configs: dict[str, int] = {}
        self._any = False
        self._fingerprint = controller.facts.fingerprint

    @property
    def any_fused(self) -> bool:
        """Whether adapters are part of a packed weight."""
        return bool(self._merged)

    def release(self, model: torch.nn.Module) -> None:
        """Give layers back to peft."""
        for _, layer in self._layers(model) if self._any else ():
            if isinstance(layer, _Followed):
                layer.__class__ = type(layer).__mro__[2]
                del layer.side_path
                object.__delattr__(layer, "adapters")

    def forget(self) -> None:
        """Fill all side paths anew at the next `follow`, as after a swap, which leaves no trace in a tensor."""
        self._known = {}

    def follow(self, model: torch.nn.Module) -> None:
        """Bring all side paths up to date with what peft's layers say; cheap where nothing changed."""
        configs = getattr(model, "peft_config", None)
        if not self._any and not configs:
            return
        if (
            isinstance(configs, dict)
            and (now := {name: id(config) for name, config in configs.items()}) != self._configs
        ):
            self._configs = now  # peft's own swap of an adapter takes its config too
            self.forget()
        if "peft" not in sys.modules:
            return
        self._any = False
        for name, layer in self._layers(model):
            self._any = True
            if not isinstance(layer, _Followed):
                if (reason := _obstacle(layer)) and name not in self._warned:
                    self._warned.add(name)
                    warnings.warn(
                        f"the adapter of {name} runs as peft has it and is compiled anew when it changes: {reason}",
                        KernelWarning,
                        stacklevel=3,
                    )
                if reason:
                    continue
                layer.side_path = None
                layer.__class__ = _followed(cast(Any, type(layer)))
            if "adapters" not in layer.__dict__ or layer.adapters() is not self:
                object.__setattr__(layer, "adapters", weakref.ref(self))
            if layer.disable_adapters and layer.merged:
                layer.unmerge()
            self.refresh(layer)

    def refresh(self, layer: Any) -> None:
        """Bring the side path of one layer up to date."""
        pairs = [] if layer.disable_adapters or layer.merged else list(_active(layer))
        state = tuple((_state(down), _state(up), scale) for down, up, scale in pairs)
        if self._known.get(id(layer)) == state and (layer.side_path is not None or not pairs):
            return
        rank = math.ceil(sum(down.shape[0] for down, _, _ in pairs) / RANK_STEP) * RANK_STEP
        if rank and (layer.side_path is None or layer.side_path.rank < rank):
            layer.side_path = SidePath(rank, layer.get_base_layer())
        if layer.side_path is not None:
            layer.side_path.fill(pairs)
        self._known[id(layer)] = state

    def merge(self, layer: Any, names: list[str] | None) -> bool:
        """Add adapters to a layer's packed weight; returns whether it has one.

        Raises:
            ValueError: where the sum cannot be packed, as with NaN in an adapter; nothing has changed then.
        """
        from peft.tuners.tuners_utils import check_adapters_to_merge

        wanted = [name for name in check_adapters_to_merge(layer, names) if name in layer.lora_A]
        linear = self._linears.get(id(layer.get_base_layer()))
        if linear is None or not linear.is_packed:
            return False
        if not wanted:
            return True
        with self._offloading.at_rest():
            self._merge(layer, linear, wanted)
        return True

    def _merge(self, layer: Any, linear: BlockLinear, wanted: list[str]) -> None:
        if not self._merged:
            self._fingerprint = self._controller.facts.fingerprint
        weight = cast(BitPlaneWeight, linear.module.weight)
        self._controller.complete_planes()
        before = self._merged.get(linear.layer) or _Merged(cast(BitPlaneWeight, weight.to("cpu").detach()))
        deltas = {**before.deltas, **{name: layer.get_delta_weight(name).cpu() for name in wanted}}
        total = _sum(self._plain(linear, weight, before), deltas.values())
        try:
            packed = BitPlaneWeight.from_hp(total, weight.group_size, weight.factors, weight.rotation)
        except ValueError as error:
            raise ValueError(f"the adapters {', '.join(wanted)} cannot be added to {linear.layer}: {error}") from error
        self._merged[linear.layer] = _Merged(before.weight, deltas)
        self._exchange(linear, packed)
        layer.merged_adapters.extend(wanted)
        self.refresh(layer)

    def unmerge(self, layer: Any) -> bool:
        """Take adapters out of a layer's packed weight again; returns whether they are in one."""
        linear = self._linears.get(id(layer.get_base_layer()))
        if linear is None or not linear.is_packed or not layer.merged:
            return False
        if linear.layer not in self._merged:
            raise ValueError(
                f"the adapters of {linear.layer} were fused before the model was compiled, or copied: what they were "
                "fused into is not known. Undo tadp.compile with tadp.restore(model), unfuse there, and compile again"
            )
        before = self._merged.pop(linear.layer)
        with self._offloading.at_rest():
            self._exchange(linear, cast(BitPlaneWeight, before.weight.to(linear.module.weight.device)))
        layer.merged_adapters.clear()
        self.refresh(layer)
        return True

    def _plain(self, linear: BlockLinear, weight: BitPlaneWeight, before: _Merged) -> torch.Tensor:
        """A layer's weight without adapters: its master, or what its widest planes restore."""
        masters = self._pool.masters
        assert masters is not None
        if masters.holds(linear.layer):
            inner = cast(CheckpointMasters, masters).unchanged
            return inner.get(linear.layer, weight.device).clone()
        if "restored" not in self._warned:
            self._warned.add("restored")
            warnings.warn(
                f"adapters are added to what 8 bits restore, from {linear.layer} on, as no 16-bit weights were loaded: "
                "name them with masters=...",
                PrecisionFallbackWarning,
                stacklevel=4,
            )
        return cast(BitPlaneWeight, before.weight.to(weight.device)).dequantize()  # whose planes are all there

    def _exchange(self, linear: BlockLinear, weight: BitPlaneWeight) -> None:
        linear.module.weight = torch.nn.Parameter(weight, requires_grad=False)
        masters = cast(CheckpointMasters, self._pool.masters).unchanged
        changes = {
            layer: functools.partial(_sum, deltas=tuple(found.deltas.values())) for layer, found in self._merged.items()
        }
        adopted = [(one.block, one.layer, cast(BitPlaneWeight, one.module.weight)) for one in self._linears.values()]
        self._pool.adopt(adopted, masters.changed(changes), self._pool.plane_file)
        self._controller.identify("" if self._merged else self._fingerprint)
        self._controller.relocate()

    def _layers(self, model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
        """The LoRA layers of linear layers in blocks."""
        from peft.tuners.lora import LoraLayer

        for block in self._controller.blocks:
            for name, module in model.get_submodule(block).named_modules():
                if isinstance(module, LoraLayer) and isinstance(module.get_base_layer(), torch.nn.Linear):
                    yield f"{block}.{name}", module


def _obstacle(layer: Any) -> str:
    """Why the adapters of a layer cannot be a side path; "" where they can."""
    if getattr(layer, "lora_variant", None):
        kinds = sorted({type(kind).__name__ for kind in layer.lora_variant.values()})
        return f"it is a variant of LoRA ({', '.join(kinds)})"
    if any(getattr(layer, "lora_bias", {}).values()):
        return "it has a bias"
    if getattr(layer, "fan_in_fan_out", False):
        return "its base layer keeps its weight transposed"
    return ""


def _active(layer: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor, float]]:
    for name in layer.active_adapters:
        if name in layer.lora_A:
            yield layer.lora_A[name].weight, layer.lora_B[name].weight, _number(layer.scaling[name])


def _number(scale: object) -> float:
    return float(cast(Any, scale))  # peft keeps a tensor here where adapters are to be swapped


def _state(tensor: torch.Tensor) -> tuple[int, int, int]:
    return id(tensor), tensor.data_ptr(), -1 if tensor.is_inference() else tensor._version


def _sum(weight: torch.Tensor, deltas: Iterable[torch.Tensor]) -> torch.Tensor:
    """A weight and what adapters add, one after the other in the weight's type, as peft does it."""
    for delta in deltas:
        weight = weight + delta.to(weight.device, weight.dtype)
    return weight


def without_adapters(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict under the names that a model has without adapters, and without theirs."""
    return {plain_name(name): tensor for name, tensor in state.items() if not is_adapter(name)}
