from pathlib import Path

import pytest
import torch

triton = pytest.importorskip("triton", reason="triton is not installed")

from bench.kernels.host_time import ARCHITECTURE, PLAIN, build, measure  # noqa: E402
from tadp.kernels import replay  # noqa: E402
from tadp.kernels.triton.pretended import gpu_on_this_machine  # noqa: E402


@pytest.mark.aot
def test_every_call_is_timed_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))
    with gpu_on_this_machine(ARCHITECTURE), torch.no_grad():
        rows = measure(0.1)
        calls = build()
        for call in calls.values():
            call()
        assert replay.count() == len(calls)  # so the second column is of replays
    assert [row["call"] for row in rows] == [*calls, PLAIN]
    assert all(row[column] is None or float(str(row[column])) > 0 for row in rows for column in list(row)[1:])
