"""A GPU's kernels on the memory of this machine: they compile as on that GPU, and are started for nothing.

So everything that the processor does for a GPU's kernel can be run, counted and timed on a machine without one, but for
the driver's own part of a launch. Results are left as they were allocated.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import triton
from triton.runtime import jit

from tadp.kernels import registry, replay
from tadp.kernels.registry import AnyRequest, Kernel
from tadp.kernels.triton.ahead_of_time import compiling_for


@contextmanager
def gpu_on_this_machine(architecture: str = "sm_90") -> Iterator[list[tuple[str, bool]]]:
    """Let tensors in main memory run through the launchers of a GPU.

    Yields:
        The name of each kernel that Triton is asked to compile, and whether it was found on disk.
    """
    asked: list[tuple[str, bool]] = []
    of_gpu = {
        (operator, "cpu"): tuple(_here(kernel, architecture) for kernel in kernels if kernel.compiles_at_first)
        for (operator, device), kernels in registry.KERNELS.items()
        if device == "cuda"
    }
    kernels, listener = registry.KERNELS, triton.knobs.compilation.listener
    registry.KERNELS = {**kernels, **of_gpu}
    triton.knobs.compilation.listener = lambda src, cache_hit, **_: asked.append((src.name, cache_hit))
    replay.forget()
    try:
        with compiling_for(architecture):
            yield asked
    finally:
        registry.KERNELS, triton.knobs.compilation.listener = kernels, listener
        replay.forget()


def forget_compiled_kernels() -> None:
    """Let Triton look on disk again for every kernel."""
    for kernel in jit._triton_jit_function_registry.values():
        kernel.device_caches.clear()


def _here(kernel: Kernel, architecture: str) -> Kernel:
    def there(ask: Callable[[AnyRequest], Any]) -> Callable[[AnyRequest], Any]:
        return lambda request: ask(replace(request, device="cuda", architecture=architecture))

    sizes = None if kernel.sizes is None else there(kernel.sizes)
    return replace(kernel, device="cpu", serves=there(kernel.serves), sizes=sizes)
