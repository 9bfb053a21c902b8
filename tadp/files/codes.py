"""Codes of a model's weights that were chosen with data: a directory with a JSON header and one file for each block.

Blocks are written as they are finished, so that an interrupted run goes on with those that are missing.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tadp.errors import CalibrationWarning
from tadp.kernels.planes import group_count
from tadp.kernels.rotation import SIZES
from tadp.writing import replacing

SCHEMA = 1
HEADER = "codes.json"
REDO = "write them with `tadp compensate`"

_METADATA_KEY = "tadp.codes"
_PARTS = ("codes", "scale")

WeightCodes = tuple[torch.Tensor, torch.Tensor]
"""Codes ``(rows, columns)`` uint8, and scales float32 as `planes.encode` gives them."""


@dataclass(frozen=True)
class CodesHeader:
    """What a directory of codes holds for.

    Attributes:
        fingerprint: of the model's weights, see `tadp.files.fingerprint`.
        group_size: columns that share a scale where they divide a row; None, all of a row do.
        importance: of the error at each width, by width.
        rotations: size of the blocks of columns that were rotated before codes were chosen, by layer.
        layers: names of the layers by block.
        data: what the activations come from: prompts, seed, arguments of the pipeline's call.
    """

    fingerprint: str
    group_size: int | None
    importance: Mapping[int, float]
    layers: Mapping[str, tuple[str, ...]]
    rotations: Mapping[str, int] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def content(self) -> dict[str, Any]:
        """As JSON holds it."""
        found: dict[str, Any] = json.loads(json.dumps({"schema": SCHEMA, **asdict(self)}))
        return found

    @cached_property
    def checksum(self) -> str:
        return _checksum(self.content)


class CodesWriter:
    """Writes codes block by block, and knows which are there already."""

    def __init__(self, directory: Path, header: CodesHeader) -> None:
        """Start a directory, or go on with one that was started for the same.

        Raises:
            ValueError: for one that was started for something else, or is damaged.
        """
        path = directory / HEADER
        if path.exists():
            known = CodesDirectory.load(directory).header
            if known.content != header.content:
                differing = [name for name, value in header.content.items() if known.content[name] != value]
                raise ValueError(
                    f"{directory} holds codes of another run ({', '.join(differing)} differ): name another directory, "
                    "or remove it"
                )
        else:
            with replacing(path) as temporary:
                content = {**header.content, "checksum": header.checksum}
                temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
        self._directory, self._header = directory, header

    @property
    def missing(self) -> tuple[str, ...]:
        """Blocks that are not written yet."""
        return tuple(block for block in self._header.layers if not _path(self._directory, block).exists())

    def write(self, block: str, found: Mapping[str, WeightCodes]) -> None:
        """Write one block; its file is whole or not there.

        Args:
            block: of the header.
            found: by layer; layers that are missing here are packed without data later on.
        """
        tensors = {
            f"{layer}.{part}": tensor.contiguous().cpu()
            for layer, parts in found.items()
            for part, tensor in zip(_PARTS, parts, strict=True)
        }
        facts = {"schema": SCHEMA, "header": self._header.checksum, "block": block, "digest": _digest(tensors)}
        with replacing(_path(self._directory, block)) as temporary:
            save_file(tensors, str(temporary), {_METADATA_KEY: json.dumps(facts)})


class CodesDirectory:
    """Codes on disk, read block by block."""

    def __init__(self, directory: Path, header: CodesHeader) -> None:
        self.directory, self.header = directory, header
        self._blocks = {layer: block for block, names in header.layers.items() for layer in names}

    @classmethod
    def load(cls, directory: Path) -> "CodesDirectory":
        """Read the header of a directory; blocks follow when they are asked for.

        Raises:
            ValueError: where there is none, and where it is damaged or of another version of tadp.
        """
        path = directory / HEADER
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ValueError(f"there are no codes in {directory}, which has no {HEADER}: {REDO}") from error
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} is damaged ({error}): {REDO}") from error
        schema = content.get("schema") if isinstance(content, dict) else None
        if not isinstance(schema, int):
            raise ValueError(f"{path} is no header of codes, it has no field 'schema': {REDO}")
        if schema != SCHEMA:
            age = "a newer" if schema > SCHEMA else "an older"
            raise ValueError(f"{path} was written by {age} tadp (schema {schema}, this one reads {SCHEMA}): {REDO}")
        try:
            if content.pop("checksum") != _checksum(content):
                raise ValueError("its content does not have the checksum in field 'checksum'")
            header = CodesHeader(
                fingerprint=content["fingerprint"],
                group_size=content["group_size"],
                importance={int(width): float(value) for width, value in content["importance"].items()},
                layers={block: tuple(names) for block, names in content["layers"].items()},
                rotations={layer: int(size) for layer, size in content["rotations"].items()},
                data=content["data"],
            )
        except KeyError as error:
            raise ValueError(f"{path} is damaged (it has no field {error}): {REDO}") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path} is damaged ({error}): {REDO}") from error
        return cls(directory, header)

    def check(self, fingerprint: str, weights: Mapping[str, torch.Tensor]) -> None:
        """Read everything once: that it is whole, and of a model.

        Warns of layers without codes, as an unfinished run leaves them.

        Args:
            fingerprint: of the model.
            weights: of its layers, by path.

        Raises:
            ValueError: where it is not.
        """
        if fingerprint != self.header.fingerprint:
            raise ValueError(
                f"the codes in {self.directory} are of another model: field 'fingerprint' of {HEADER} is "
                f"{self.header.fingerprint}, the model's is {fingerprint}. For this one, {REDO}"
            )
        without = []
        for block, names in self.header.layers.items():
            path = _path(self.directory, block)
            tensors = self._verified(block) if path.exists() else {}
            without += [layer for layer in names if f"{layer}.codes" not in tensors]
            for layer in {name.rpartition(".")[0] for name in tensors}:
                if layer not in weights:
                    raise ValueError(f"{path} holds {layer}, which the model does not have: {REDO}")
                rotation, columns = self.header.rotations.get(layer, 0), weights[layer].shape[1]
                if rotation and (rotation not in SIZES or columns % rotation):
                    raise ValueError(
                        f"field 'rotations' of {self.directory / HEADER} turns {rotation} of the {columns} columns of "
                        f"{layer}, which cannot be: {REDO}"
                    )
                self._check_tensors(path, layer, tensors, tuple(weights[layer].shape))
        if without:
            warnings.warn(
                f"{self.directory} has no codes for {', '.join(without)}; they are packed without. To go on with an "
                "interrupted run, call `tadp compensate` again",
                CalibrationWarning,
                stacklevel=4,
            )

    def of(self, layer: str) -> WeightCodes | None:
        """The codes of a layer, after `check`; None where there are none."""
        path = _path(self.directory, self._blocks.get(layer, ""))
        if layer not in self._blocks or not path.exists():
            return None
        with safe_open(str(path), "pt") as file:
            if f"{layer}.codes" not in file.keys():  # noqa: SIM118
                return None
            return file.get_tensor(f"{layer}.codes"), file.get_tensor(f"{layer}.scale")

    def _verified(self, block: str) -> dict[str, torch.Tensor]:
        """All tensors of a block, which belong to the header and have their digest."""
        path = _path(self.directory, block)
        try:
            with safe_open(str(path), "pt") as file:
                facts = json.loads((file.metadata() or {})[_METADATA_KEY])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except KeyError as error:
            raise ValueError(f"{path} holds no codes: its metadata has no field {error}. {REDO}") from error
        except (OSError, SafetensorError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error}): remove it, and {REDO}") from error
        expected = {"schema": SCHEMA, "header": self.header.checksum, "block": block, "digest": _digest(tensors)}
        for name, value in expected.items():
            if not isinstance(facts, dict) or facts.get(name) != value:
                raise ValueError(
                    f"{path} does not belong to {HEADER}, or is damaged (field {name!r}): remove it, and {REDO}"
                )
        return tensors

    def _check_tensors(
        self, path: Path, layer: str, tensors: Mapping[str, torch.Tensor], shape: tuple[int, ...]
    ) -> None:
        groups = group_count(shape[1], self.header.group_size)
        fitting = (shape, (shape[0], groups) if groups else shape[:1])
        for part, dtype, wanted in zip(_PARTS, (torch.uint8, torch.float32), fitting, strict=True):
            tensor = tensors.get(f"{layer}.{part}")
            if tensor is None:
                raise ValueError(f"{path} lacks the tensor {layer}.{part}: remove it, and {REDO}")
            if tensor.dtype is not dtype or tuple(tensor.shape) != wanted:
                raise ValueError(
                    f"{path} does not fit the model: {layer}.{part} is {tuple(tensor.shape)} of {tensor.dtype}, not "
                    f"{wanted} of {dtype}"
                )
        if not tensors[f"{layer}.scale"].isfinite().all():
            raise ValueError(f"{path} holds a {layer}.scale that is not finite: remove it, and {REDO}")


def _path(directory: Path, block: str) -> Path:
    return directory / f"{block}.safetensors"


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of names and bytes: a file keeps its length where bytes in it change."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
