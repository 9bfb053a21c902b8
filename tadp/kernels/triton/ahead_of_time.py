"""Triton kernels, compiled before they run: for this machine's GPU, or into the cache on disk for another one.

The launchers run as they would, on tensors without memory, and start nothing. So what is compiled is what a launch
looks for, whatever the launchers' rules are. For a GPU that is not there, a driver stands in that loads and launches
nothing.
"""

import os
import re
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any

import triton
from tqdm import tqdm
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITCallable

from tadp.kernels.calls import Call
from tadp.kernels.registry import Kernel, candidates
from tadp.kernels.triton.starting import only_compiling

CAPABILITIES = ((8, 0), (8, 6), (8, 7), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0), (12, 1))
"""Of NVIDIA's GPUs from Ampere to Blackwell."""


def capability_of(architecture: str) -> tuple[int, int]:
    """The compute capability that "sm_90" and its like stand for.

    Raises:
        ValueError: for any other text.
    """
    match = re.fullmatch(r"sm_(\d+)(\d)a?", architecture)
    if match is None or (int(match[1]), int(match[2])) not in CAPABILITIES:
        names = ", ".join(f"sm_{major}{minor}" for major, minor in CAPABILITIES)
        raise ValueError(f"{architecture!r} is no architecture that kernels exist for; there are {names}")
    return int(match[1]), int(match[2])


def compile_for(architecture: str, calls: Iterable[Call]) -> int:
    """Compile the first Triton kernel of each call for a GPU that need not be there, into Triton's cache on disk.

    Nothing else in this process may launch Triton kernels meanwhile: they would not run.

    Args:
        architecture: "sm_90" and its like.
        calls: of operators.

    Returns:
        How many kernels are in the cache now that these calls need.

    Raises:
        ValueError: as ``capability_of``.
    """
    chosen = ((call, _first(call, architecture)) for call in calls)
    with compiling_for(architecture):
        return compile_calls([(call, kernel) for call, kernel in chosen if kernel is not None], architecture)


def compile_calls(calls: Iterable[tuple[Call, Kernel]], name: str) -> int:
    """Compile what calls launch for the current GPU, in threads; what is compiled already is left alone.

    What cannot be compiled is left to the run, which warns and takes another kernel.

    Args:
        calls: with the kernel that runs each.
        name: shown beside the progress bar.

    Returns:
        How many kernels were not in this process yet.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool, only_compiling(), parsing_one_at_a_time():
        with triton.AsyncCompileMode(pool, ignore_errors=True) as mode:
            for call, kernel in calls:
                call.run(kernel)
            pending = list(mode.raw_futures)
            done, hidden = as_completed(pending), not pending
            for _ in tqdm(done, desc=f"{name} kernels", total=len(pending), disable=hidden, leave=False):
                pass
        return len(pending)


@contextmanager
def parsing_one_at_a_time() -> Iterator[None]:
    """Let threads that compile kernels take turns at parsing their source.

    Python before 3.13 counts the depth of syntax trees for all threads together, and now and then one fails with "AST
    constructor recursion depth mismatch" (python/cpython issue 106905).
    """
    parse, turn = JITCallable.parse, threading.RLock()

    def in_turn(function: JITCallable) -> Any:
        with turn:
            return parse(function)

    JITCallable.parse = in_turn
    try:
        yield
    finally:
        JITCallable.parse = parse


def cache_directory() -> str:
    """Where Triton keeps what it compiles."""
    return str(triton.knobs.cache.dir)


@contextmanager
def compiling_for(architecture: str) -> Iterator[None]:
    """Launch nothing meanwhile, and compile for an architecture."""
    major, minor = capability_of(architecture)
    before = driver._active
    driver.set_active(_CompileOnly(10 * major + minor))
    try:
        yield
    finally:
        driver._active = before


def _first(call: Call, architecture: str) -> Kernel | None:
    """The first kernel of an operator that compiles, which runs where no library of this package holds a better one."""
    offered = candidates(call.request("cuda", architecture))
    return next((kernel for kernel in offered if kernel.operator == call.operator and kernel.compiles_at_first), None)


class _CompileOnly:
    """A driver for a GPU that is not there: what it is asked to load and to launch, it does not."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)
        self._device = f"{self._target}"  # kernels are remembered by device, and must not pass for those of a real one
        self.utils = self
        self.launcher_cls = _no_launcher

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> str:
        return self._device

    def get_current_stream(self, device: object) -> int:
        return 0

    def get_device_properties(self, device: object) -> dict[str, int]:
        return {"max_shared_mem": 1 << 30}

    def load_binary(self, *arguments: object) -> tuple[object, None, int, int, int]:
        return self, None, 0, 0, 1024


def _no_launcher(source: object, metadata: object) -> Any:
    return lambda *arguments: None
