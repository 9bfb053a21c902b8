"""A saved model on disk: its tensors in the order in which narrow widths come first, and reading them back."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from tadp.files.checksums import checksum
from tadp.files.manifest import NAME, Manifest
from tadp.files.packed import METADATA_KEY, PARTS, assemble, flatten_state_dict, packed_weights
from tadp.files.shards import SHARD_BYTES, Entry, Written, remove_shards, write_shards
from tadp.kernels.bitplanes import BitPlaneWeight
from tadp.kernels.formats import FORMATS, PLANE_BITS

STEM = "diffusion_pytorch_model"
"""What files of weights are named after, as diffusers looks for it."""


def write_tensors(
    directory: Path,
    state: Mapping[str, torch.Tensor],
    stem: str = STEM,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int], object] = lambda nbytes: None,
) -> tuple[dict[str, Written], str]:
    """Write a state dict: what is not packed and the scales, then all high planes, then mid, then low.

    Who reads 4 bits reads the front of the files and no more.

    Args:
        directory: where to; what an earlier call wrote there under this stem is replaced.
        state: by name, with packed weights.
        stem: what files are named after.
        shard_bytes: that a file may hold.
        progress: is called with the bytes of each tensor.

    Returns:
        By name, where each tensor lies; and a digest of what the files say of packed weights.

    Raises:
        ValueError: for a type that safetensors files do not have.
        OSError: where a file cannot be written.
    """
    tensors, metadata = flatten_state_dict(state)
    entries = [Entry.of(key, tensors[key]) for key in order_by_width(tensors, metadata)]
    written = write_shards(directory, stem, entries, metadata, shard_bytes, progress)
    remove_shards(directory, stem, {place.file for place in written.values()})
    return written, weights_digest(metadata)


def order_by_width(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> list[str]:
    """The keys of what `flatten_state_dict` returned in the order of the files."""
    packed = packed_weights(metadata)
    place = {f"{name}.{plane}": rank for name in packed for rank, plane in enumerate(PLANE_BITS, 1)}
    return sorted(tensors, key=lambda key: (place.get(key, 0), -tensors[key].element_size()))


def weights_digest(metadata: Mapping[str, str]) -> str:
    """Of what the metadata of files says of packed weights, as a manifest has it."""
    return hashlib.sha256(metadata.get(METADATA_KEY, "").encode()).hexdigest()


class SavedTensors:
    """The tensors of a saved model, read when they are asked for."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        """Open the files that a manifest names.

        Raises:
            ValueError: where one is missing, damaged, or holds other tensors than the manifest says.
        """
        self.directory, self.manifest = directory, manifest
        self._files = {name: _open(directory / name) for name in manifest.files}
        self.packed: dict[str, Mapping[str, Any]] = {}
        for name, file in self._files.items():
            try:
                self.packed |= packed_weights(file.metadata())
            except ValueError as error:
                raise ValueError(f"{directory / name}: {error}") from error
            if weights_digest(file.metadata() or {}) != manifest.weights:
                raise ValueError(f"{directory / name} is damaged: its metadata {METADATA_KEY} is not what {NAME} says")
            listed = {key for key, place in manifest.tensors.items() if place.file == name}
            if differing := listed.symmetric_difference(file.keys()):
                only = min(differing)
                raise ValueError(f"{directory / name} and {NAME} do not belong together: {only} is in one only")

    @property
    def names(self) -> tuple[str, ...]:
        """Of all weights and buffers, packed ones under one name each."""
        parts = {f"{name}.{part}" for name in self.packed for part in PARTS}
        return (*(key for key in self.manifest.tensors if key not in parts), *self.packed)

    def read(self, width: int, device: torch.device | str = "cpu") -> Iterator[tuple[str, torch.Tensor]]:
        """All weights and buffers, packed ones with the planes that a width reads; one tensor after the other.

        Args:
            width: 8, 6 or 4.
            device: where they go.

        Raises:
            ValueError: for a tensor that is damaged or missing; names it and its file.
        """
        parts = {f"{name}.{part}": (name, part) for name in self.packed for part in PARTS}
        wanted = {*FORMATS[width].planes, "scale", "factors"}
        found: dict[str, dict[str, torch.Tensor | None]] = {name: {} for name in self.packed}
        for key in self.manifest.tensors:
            if key not in parts:
                yield key, self.tensor(key).to(device)
            elif parts[key][1] in wanted:
                name, part = parts[key]
                found[name][part] = self.tensor(key).to(device)
        for name in self.packed:
            yield name, self._assemble(name, found.pop(name), width)

    def plane(self, name: str, plane: str) -> torch.Tensor:
        """One plane of a packed weight.

        Raises:
            ValueError: as `tensor`.
        """
        return self.tensor(f"{name}.{plane}")

    def tensor(self, key: str) -> torch.Tensor:
        """A tensor as the files name it, which is backed by its file until it is written to or moved.

        Raises:
            ValueError: where it is missing, or does not have its checksum.
        """
        place = self.manifest.tensors.get(key)
        if place is None:
            raise ValueError(f"{self.directory / NAME} has no tensor {key}")
        path = self.directory / place.file
        try:
            tensor: torch.Tensor = self._files[place.file].get_tensor(key)
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{path} is damaged: {key} cannot be read ({error})") from error
        if checksum(tensor) != place.checksum:
            raise ValueError(f"{path} is damaged: {key} does not have the checksum that {NAME} gives")
        return tensor

    def _assemble(self, name: str, parts: Mapping[str, torch.Tensor | None], width: int) -> BitPlaneWeight:
        try:
            return assemble(name, self.packed[name], parts, width)
        except ValueError as error:
            raise ValueError(f"{self.directory}: {error}") from error


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing, which {NAME} names") from error
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} is damaged ({error})") from error
