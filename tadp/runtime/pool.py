"""Weight pool: which tensor a variant gets for a weight, and what of it is in memory."""

import itertools
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Protocol, cast, runtime_checkable

import torch

from tadp.errors import PrecisionFallbackWarning
from tadp.kernels.registry import multiplies_codes
from tadp.precision import MASTER, MIXED_AVERAGES, Part
from tadp.runtime import device_memory
from tadp.runtime.device_memory import fits


@runtime_checkable
class PlaneWeight(Protocol):
    """A weight in bit planes, as kernels/bitplanes.py makes them."""

    high: torch.Tensor
    mid: torch.Tensor
    low: torch.Tensor
    scale: torch.Tensor
    uncaptured: Callable[[torch.device], torch.Tensor | None] | None

    @property
    def shape(self) -> torch.Size: ...
    def numel(self) -> int: ...
    def element_size(self) -> int: ...
    def dequantize(self) -> torch.Tensor: ...


class Masters(Protocol):
    """The 16-bit weights of packed layers, in files."""

    def holds(self, key: str) -> bool:
        """Whether that of a layer is there."""

    def get(self, key: str, device: torch.device) -> torch.Tensor:
        """That of a layer, which a device without memory of its own does not copy."""


class PlaneFile(Protocol):
    """Planes of packed layers in a file, for those that were loaded without them."""

    def get(self, layer: str, plane: str, device: torch.device) -> torch.Tensor:
        """A plane of a layer, on a device."""


class Streamer(Protocol):
    """Brings parts of packed weights to a device when their block runs."""

    def master(self, layer: str) -> torch.Tensor:
        """Where the 16-bit weight of a layer will be."""

    def ensure(self, block: str, tensors: Iterable[torch.Tensor]) -> None:
        """That the parts which a block reads from are there."""

    def ensure_planes(self, layer: str) -> None:
        """That all planes of a layer are there."""


RESTORED = "its 16-bit values are restored from 8 bits, as no 16-bit weights were loaded: name them with masters=..."

NOT_CAPTURED = "torch.compile did not capture the code that calls it"

Pack = Callable[[torch.Tensor], PlaneWeight]


class NoRoomError(RuntimeError):
    """A device has no room for a 16-bit weight."""


MEMORY_MARGIN = 0.2
"""Share of a device's free memory that stays free (SPEC A10)."""


