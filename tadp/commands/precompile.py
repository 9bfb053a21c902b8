"""`tadp precompile`: fill the caches on disk, so that the first generation starts at once."""

import time
from dataclasses import replace

import torch
from torch._dynamo.utils import counters
from torch._inductor.runtime.cache_dir_utils import cache_dir
from tqdm import tqdm

from tadp.commands.capture import Layer, capture, distinct_layers
from tadp.commands.errors import InputError
from tadp.commands.model import floating_type
from tadp.commands.settings import Settings
from tadp.files.codes import CodesDirectory
from tadp.kernels.planes import group_count
from tadp.kernels.registry import Request
from tadp.policy import Policy
from tadp.precision import L16, Level, Role


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
    if settings.codes is not None:  # which capture has read
        settings = replace(settings, group_size=CodesDirectory.load(settings.codes).header.group_size)
    layers = distinct_layers(compiled)
    started = time.perf_counter()
    for architecture in settings.arch:
        products = [
            ahead_of_time.Product(_request(layer, level, architecture, settings), *layer[3:])
            for layer in layers
            for level in levels(policy)
        ]
        ahead_of_time.compile_for(architecture, tqdm(products, desc=architecture, unit="kernel", leave=False))
    names, seconds = ", ".join(settings.arch), time.perf_counter() - started
    print(
        f"{name}: kernels of {len(layers)} linear layers ready for {names} in {seconds:.1f} s; they are kept in "
        f"{ahead_of_time.cache_directory()}. The graphs around them are compiled when the model first runs on the GPU."
    )
    return 0


def levels(policy: Policy) -> list[Level]:
    """The levels below 16 bits that a policy may give to a linear layer."""
    roles = [role for role in Role if role is not Role.ATTENTION]
    return sorted({recipe[role] for recipe in policy.recipes() for role in roles} - {L16})


def _request(layer: Layer, level: Level, architecture: str, settings: Settings) -> Request:
    tokens, rows, columns = layer[:3]
    groups = group_count(columns, settings.group_size)
    return Request(
        level, tokens, columns, rows, groups, floating_type(settings.dtype, torch.device("cuda")), "cuda", architecture
    )
