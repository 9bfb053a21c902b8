"""A GPU's kernels on the memory of this machine: they compile as on that GPU, and are started for nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from tadp.kernels import registry
from tadp.kernels.registry import AnyRequest, Kernel


@contextmanager
def gpu_on_this_machine(architecture: str = "sm_90") -> Iterator[list[tuple[str, bool]]]:
    """Let CPU tensors run through the launchers of a GPU, whose results are left as they were allocated.

    Yields:
        The name of each kernel that Triton is asked to compile, and whether it was found on disk.
    """
    import triton

    from tadp.kernels.triton.ahead_of_time import compiling_for

    asked: list[tuple[str, bool]] = []
    of_gpu = {
        (operator, "cpu"): tuple(_here(kernel, architecture) for kernel in kernels if kernel.compiles_at_first)
        for (operator, device), kernels in registry.KERNELS.items()
        if device == "cuda"
    }
    with pytest.MonkeyPatch.context() as patch, compiling_for(architecture):
        patch.setattr(registry, "KERNELS", {**registry.KERNELS, **of_gpu})
        patch.setattr(
            triton.knobs.compilation,
            "listener",
            lambda src, cache_hit, **_: asked.append((src.name, cache_hit)),
        )
        yield asked


def _here(kernel: Kernel, architecture: str) -> Kernel:
    def there(ask: Callable[[AnyRequest], Any]) -> Callable[[AnyRequest], Any]:
        return lambda request: ask(replace(request, device="cuda", architecture=architecture))

    sizes = None if kernel.sizes is None else there(kernel.sizes)
    return replace(kernel, device="cpu", serves=there(kernel.serves), sizes=sizes)


def forget_compiled_kernels() -> None:
    """Let Triton look on disk again for every kernel."""
    from triton.runtime import jit

    for kernel in jit._triton_jit_function_registry.values():
        kernel.device_caches.clear()