class WeightPool:
    """Hands out planes and masters.

    Weights that `tadp.compile` packed have their master in a file; it is mapped in while their block runs at 16 bits
    and let go afterwards. A plain weight, as `torch.compile(backend="tadp")` leaves it in the model, is its own master
    and is packed when planes of it are first asked for.
    """

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._masters: Masters | None = None
        self._plane_file: PlaneFile | None = None
        self._warned: set[str] = set()
        self._layers: dict[int, tuple[str, str]] = {}
        self._adopted: list[PlaneWeight] = []  # kept alive: a weight's id is its name here
        self._packed: dict[int, tuple[weakref.ref[torch.Tensor], int, PlaneWeight]] = {}
        self._mapped: dict[tuple[str, str], torch.Tensor] = {}
        self._streamer: Streamer | None = None
        self._channel_widths: dict[str, torch.Tensor] = {}
        self._runs_packed: dict[torch.device, bool] = {}
        self.seconds_mapping = 0.0

    def read_channels_at(self, widths: Mapping[str, torch.Tensor]) -> None:
        """Know the widths of output channels at mixed levels: by layer, ``(len(MIXED_AVERAGES), rows)`` uint8."""
        self._channel_widths = dict(widths)

    def adopt(
        self, weights: Iterable[tuple[str, str, PlaneWeight]], masters: Masters, plane_file: PlaneFile | None = None
    ) -> None:
        """Take in packed weights, each with its block's and its layer's path, and their masters.

        `plane_file` has the planes that weights lack.
        """
        self._masters, self._plane_file = masters, plane_file
        self._mapped = {}
        self.replace(weights)

    @property
    def masters(self) -> Masters | None:
        """Of the packed weights; None while there are none."""
        return self._masters

    @property
    def plane_file(self) -> PlaneFile | None:
        """Has the planes that weights lack; None where none do."""
        return self._plane_file

    def complete_planes(self) -> None:
        """Read all planes that weights lack."""
        for weight in self._adopted:
            self._complete(weight)

    def stream(self, streamer: Streamer | None) -> None:
        """Let this bring what blocks read; None: everything is there."""
        self._streamer, self._mapped = streamer, {}

    def bring(self, block: str, tensors: Iterable[torch.Tensor]) -> None:
        """That the parts of weights which a block is about to read are on the device."""
        if self._streamer is not None:
            self._streamer.ensure(block, tensors)

    def restored(self, weight: PlaneWeight) -> torch.Tensor:
        """What 8 bits restore of a weight, whatever planes it was loaded with."""
        self._complete(weight)
        return weight.dequantize()

    def _complete(self, weight: PlaneWeight) -> None:
        for part in ("mid", "low"):
            self.part(cast(torch.Tensor, weight), Part(part))

    def is_restored(self, layer: str) -> bool:
        """Whether a packed layer has no master, so that its 16-bit values come from its planes."""
        return self._masters is not None and not self._masters.holds(layer)

    def replace(self, weights: Iterable[tuple[str, str, PlaneWeight]]) -> bool:
        """Know packed weights by these objects from now on; returns whether any of them is new."""
        found = list(weights)
        known = {id(weight) for weight in self._adopted}
        self._adopted = [weight for _, _, weight in found]
        self._layers = {id(weight): (block, layer) for block, layer, weight in found}
        for _, layer, weight in found:
            weight.uncaptured = partial(self._uncaptured, layer)
        return {id(weight) for weight in self._adopted} != known

    def why_uncaptured(self, layer: str) -> str:
        """Why a packed layer is in no captured graph."""
        return NOT_CAPTURED if layer in self._warned else "no forward has run it so far"

    def runs_packed_uncaptured(self, device: torch.device) -> bool:
        """Whether layers outside captured graphs run at 8 bits on a device, instead of on their masters.

        They do where a master would be copied to the device for every call, and the device multiplies codes.
        """
        if device not in self._runs_packed:
            self._runs_packed[device] = device_memory.copies_masters(device) and multiplies_codes(device)
        return self._runs_packed[device]

    def _uncaptured(self, layer: str, device: torch.device) -> torch.Tensor | None:
        """What a layer outside all captured graphs, where no plan reaches it, runs on: its master, or None: planes."""
        packed = self.runs_packed_uncaptured(device) or self.is_restored(layer)
        if layer not in self._warned:
            self._warned.add(layer)
            level = "runs at 8 bits whatever the policy says" if packed else "stays at 16 bits"
            warnings.warn(f"{layer} {level}: {NOT_CAPTURED}", PrecisionFallbackWarning, stacklevel=2)
        if packed:
            self._complete(next(weight for weight in self._adopted if self.layer_of(weight) == layer))
            if self._streamer is not None:
                self._streamer.ensure_planes(layer)
            return None
        assert self._masters is not None
        return self._masters.get(layer, device)

    def block_of(self, weight: object) -> str | None:
        """Path of the block that a packed weight belongs to."""
        named = self._layers.get(id(weight))
        return named[0] if named else None

    def layer_of(self, weight: object) -> str | None:
        """Path of the layer that a packed weight belongs to."""
        named = self._layers.get(id(weight))
        return named[1] if named else None

    def part(self, weight: torch.Tensor, part: Part) -> torch.Tensor:
        """One part of a weight: its master, a tensor of its bit planes, or the widths of its channels.

        The widths of channels of a layer that calibration did not see are 8 bits.
        """
        if part == MASTER:
            return self._master(weight)
        if part.average is not None:
            found = self._channel_widths.get(self.layer_of(weight) or "")
            if found is None:
                return torch.full((weight.shape[0],), 8, dtype=torch.uint8, device=weight.device)
            return found[MIXED_AVERAGES.index(part.average)].to(weight.device)
        planes = self._planes(weight)
        tensor: torch.Tensor = getattr(planes, part.kind)
        if tensor.dim() == 2 and tensor.shape[1] == 0 and weight.numel():
            tensor = self._fetch(planes, part.kind)
        return tensor

    @property
    def device(self) -> torch.device | None:
        """Where the planes are; None while there are none."""
        own = (planes for _, _, planes in self._packed.values())
        first = next(itertools.chain(self._adopted, own), None)
        return None if first is None else first.high.device

    def masters_fit(self, free: int | None) -> bool:
        """Whether all masters fit into so many free bytes of the device, with a margin; None: they need no room."""
        if free is None or self._masters is None:
            return True
        wanted = sum(weight.numel() * weight.element_size() for weight in self._adopted)
        return wanted - self.master_bytes <= (1 - MEMORY_MARGIN) * free

    def keep_masters(self, blocks: frozenset[str]) -> None:
        """Let go of all masters but those of the named blocks."""
        self._mapped = {key: tensor for key, tensor in self._mapped.items() if key[0] in blocks}

    def release_masters(self, block: str) -> None:
        """Let go of the masters of one block."""
        self._mapped = {key: tensor for key, tensor in self._mapped.items() if key[0] != block}

    @property
    def plane_bytes(self) -> int:
        """Bytes of all bit planes."""
        own = (planes for _, _, planes in self._packed.values())
        return sum(getattr(p, part).nbytes for p in (*self._adopted, *own) for part in ("high", "mid", "low", "scale"))

    @property
    def master_bytes(self) -> int:
        """Bytes of the masters that are mapped in at the moment."""
        return sum(tensor.nbytes for tensor in self._mapped.values())

    def _master(self, weight: torch.Tensor) -> torch.Tensor:
        named = self._layers.get(id(weight))
        if named is None:
            return weight
        if self._streamer is not None:
            return self._streamer.master(named[1])
        if named not in self._mapped:
            assert self._masters is not None
            _check_room(weight)
            started = time.perf_counter()
            if self._masters.holds(named[1]):
                self._mapped[named] = self._masters.get(named[1], weight.device)
            else:
                assert isinstance(weight, PlaneWeight)
                self._mapped[named] = self.restored(weight)
            self.seconds_mapping += time.perf_counter() - started
        return self._mapped[named]

    def _fetch(self, weight: PlaneWeight, plane: str) -> torch.Tensor:
        """A plane that a weight was loaded without, read from its file now that something asks for it."""
        layer = self.layer_of(weight)
        if self._plane_file is None or layer is None:
            raise RuntimeError(
                f"the {plane} plane of {layer or 'a weight'} was not loaded, and no file is known to have it"
            )
        tensor = self._plane_file.get(layer, plane, weight.high.device)
        setattr(weight, plane, tensor)
        return tensor

    def _planes(self, weight: torch.Tensor) -> PlaneWeight:
        if isinstance(weight, PlaneWeight):
            return weight
        known = self._packed.get(id(weight))
        if known is None or known[0]() is not weight or known[1] != weight._version:
            known = (weakref.ref(weight), weight._version, self._pack(weight.detach()))
            self._packed[id(weight)] = known
        return known[2]


def _check_room(weight: torch.Tensor) -> None:
    """That the 16-bit form of a weight fits beside what activations need.

    Raises:
        NoRoomError: where it does not.
    """
    nbytes = weight.numel() * weight.element_size()
    if not fits(nbytes, weight.device):
        raise NoRoomError(f"{weight.device} has no room for {nbytes:,} bytes")
