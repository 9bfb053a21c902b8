"""A GPU whose properties are stated and which is not there: torch and Triton compile for it, and nothing is launched.

It takes a CUDA build of torch. Each patch stands for a question that torch asks the driver while it compiles; written
for the release that constraints-cuda.txt names.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch._dynamo.device_interface import CudaInterface
from torch._inductor.fx_passes.joint_graph import UniformValueConstantFolder
from torch._inductor.runtime import triton_helpers, triton_heuristics
from torch._inductor.runtime.hints import DeviceProperties
from torch.utils import _triton
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from tadp.kernels.triton.ahead_of_time import compiling_for


@dataclass(frozen=True)
class StatedGpu:
    """What torch reads of a GPU's properties, under torch's names; those of an H100 SXM by its data sheet."""

    name: str = "NVIDIA H100 80GB HBM3"
    major: int = 9
    minor: int = 0
    multi_processor_count: int = 132
    total_memory: int = 80 * 2**30
    regs_per_multiprocessor: int = 65536
    max_threads_per_multi_processor: int = 2048
    max_threads_per_block: int = 1024
    warp_size: int = 32
    shared_memory_per_block: int = 48 * 2**10
    shared_memory_per_block_optin: int = 227 * 2**10
    shared_memory_per_multiprocessor: int = 228 * 2**10
    L2_cache_size: int = 50 * 2**20

    @property
    def architecture(self) -> str:
        """As tadp names it."""
        return f"sm_{self.major}{self.minor}"


Compiled = Callable[[str, int], None]
"""Is told the name of a kernel that Inductor wrote, and how many configurations of it were compiled."""


@contextmanager
def stated(gpu: StatedGpu, compiled: Compiled = lambda name, configurations: None) -> Iterator[None]:
    """Take `gpu` for the machine's GPU meanwhile. Kernels are compiled down to machine code, and never loaded."""
    with ExitStack() as stack:
        for target, name, answer in _answers(gpu):
            stack.enter_context(mock.patch.object(target, name, answer))
        stack.enter_context(mock.patch.object(UniformValueConstantFolder, "_deduce_value", _folding_on_cpu()))

        def keep(tuner: Any) -> None:
            compiled(tuner.fn.__name__, len(tuner.compile_results))

        # What follows compiling is loading, which takes a driver.
        stack.enter_context(mock.patch.object(triton_heuristics.CachingAutotuner, "_make_launchers", keep))
        stack.enter_context(mock.patch.object(triton_helpers, "set_driver_to_gpu"))
        stack.enter_context(compiling_for(gpu.architecture))
        stack.callback(_forget_answers)
        _forget_answers()
        yield


def _answers(gpu: StatedGpu) -> Iterator[tuple[object, str, object]]:
    """Where torch asks, under which name, and what answers."""

    def properties(device: object = None) -> StatedGpu:
        return gpu

    yield torch.cuda, "get_device_properties", properties
    yield torch.cuda, "get_device_capability", lambda device=None: (gpu.major, gpu.minor)
    yield torch.cuda, "get_device_name", lambda device=None: gpu.name
    yield CudaInterface, "get_device_properties", staticmethod(properties)
    yield CudaInterface, "is_available", staticmethod(lambda: True)
    yield CudaInterface, "is_bf16_supported", staticmethod(lambda including_emulation=True: True)
    yield CudaInterface, "current_device", staticmethod(lambda: 0)
    yield CudaInterface, "device_count", staticmethod(lambda: 1)
    yield CudaInterface, "synchronize", staticmethod(lambda device=None: None)
    yield CudaInterface.Worker, "get_device_properties", staticmethod(properties)
    yield CudaInterface.Worker, "current_device", staticmethod(lambda: 0)


def _forget_answers() -> None:
    """Of functions that ask once a process."""
    _triton.has_triton.cache_clear()
    DeviceProperties.create.cache_clear()


class _OnCpu(TorchDispatchMode):
    """Makes on the CPU what is to be made on a GPU."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def moved(value: object) -> object:
            return torch.device("cpu") if isinstance(value, torch.device) and value.type == "cuda" else value

        return function(*tree_map(moved, args), **tree_map(moved, kwargs or {}))


def _folding_on_cpu() -> Callable[[Any, torch.fx.Node], object]:
    """Inductor folds constants such as 127 by making one-element tensors, on the device of the graph."""
    original = UniformValueConstantFolder._deduce_value

    def deduce(folder: Any, node: torch.fx.Node) -> object:
        with _OnCpu():
            return original(folder, node)

    return deduce
