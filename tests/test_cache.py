"""Compiled variants are found again on disk by the next process, and what is damaged is compiled anew."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import json, sys
import torch, tadp
from torch._dynamo.utils import counters
from tests.models import tiny_inputs, tiny_transformer
model = tadp.compile(tiny_transformer(layers=2), policy="complexity")
output = model(**tiny_inputs())[0]
found, whole = counters["inductor"], counters["aot_autograd"]
print(json.dumps({
    "hits": found["fxgraph_cache_hit"],
    "misses": found["fxgraph_cache_miss"],
    "bypassed": found["fxgraph_cache_bypass"] + whole["autograd_cache_bypass"],
    "sum": output.double().sum().item(),
}))
"""


def start(cache: Path) -> dict[str, float]:
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(cache), "PYTHONPATH": os.getcwd()}
    run = subprocess.run([sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    found: dict[str, float] = json.loads(run.stdout.strip().splitlines()[-1])
    return found


@pytest.mark.compiles
@pytest.mark.spawns
def test_a_second_start_compiles_nothing_and_a_damaged_cache_is_rebuilt(tmp_path: Path) -> None:
    cold = start(tmp_path)
    variants = cold["misses"]
    assert variants > 1
    assert (cold["hits"], cold["bypassed"]) == (0, 0)
    warm = start(tmp_path)
    assert (warm["hits"], warm["misses"], warm["bypassed"]) == (variants, 0, 0)
    damaged = [path for kind in ("fxgraph", "aotautograd") for path in (tmp_path / kind).rglob("*") if path.is_file()]
    assert damaged
    for path in damaged:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    rebuilt = start(tmp_path)
    assert rebuilt["hits"] == 0
    assert rebuilt["sum"] == warm["sum"] == cold["sum"]
