"""Checkpoints of floating tensors: diffusers' files, those of models' own repositories, and float8 without scales."""

from collections.abc import Callable

import torch

from tadp.files.foreign.containers import Container
from tadp.files.foreign.tensors import Parts, Scheme, Stored

NAME = "diffusers"

FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)


def recognizes(container: Container) -> bool:
    """Whether any tensor is there: what has no other format is plain."""
    return bool(container.facts)


def read(container: Container) -> tuple[Stored, ...]:
    """All tensors."""
    dtype = compute_dtype(container)
    return tuple(stored(container, key, dtype) for key in container.facts)


def stored(container: Container, key: str, dtype: torch.dtype) -> Stored:
    """A tensor that no other belongs to; of float8 it is restored in `dtype`."""
    facts = container.facts[key]
    if facts.dtype not in FLOAT8:
        return Stored(key, key, facts.shape, facts.dtype, _load(container, key))

    def load() -> Parts:
        content = container.get(key)
        return Parts(lambda start, stop: content[start:stop].float())

    return Stored(key, key, facts.shape, dtype, load, Scheme(str(facts.dtype).removeprefix("torch."), ""))


def compute_dtype(container: Container) -> torch.dtype:
    """The 16-bit type that most tensors beside quantized weights have; bfloat16 where none has one."""
    counts = {torch.bfloat16: 0, torch.float16: 0}
    for facts in container.facts.values():
        if facts.dtype in counts:
            counts[facts.dtype] += 1
    return max(counts, key=lambda dtype: counts[dtype])


def _load(container: Container, key: str) -> Callable[[], torch.Tensor]:
    return lambda: container.get(key)
