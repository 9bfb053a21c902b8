"""The weight store: one tensor subclass that holds a linear layer's weight as bit planes.

It travels like any weight: through state_dict, ``.to()``, safetensors, torchao's ``quantize_``. A model that carries
such weights runs eagerly as well, at 8 bits; under torch.compile a linear stays one call with the weight as argument,
which passes can see and rewrite.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import return_and_correct_aliasing
from torchao.core.config import AOBaseConfig
from torchao.quantization.transform_module import register_quantize_module_handler
from torchao.utils import TorchAOBaseTensor

from tadp.kernels.formats import FORMATS, GROUP_SIZES, WIDTHS
from tadp.kernels.operators import flatten
from tadp.kernels.planes import cut, encode, group_count, is_finite, join, laid_out_by_group
from tadp.kernels.rotation import SIZES, rotate
from tadp.kernels.values import Codes, Epilogue, Planes

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Types that a packed weight can stand for."""


class BitPlaneWeight(TorchAOBaseTensor):
    """A ``(rows, columns)`` weight in bit planes, readable at 8, 6 and 4 bits.

    Attributes:
        high: ``(rows, padded / 2)`` uint8, top four bits of the codes; planes.cut says in which order.
        mid: ``(rows, padded / 4)`` uint8, next two bits.
        low: ``(rows, padded / 4)`` uint8, last two bits.
        scale: float32, signed: ``(rows,)``, or ``(rows, groups)``, see planes.group_of_columns.
        columns: true number of columns; ``padded`` is the next multiple of four.
        dtype: floating type that the weight stands for, and to which ``dequantize`` rounds.
        factors: float32, ``(columns,)``: activations are multiplied by them before they are quantized, and the codes
            are of the weight divided by them; None for neither.
        rotation: columns of each run that is rotated before it is rounded, in the activations as in the weight, behind
            the factors, see rotation.py; 0 for none.
        uncaptured: where set, gives the 16-bit weight that a linear outside captured graphs runs on; None for 8 bits.
    """

    tensor_data_names = ["high", "mid", "low", "scale"]
    tensor_attribute_names = ["columns", "dtype"]
    optional_tensor_data_names = ["factors"]
    optional_tensor_attribute_names = ["rotation"]

    high: torch.Tensor
    mid: torch.Tensor
    low: torch.Tensor
    scale: torch.Tensor
    columns: int
    factors: torch.Tensor | None
    rotation: int

    @staticmethod
    def __new__(
        cls: type["BitPlaneWeight"],
        high: torch.Tensor,
        mid: torch.Tensor | None = None,
        low: torch.Tensor | None = None,
        scale: torch.Tensor | None = None,
        columns: int | None = None,
        dtype: torch.dtype | None = None,
        factors: torch.Tensor | None = None,
        rotation: int = 0,
        **others: object,
    ) -> "BitPlaneWeight":
        if columns is None or dtype is None:
            raise TypeError(
                "a packed weight cannot be made of one tensor: accelerate's hooks, which rebuild weights one by one, "
                "do not carry them. Move the model with .to(), or offload it with model.enable_group_offload()"
            )
        shape = (high.shape[0], columns)
        return torch.Tensor._make_wrapper_subclass(cls, shape, dtype=dtype, device=high.device, requires_grad=False)

    def __init__(
        self,
        high: torch.Tensor,
        mid: torch.Tensor,
        low: torch.Tensor,
        scale: torch.Tensor,
        columns: int,
        dtype: torch.dtype,
        factors: torch.Tensor | None = None,
        rotation: int = 0,
    ) -> None:
        super().__init__()
        self.high, self.mid, self.low, self.scale, self.columns = high, mid, low, scale, columns
        self.factors, self.rotation = factors, rotation
        self.uncaptured: Callable[[torch.device], torch.Tensor | None] | None = None

    @classmethod
    def from_hp(
        cls,
        weight: torch.Tensor,
        group_size: int | None = None,
        factors: torch.Tensor | None = None,
        rotation: int = 0,
    ) -> "BitPlaneWeight":
        """Pack a floating weight.

        Args:
            weight: ``(rows, columns)``, float32, bfloat16 or float16.
            group_size: columns that share a scale, 64 or 128; None, all columns of a row do. Groups restore narrow
                widths better, and make products slower.
            factors: ``(columns,)``, above 0, that activations are multiplied by, see `tadp.compiler.balancing`.
            rotation: columns of each run that is rotated, 256 or 64, see `tadp.kernels.rotation`; 0 for none.

        Raises:
            ValueError: for another shape, type, group size or rotation, where groups or rotations do not divide the
                columns, and where the weight holds NaN or an infinity.
        """
        if weight.dim() != 2:
            raise ValueError(f"a weight to pack has two dimensions, this one {tuple(weight.shape)}")
        _check_dtype(weight.dtype)
        if not is_finite(weight):
            raise ValueError("the weight holds NaN or infinite values; it cannot be packed")
        if group_size is not None and not group_count(weight.shape[1], group_size):
            raise ValueError(f"groups divide a row; {group_size} of {weight.shape[1]} columns do not")
        if factors is not None and (factors.shape != weight.shape[1:] or not (factors > 0).all()):
            raise ValueError(f"factors are {weight.shape[1]} numbers above 0, one for each column")
        _check_rotation(rotation, weight.shape[1])
        encoded = weight.detach() if factors is None else weight.detach().float() / factors
        codes, scale = encode(_rotated(encoded, rotation) if rotation else encoded, group_size)
        return cls(*cut(codes), scale, weight.shape[1], weight.dtype, factors, rotation)

    @classmethod
    def from_codes(
        cls,
        codes: torch.Tensor,
        scale: torch.Tensor,
        dtype: torch.dtype,
        factors: torch.Tensor | None = None,
        rotation: int = 0,
    ) -> "BitPlaneWeight":
        """Pack codes that were chosen elsewhere, such as by `tadp.calibration.rounding.compensate`.

        Args:
            codes: ``(rows, columns)`` uint8.
            scale: float32, ``(rows,)``, or ``(rows, groups)`` for groups of 64 or 128 columns.
            dtype: floating type that the weight stands for.
            factors: as in ``from_hp``; the codes are of the weight divided by them.
            rotation: likewise; the codes are of the rotated weight.

        Raises:
            ValueError: for codes, scales or factors of another type or shape, for scales that are not finite, and for
                rotations that do not divide the columns.
        """
        if codes.dim() != 2 or codes.dtype is not torch.uint8:
            raise ValueError(f"codes are (rows, columns) of uint8, not {tuple(codes.shape)} of {codes.dtype}")
        rows, columns = codes.shape
        shapes = [(rows,), *((rows, columns // size) for size in GROUP_SIZES if columns and columns % size == 0)]
        if scale.dtype is not torch.float32 or tuple(scale.shape) not in shapes or not scale.isfinite().all():
            fitting = " or ".join(map(str, shapes))
            raise ValueError(f"scales are finite, {fitting} of float32, not {tuple(scale.shape)} of {scale.dtype}")
        _check_dtype(dtype)
        if factors is not None and (factors.shape != (columns,) or not (factors > 0).all()):
            raise ValueError(f"factors are {columns} numbers above 0, one for each column")
        laid_out = scale if scale.dim() == 1 else laid_out_by_group(scale)
        _check_rotation(rotation, columns)
        return cls(*cut(codes), laid_out, columns, dtype, factors, rotation)

    @property
    def widest(self) -> int:
        """The most bits that it is readable at: 8, or fewer while planes are missing, which then have no columns."""
        return next(width for width, row in FORMATS.items() if all(self._has(plane) for plane in row.planes))

    def _has(self, plane: str) -> bool:
        return self.shape[1] == 0 or getattr(self, plane).shape[1] > 0

    @property
    def groups(self) -> int:
        """How many scales a row has; 0 where its columns share one."""
        return 0 if self.scale.dim() == 1 else self.scale.shape[1]

    @property
    def group_size(self) -> int | None:
        """Columns that share a scale; None where all of a row do."""
        return self.columns // self.groups if self.groups else None

    @property
    def packing(self) -> str:
        """What was done to the weight before it was rounded, for people; "" for nothing."""
        rotated = f"rotated by {self.rotation}" if self.rotation else ""
        grouped = f"groups of {self.group_size}" if self.groups else ""
        return ", ".join(filter(None, (rotated, grouped, "" if self.factors is None else "balanced")))

    def planes(self, width: int) -> Planes:
        """What a product at a width of 8, 6 or 4 bits reads.

        Raises:
            ValueError: for another width, and where planes of it are missing.
        """
        if width not in WIDTHS:
            raise ValueError(f"a weight is readable at {WIDTHS} bits, not at {width}")
        if width > self.widest:
            raise ValueError(f"planes of {width} bits are not here, only those of {self.widest}")
        return Planes(self.high, self.mid, self.low, self.scale).at(width)

    def unpack(self, width: int | None = None) -> torch.Tensor:
        """Codes u_b at a width, or at the widest: ``(rows, columns)`` uint8 below 2^width."""
        read = self.planes(width or self.widest)
        return join(read.high, read.mid, read.low, self.columns)

    def dequantize(self, width: int | None = None) -> torch.Tensor:
        """The weight as a plain floating tensor, as precisely as ``width`` bits, or all that are here, have it."""
        *read, _ = self.planes(width or self.widest)
        restored = torch.ops.tadp.dequantize(*read, self.columns, torch.float32 if self.rotation else self.dtype)
        if self.rotation:
            restored = torch.ops.tadp.rotate(restored, self.rotation)  # its own inverse
        return (restored if self.factors is None else restored * self.factors).to(self.dtype)

    def linear(self, x: torch.Tensor, bias: torch.Tensor | None = None, width: int | None = None) -> torch.Tensor:
        """Quantize x per token to int8, multiply integers, and return ``(..., rows)`` in x's type.

        `width` is 8, 6 or 4; None for the widest.
        """
        balanced = x if self.factors is None else (x * self.factors).to(x.dtype)
        codes = Codes(*torch.ops.tadp.quantize(balanced, self.groups, self.rotation))
        return torch.ops.tadp.linear(*flatten(codes, self.planes(width or self.widest), Epilogue(bias, dtype=x.dtype)))

    def nbytes_at(self, width: int) -> int:
        """Bytes that a width needs in memory, scales included."""
        return sum(tensor.nbytes for tensor in self.planes(width) if tensor is not None)

    def _stable_hash_for_caching(self) -> str:
        # AOTAutograd's cache asks for a key that is the same in every process.
        inner = [(getattr(self, name).shape, getattr(self, name).stride()) for name in self.tensor_data_names]
        balanced = self.factors is not None
        own = self.columns, self.dtype, self.device, self.requires_grad, self.rotation
        return repr((type(self).__name__, *own, inner, balanced))

    def __deepcopy__(self, memo: dict[int, Any]) -> "BitPlaneWeight":
        parts = [None if part is None else part.detach().clone() for part in self._tensors()]
        memo[id(self)] = copy = _rebuild(parts, self.columns, self.dtype, self.rotation, isinstance(self, nn.Parameter))
        return copy

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # Planes and no more: what stands around a weight in a compiled model, which `uncaptured` leads to, is not its.
        is_parameter = isinstance(self, nn.Parameter)
        return _rebuild, (self._tensors(), self.columns, self.dtype, self.rotation, is_parameter)

    def _tensors(self) -> list[torch.Tensor | None]:
        return [self.high, self.mid, self.low, self.scale, self.factors]

    def __repr__(self, *, tensor_contents: object = None) -> str:
        sizes = ", ".join(f"{width} bits: {self.nbytes_at(width):,} B" for width in WIDTHS if width <= self.widest)
        return f"BitPlaneWeight(shape={tuple(self.shape)}, dtype={self.dtype}, device={self.device}, {sizes})"


def _rebuild(
    tensors: Sequence[Any], columns: int, dtype: torch.dtype, rotation: int, is_parameter: bool
) -> BitPlaneWeight:
    """A weight from what a pickle holds of it."""
    high, mid, low, scale, factors = tensors
    weight = BitPlaneWeight(high, mid, low, scale, columns, dtype, factors, rotation)
    return nn.Parameter(weight, requires_grad=False) if is_parameter else weight  # type: ignore[return-value]


torch.serialization.add_safe_globals([_rebuild])  # so that torch.load reads a state dict with weights_only=True


@BitPlaneWeight.implements_torch_function([torch.nn.functional.linear])
def _linear_function(func: Callable[..., Any], types: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if torch.compiler.is_dynamo_compiling():
        # One call in the graph, with the weight as a graph input: what it becomes is for a backend's passes to say.
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)
    return _packed_linear(*args, **kwargs)


@BitPlaneWeight.implements([torch.ops.aten.linear.default])
def _linear_dispatch(func: object, types: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    return _packed_linear(*args, **kwargs)


@BitPlaneWeight.implements([torch.ops.aten.t.default])
def _t_dispatch(func: object, types: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    # A tracer that knows nothing of planes takes a linear apart into t and mm; both then see the restored weight.
    return args[0].dequantize().t()


@BitPlaneWeight.implements([torch.ops.aten._to_copy.default])
def _to_copy_dispatch(
    func: Callable[..., Any], types: object, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> BitPlaneWeight:
    weight: BitPlaneWeight = args[0]
    dtype = kwargs.get("dtype") or weight.dtype
    _check_dtype(dtype)
    moved = {name: kwargs[name] for name in ("device", "non_blocking") if kwargs.get(name) is not None}
    # Codes and scales keep their own types; only the type that they stand for follows.
    high, mid, low, scale = (func(getattr(weight, name), **moved) for name in weight.tensor_data_names)
    factors = None if weight.factors is None else func(weight.factors, **moved)
    copy = BitPlaneWeight(high, mid, low, scale, weight.columns, dtype, factors, weight.rotation)
    return return_and_correct_aliasing(func, args, kwargs, copy)


def _packed_linear(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    if not isinstance(weight, BitPlaneWeight):
        raise TypeError("a BitPlaneWeight can be the weight of a linear only, not its input or bias")
    master = None if weight.uncaptured is None else weight.uncaptured(input.device)
    return weight.linear(input, bias) if master is None else torch.nn.functional.linear(input, master, bias)


def _rotated(weight: torch.Tensor, rotation: int) -> torch.Tensor:
    """A weight in float32, rotated; the operator has the same bits and is several times as fast where it is ours."""
    return torch.ops.tadp.rotate(weight.float(), rotation) if weight.is_cpu else rotate(weight, rotation)


def _check_rotation(rotation: int, columns: int) -> None:
    if rotation and (rotation not in SIZES or columns % rotation):
        sizes = " or ".join(map(str, SIZES))
        raise ValueError(f"rotations of {sizes} columns divide a row; {rotation} of {columns} do not")


def _check_dtype(dtype: torch.dtype) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"a packed weight stands for float32, bfloat16 or float16, not {dtype}")


@dataclass(frozen=True)
class TadpWeightConfig(AOBaseConfig):
    """For torchao: ``quantize_(model, TadpWeightConfig())`` packs every linear's weight in place.

    Attributes:
        group_size: as in ``pack_linear_``.
    """

    group_size: int | None = None


@register_quantize_module_handler(TadpWeightConfig)
def _pack_module(module: nn.Module, config: TadpWeightConfig) -> nn.Module:
    pack_linear_(module, config.group_size)
    return module


def pack_linear_(
    module: nn.Module, group_size: int | None = None, factors: torch.Tensor | None = None, rotation: int = 0
) -> None:
    """Replace the weight of one linear layer by its packed form, in place; a packed one is left alone.

    `factors` and `rotation` are those of ``BitPlaneWeight.from_hp``.

    Layer by layer, so that a model needs no more memory than itself and one layer. Where the columns are no multiple of
    ``group_size``, those of a row share one scale.

    Raises:
        TypeError: if the module is not an nn.Linear.
        ValueError: for another group size than 64 and 128, and if its weight cannot be packed, see
            ``BitPlaneWeight.from_hp``.
    """
    if not isinstance(module, nn.Linear):
        raise TypeError(f"only nn.Linear can be packed, not {type(module).__name__}")
    if not isinstance(module.weight, BitPlaneWeight):
        fitting = group_size if group_count(module.in_features, group_size) else None
        packed = BitPlaneWeight.from_hp(module.weight.detach(), fitting, factors, rotation)
        module.weight = nn.Parameter(packed, requires_grad=False)
