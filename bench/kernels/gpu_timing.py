"""The time of a call on a GPU, with nothing left in the L2 cache and nothing of what Python needs to make it."""

from collections.abc import Callable
from typing import Any

import torch

Call = Callable[[], object]


class CudaTimer:
    """Seconds of one call between two events, after the L2 cache was overwritten.

    The overwriting takes longer than Python needs to enqueue a call, so the GPU never waits for it.
    """

    def __init__(self) -> None:
        cache = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
        self._flush = torch.empty(max(4 * cache, 512 << 20), dtype=torch.int8, device="cuda")

    def __call__(self, call: Call) -> float:
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._flush.zero_()
        before.record()
        call()
        after.record()
        after.synchronize()
        return before.elapsed_time(after) * 1e-3


def captured(call: Call, pool: Any) -> Call:
    """The call as a CUDA graph, which leaves out what it costs Python to make it; itself where it cannot be captured.

    Args:
        call: what to capture.
        pool: of torch.cuda.graph_pool_handle. Graphs that share it overwrite each other's results.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, pool=pool):
            call()
    except RuntimeError:
        torch.cuda.synchronize()
        return call
    return graph.replay
