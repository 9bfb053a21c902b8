"""Inductor's options of a model's blocks."""

import warnings
from collections.abc import Mapping

import torch

_CUDA_GRAPHS = "triton.cudagraphs"


def inductor_options(mode: str | None, options: Mapping[str, object]) -> dict[str, object]:
    """What blocks are compiled with: options, and those that a mode of `torch.compile` stands for, but no CUDA graphs.

    Blocks are compiled one by one. A CUDA graph that Inductor recorded of one gives up its output as soon as the next
    block is entered, which then reads it (pytorch issue 152887). And planes are inputs like any others: each replay
    would copy all of them.

    Args:
        mode: such as "max-autotune"; None for none.
        options: of Inductor, by name.

    Raises:
        ValueError: for a mode that `torch.compile` does not know.
    """
    found = dict(options)
    if mode is not None:
        known = torch._inductor.list_mode_options()
        if mode not in known:
            raise ValueError(f"torch.compile has no mode {mode!r}; modes are {', '.join(known)}")
        found |= known[mode]
    if found.get(_CUDA_GRAPHS, torch._inductor.config.triton.cudagraphs):
        warnings.warn(
            f"CUDA graphs, which {'options' if mode is None else f'mode={mode!r}'} asked for, are left out: blocks are "
            "compiled one by one, and a graph of one would overwrite what the next one reads. Everything else that was "
            "asked for stays in force",
            UserWarning,
            stacklevel=4,
        )
    return found | {_CUDA_GRAPHS: False}
