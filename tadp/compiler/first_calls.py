"""Compiling kernels that otherwise compile at their first call, in the middle of a generation."""

import warnings
from collections.abc import Iterable
from contextlib import nullcontext

import torch
from torch import fx
from torch._subclasses.fake_tensor import unset_fake_temporarily

from tadp import passes
from tadp.errors import KernelWarning
from tadp.kernels.registry import any_compiles_at_first, architecture_of


def compile_before_first_calls(graphs: Iterable[tuple[str, fx.GraphModule]], device: torch.device) -> int:
    """Compile what the kernels of graphs launch on a device, in threads.

    Args:
        graphs: as the quantize pass writes them, each with the name of its piece.
        device: where they will run.

    Returns:
        How many kernels were compiled, or found on disk.
    """
    if not any_compiles_at_first(device.type):
        return 0
    calls = []
    for name, graph in graphs:
        try:
            found = passes.calls_in(graph, device)
        except Exception as error:  # whatever a model does that cannot be traced, its forward still runs
            reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            warnings.warn(f"the kernels of {name} compile when it first runs: {reason}", KernelWarning, stacklevel=2)
            continue
        chosen = ((call, call.kernel(device.type, architecture_of(device))) for call in found)
        calls += [(call, kernel) for call, kernel in chosen if kernel is not None and kernel.compiles_at_first]
    if not calls:
        return 0
    from tadp.kernels.triton.ahead_of_time import compile_calls  # imports triton, which these kernels need anyway

    on_device = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
    with on_device, unset_fake_temporarily():  # Dynamo, which is capturing, has its own tensors without memory
        return compile_calls(calls, "compiling")
