"""`tadp precompile`: fill the caches on disk, so that the first generation starts at once."""

import time

from torch._dynamo.utils import counters
from torch._inductor.runtime.cache_dir_utils import cache_dir

from tadp.commands.explain import capture
from tadp.commands.generate import read_policies
from tadp.commands.model import call_arguments, compile_pipeline, is_embedded, load_pipeline
from tadp.commands.settings import Settings


def precompile(settings: Settings) -> int:
    """Compile every variant that a policy may choose, at the size asked for, and say where they were stored.

    Returns:
        The exit code.

    Raises:
        InputError: for a model or policy that cannot be used as given.
    """
    (policy,) = read_policies([settings.policy], is_embedded(settings.model)).values()
    pipeline = load_pipeline(settings)
    arguments = call_arguments(pipeline, settings)
    before = dict(counters["inductor"])
    started = time.perf_counter()
    capture(compile_pipeline(pipeline, policy, precompile=True), arguments)
    seconds = time.perf_counter() - started
    new, found = (
        counters["inductor"][name] - before.get(name, 0) for name in ("fxgraph_cache_miss", "fxgraph_cache_hit")
    )
    print(f"{policy}: {new} variants compiled, {found} found, in {seconds:.1f} s; they are kept in {cache_dir()}")
    return 0
