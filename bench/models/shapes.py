"""What does a new resolution or text length cost: seconds of compiling, and time of a step?

Compilations are timed in a process of their own with empty caches, the embedded model at four resolutions with four
lengths of text. Steps are those of the embedded model at 1,280 tokens, in code for this shape and in code for all,
forward by forward in turn.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from bench.record import parser, record

SHAPES = ((5, 16, 16, 64), (5, 12, 20, 48), (3, 16, 12, 56), (4, 20, 20, 40))
"""Frames, rows and columns of the latent, and tokens of text."""
POLICIES = ("static:16", "static:8", "static:8+attention")
DYNAMIC = {"each shape for itself (dynamic=False)": False, "all from the second on (dynamic=None)": None}
ROUNDS = 15


def main() -> None:
    """Measure all, or one case in this very process."""
    options = parser(__doc__)
    options.add_argument("--case", help="compile with this value of dynamic in this process")
    options.add_argument("--policy", default="complexity", help="the policy to compile for")
    options.add_argument("--rounds", type=int, default=ROUNDS)
    chosen = options.parse_args()
    if chosen.case:
        print(json.dumps(compiling(json.loads(chosen.case), chosen.policy)))
        return
    rows: list[dict[str, object]] = []
    for name, dynamic in DYNAMIC.items():
        rows.append({"case": name, **_in_process(dynamic, chosen.policy)})
    steps = {policy: step(policy, chosen.rounds) for policy in POLICIES}
    record("shapes", rows, chosen.json, policy=chosen.policy, steps_in_ms=steps)


def compiling(dynamic: bool | None, policy: str) -> dict[str, object]:
    """Seconds of the first forward at each shape."""
    import tadp
    from bench.models.model import demo_transformer

    model = tadp.compile(demo_transformer(), policy=policy, calibration=None, dynamic=dynamic)
    found: dict[str, object] = {}
    for index, shape in enumerate(SHAPES, 1):
        started = time.perf_counter()
        model(**inputs(*shape))
        found[f"shape {index}, s"] = round(time.perf_counter() - started, 2)
    return found


def step(policy: str, rounds: int) -> dict[str, float]:
    """Milliseconds of a forward at the first shape: median in code for it, in code for all, and their ratio."""
    import tadp
    from bench.models.model import demo_transformer

    models = {
        dynamic: tadp.compile(demo_transformer(), policy=policy, calibration=None, dynamic=dynamic)
        for dynamic in (False, True)
    }
    given = inputs(*SHAPES[0])
    taken: dict[bool, list[float]] = {dynamic: [] for dynamic in models}
    for index in range(rounds + 2):
        for dynamic, model in models.items():
            started = time.perf_counter()
            model(**given)
            if index >= 2:
                taken[dynamic].append(time.perf_counter() - started)
    alone, for_all = (statistics.median(taken[dynamic]) * 1e3 for dynamic in (False, True))
    ratio = statistics.median(every / one for one, every in zip(taken[False], taken[True], strict=True))
    return {"for one": round(alone, 1), "for all": round(for_all, 1), "ratio": round(ratio, 4)}


def inputs(frames: int, rows: int, columns: int, text: int) -> dict[str, Any]:
    """Arguments of one forward of the embedded model."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return {
        "hidden_states": torch.randn(1, 8, frames, rows, columns, generator=generator).bfloat16(),
        "timestep": torch.tensor([900.0]),
        "encoder_hidden_states": torch.randn(1, text, 128, generator=generator).bfloat16(),
        "return_dict": False,
    }


def _in_process(dynamic: bool | None, policy: str) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as caches:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": caches, "TADP_CACHE_DIR": caches}
        command = [sys.executable, "-m", "bench.models.shapes", "--case", json.dumps(dynamic), "--policy", policy]
        finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(finished.stdout.strip().splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
