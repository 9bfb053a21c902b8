"""What does a change of policy cost, and does anything recompile?"""

import statistics
import time

import torch
from torch._dynamo.utils import counters

import tadp
from bench.models.model import demo_inputs, demo_transformer
from bench.record import parser, record

POLICIES = ("static:16", "static:8", "static:6", "static:4", "complexity")


def main() -> None:
    """Switch among all policies many times between forwards of the embedded model."""
    options = parser(__doc__).parse_args()
    model = tadp.compile(demo_transformer(), policy="complexity", calibration=None)
    inputs = demo_inputs()
    first_use = {}
    for policy in POLICIES:
        started = time.perf_counter()
        model.tadp.use(policy)
        model(**inputs)
        first_use[policy] = time.perf_counter() - started
    frames = counters["stats"]["unique_graphs"]
    switches: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    firsts: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    seconds: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    for _ in range(5):
        for policy in POLICIES:
            started = time.perf_counter()
            model.tadp.use(policy)
            switches[policy].append(time.perf_counter() - started)
            for times in (firsts, seconds):
                started = time.perf_counter()
                model(**inputs)
                times[policy].append(time.perf_counter() - started)
    rows = [
        {
            "policy": policy,
            "switch, ms (median)": statistics.median(switches[policy]) * 1e3,
            "switch, ms (max)": max(switches[policy]) * 1e3,
            "first forward after it, ms": statistics.median(firsts[policy]) * 1e3,
            "later forward, ms": statistics.median(seconds[policy]) * 1e3,
            "compiling at first use, s": first_use[policy],
        }
        for policy in POLICIES
    ]
    recompilations = counters["stats"]["unique_graphs"] - frames
    record("switching", rows, options.json, recompilations=recompilations, threads=torch.get_num_threads())


if __name__ == "__main__":
    main()
