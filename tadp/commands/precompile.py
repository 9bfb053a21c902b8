"""`tadp precompile`: fill the caches on disk, so that the first generation starts at once."""

import time

from torch._dynamo.utils import counters
from torch._inductor.runtime.cache_dir_utils import cache_dir

from tadp.commands.capture import capture
from tadp.commands.settings import Settings


def precompile(settings: Settings) -> int:
    """Compile every variant that a policy may choose, at the size asked for, and say where they were stored.

    Returns:
        The exit code.

    Raises:
        InputError: for a model or policy that cannot be used as given.
    """
    before = dict(counters["inductor"])
    started = time.perf_counter()
    _, policy = capture(settings, precompile=True)
    seconds = time.perf_counter() - started
    new, found = (
        counters["inductor"][name] - before.get(name, 0) for name in ("fxgraph_cache_miss", "fxgraph_cache_hit")
    )
    print(f"{policy}: {new} variants compiled, {found} found, in {seconds:.1f} s; they are kept in {cache_dir()}")
    return 0
