"""Streams: the tensors that a block adds to, found by comparing what it is given with what it returns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

Key = int | str
"""Where an argument of a call stands: a position, or a name."""


@dataclass(frozen=True)
class Streams:
    """Which argument of a block each of its outputs continues.

    Attributes:
        sources: by output, in order; None for an output that is None itself.
        returns: `tuple` or `list` where the block returns several, None where it returns one tensor.
    """

    sources: tuple[Key | None, ...]
    returns: type | None

    def given(self, args: Sequence[object], kwargs: Mapping[str, object]) -> tuple[torch.Tensor, ...]:
        """The tensors of a call that the outputs continue.

        Raises:
            LookupError: where the call does not have one of them.
        """
        found = [args[key] if isinstance(key, int) else kwargs[key] for key in self.sources if key is not None]
        if not all(isinstance(value, torch.Tensor) for value in found):
            raise LookupError("an argument that was a tensor is none any more")
        return tuple(value for value in found if isinstance(value, torch.Tensor))

    def returned(self, streams: Sequence[torch.Tensor]) -> object:
        """What a block returns that turns its streams into these."""
        left = iter(streams)
        outputs = [None if key is None else next(left) for key in self.sources]
        return outputs[0] if self.returns is None else self.returns(outputs)


def version_of(tensor: torch.Tensor) -> int | None:
    """What changes whenever a tensor is written to in place; None for tensors of inference mode, which do not count."""
    return None if tensor.is_inference() else tensor._version


def outputs_of(result: object) -> tuple[torch.Tensor, ...] | None:
    """The tensors that a block returned; None where it returned anything else."""
    values = result if type(result) in (tuple, list) else (result,)
    assert isinstance(values, (tuple, list))
    if not all(value is None or isinstance(value, torch.Tensor) for value in values):
        return None
    return tuple(value for value in values if isinstance(value, torch.Tensor)) or None


def find_streams(args: Sequence[object], kwargs: Mapping[str, object], result: object) -> Streams | str:
    """Streams of a block by one of its calls, or why it has none.

    An output continues the argument of its shape and type; of several the one that it lies nearest to.
    """
    outputs = outputs_of(result)
    if outputs is None:
        return "it returns something that is no tensor"
    several = type(result) if isinstance(result, (tuple, list)) else None
    values = result if isinstance(result, (tuple, list)) else (result,)
    free = dict(_tensors(args, kwargs))
    sources: list[Key | None] = []
    for value in values:
        if value is None:
            sources.append(None)
            continue
        fitting = [key for key, given in free.items() if given.shape == value.shape and given.dtype == value.dtype]
        if not fitting:
            return f"it returns {tuple(value.shape)}, which none of its inputs has"
        nearest = fitting[0] if len(fitting) == 1 else min(fitting, key=lambda key: _distance(free[key], value))
        sources.append(nearest)
        del free[nearest]
    return Streams(tuple(sources), several)


def _tensors(args: Sequence[object], kwargs: Mapping[str, object]) -> Iterator[tuple[Key, torch.Tensor]]:
    for position, value in enumerate(args):
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            yield position, value
    for name, value in kwargs.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            yield name, value


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(one - other, dtype=torch.float32))
