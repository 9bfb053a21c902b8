"""`tadp precompile`: fill the caches on disk, so that the first generation starts at once."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch._dynamo.utils import counters
from torch._inductor.runtime.cache_dir_utils import cache_dir

from tadp import passes
from tadp.commands.capture import capture
from tadp.commands.errors import InputError
from tadp.commands.model import controllers, floating_type
from tadp.commands.settings import Settings
from tadp.kernels.calls import Call
from tadp.policy import Policy


def precompile(settings: Settings) -> int:
    """Compile every variant that a policy may choose, at the size asked for, and say where they were stored.

    With architectures given, compile the kernels of these variants for GPUs that need not be there.

    Returns:
        The exit code.

    Raises:
        InputError: for a model, policy or architecture that cannot be used as given.
    """
    if settings.arch:
        return _for_architectures(settings)
    before = dict(counters["inductor"])
    started = time.perf_counter()
    policy = capture(settings, precompile=True).name
    seconds = time.perf_counter() - started
    new, found = (
        counters["inductor"][name] - before.get(name, 0) for name in ("fxgraph_cache_miss", "fxgraph_cache_hit")
    )
    print(f"{policy}: {new} variants compiled, {found} found, in {seconds:.1f} s; they are kept in {cache_dir()}")
    return 0


def _for_architectures(settings: Settings) -> int:
    try:
        from tadp.kernels.triton import ahead_of_time
    except ImportError as error:
        raise InputError(f"--arch: kernels for GPUs are compiled by Triton, which is missing ({error})") from error
    for architecture in settings.arch:
        try:
            ahead_of_time.capability_of(architecture)
        except ValueError as error:
            raise InputError(f"--arch: {error}") from error
    compiled, policy, name = capture(settings, precompile=False)
    calls = list(_calls(compiled, policy, floating_type(settings.dtype, torch.device("cuda"))))
    started = time.perf_counter()
    counts = [f"{ahead_of_time.compile_for(arch, calls)} for {arch}" for arch in settings.arch]
    seconds = time.perf_counter() - started
    print(
        f"{name}: kernels ready after {seconds:.1f} s, {', '.join(counts)}; they are kept in "
        f"{ahead_of_time.cache_directory()}. The graphs around them are compiled when the model first runs on the GPU."
    )
    return 0


def _calls(pipeline: Any, policy: Policy, dtype: torch.dtype) -> Iterator[Call]:
    """What the blocks of a pipeline that was captured on this machine would call on a GPU."""
    cpu = torch.device("cpu")
    for controller in controllers(pipeline).values():
        structures = {piece.structure: piece for piece in controller.pieces if piece.block}
        recipes = dict.fromkeys(recipe.running for recipe in policy.recipes())
        for piece, recipe in itertools.product(structures.values(), recipes):
            for call in passes.calls_in(passes.quantize(piece.graph, recipe).graph, cpu):
                yield call.on_gpu(dtype)
