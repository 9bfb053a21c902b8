"""How long does the embedded model take to its first forward, with empty caches on disk and with filled ones?"""

import os
import statistics
import subprocess
import sys
import tempfile

from bench.record import parser, record

TIMED = """
import time
import torch
import tadp
from bench.models.model import demo_inputs, demo_transformer
model, inputs = demo_transformer(), demo_inputs()
started = time.perf_counter()
if {tadp}:
    model = tadp.compile(model, policy="complexity", calibration=None)
else:
    model = torch.compile(model, dynamic=False)
with torch.no_grad():
    model(**inputs)
print(time.perf_counter() - started)
"""


def main() -> None:
    """Each start is a process of its own; importing torch and loading the weights is not counted."""
    options = parser(__doc__)
    options.add_argument("--warm", type=int, default=3, help="starts with filled caches, of which the median counts")
    chosen = options.parse_args()
    rows = []
    for name, own in (("torch.compile", False), ("tadp complexity (all variants)", True)):
        with tempfile.TemporaryDirectory() as cache:
            cold = _start(own, cache)
            warm = statistics.median(_start(own, cache) for _ in range(chosen.warm))
        rows.append({"model": name, "cold, s": cold, "warm, s": warm, "warm / cold": warm / cold})
    record("start", rows, chosen.json)


def _start(own: bool, cache: str) -> float:
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache}
    run = subprocess.run(
        [sys.executable, "-c", TIMED.format(tadp=own)], env=environment, check=True, capture_output=True, text=True
    )
    return float(run.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
