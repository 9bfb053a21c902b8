"""What a checkpoint of any format is read as: tensors by name, loaded one by one, weights restored by rows."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

ROWS_AT_ONCE = 32
"""Rows that are restored, rounded and compared at a time: less than 2 MB of a layer of Wan 14B, in float32."""

TILE = 128
"""Rows and columns of a weight that share a scale in TurboDiffusion's files."""


@dataclass(frozen=True)
class Scheme:
    """How a checkpoint holds a weight that it holds in fewer bits than a floating tensor.

    Attributes:
        format: of an element, such as "int8" or "Q4_K".
        scales: what shares a scale, such as "row"; "" where nothing has one.
        rotation: columns of each run that is rotated, see `tadp.kernels.rotation`; 0 for none.
        has_row_codes: whether a row is integers times one scale, so that another format may hold it as it is.
    """

    format: str
    scales: str
    rotation: int = 0
    has_row_codes: bool = False

    def __str__(self) -> str:
        scaled = f", a scale a {self.scales}" if self.scales else ""
        rotated = f", rotated by {self.rotation}" if self.rotation else ""
        return f"{self.format}{scaled}{rotated}"


@dataclass(frozen=True)
class RowCodes:
    """Integers that stand for a weight times one scale a row.

    Attributes:
        codes: ``(rows, columns)`` int16 or int8, zero at 0.
        scale: ``(rows,)`` float32.
        rotation: of the weight that they stand for, as in `Scheme`.
    """

    codes: torch.Tensor
    scale: torch.Tensor
    rotation: int = 0


@dataclass(frozen=True)
class TileCodes:
    """Integers with one scale a tile of 128 by 128.

    Attributes:
        codes: ``(rows, columns)`` int8.
        scale: ``(rows / 128, columns / 128)``, rounded up, float32.
    """

    codes: torch.Tensor
    scale: torch.Tensor


@dataclass(frozen=True)
class Parts:
    """A weight in memory, as its checkpoint holds it.

    Attributes:
        rows: restores rows from one number to another: ``(rows, columns)`` float32, nothing rotated.
        codes: the integers that it is made of, where rows or tiles share a scale.
    """

    rows: Callable[[int, int], torch.Tensor]
    codes: RowCodes | TileCodes | None = None


@dataclass(frozen=True)
class Stored:
    """One tensor of a checkpoint.

    Attributes:
        name: that it has in diffusers, as far as that is known; its own otherwise.
        key: that the checkpoint has for it.
        shape: of the tensor, in diffusers.
        dtype: compute type: what `read` returns.
        load: gives its content when asked: a plain tensor in its own type, or the parts of a quantized weight.
        scheme: how it is quantized; None for plain tensors.
    """

    name: str
    key: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    load: Callable[[], torch.Tensor | Parts]
    scheme: Scheme | None = None

    def parts(self) -> Parts:
        """The content of a tensor with two dimensions."""
        found = self.load()
        return found if isinstance(found, Parts) else Parts(lambda start, stop: found[start:stop].float())

    def read(self) -> torch.Tensor:
        """The tensor in the compute type; a quantized one restored in float32 and rounded to it."""
        found = self.load()
        if isinstance(found, torch.Tensor):
            return found
        restored = torch.empty(self.shape, dtype=self.dtype)
        for start, stop in slices(self.shape[0]):
            restored[start:stop] = found.rows(start, stop)
        return restored

    def in_shape(self, shape: tuple[int, ...]) -> "Stored":
        """A plain tensor in another shape with as many elements; for convolutions that a format keeps as linears."""

        def load() -> torch.Tensor:
            found = self.load()
            assert isinstance(found, torch.Tensor)
            return found.reshape(shape)

        return replace(self, shape=shape, load=load)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was opened.

    Attributes:
        path: file or directory.
        format: its format, for people.
        tensors: in the order of the files.
        config: the content of the ``config.json`` beside it; empty where there is none.
        is_wan: whether names were mapped from those of Wan's own repository.
        left_out: what it holds that is no tensor of a model, with reasons, for people.
    """

    path: Path
    format: str
    tensors: tuple[Stored, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    is_wan: bool = False
    left_out: tuple[str, ...] = ()

    @property
    def compute_dtype(self) -> torch.dtype:
        """The floating type that most elements are read as."""
        sizes: dict[torch.dtype, int] = {}
        for stored in self.tensors:
            if stored.dtype.is_floating_point:
                sizes[stored.dtype] = sizes.get(stored.dtype, 0) + torch.Size(stored.shape).numel()
        return max(sizes, key=lambda dtype: sizes[dtype], default=torch.bfloat16)


def slices(rows: int, step: int = ROWS_AT_ONCE) -> Iterator[tuple[int, int]]:
    """The numbers that runs of `step` rows begin and end with."""
    return ((start, min(start + step, rows)) for start in range(0, rows, step))
