"""What `tadp precompile --arch` compiles: kernels of every level, for GPUs that need not be there."""

import importlib.util
from dataclasses import replace

import pytest

from tadp.precision import Level
from tests.kernels.requests import ON_GPU

pytestmark = [
    pytest.mark.aot,
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed"),
]


@pytest.mark.parametrize("level", ["8", "6", "4", "7m", "6m", "5m", "w8a16", "w4a16"])
def test_every_level_compiles(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tadp.kernels.triton import ahead_of_time

    asked = []
    for name in ("linear", "weight_only_linear"):
        run = getattr(ahead_of_time, name)
        monkeypatch.setattr(
            ahead_of_time,
            name,
            lambda first, planes, *others, run=run: (asked.append(planes), run(first, planes, *others)),
        )
    request = replace(ON_GPU, level=Level.parse(level), tokens=64, columns=256, rows=128)
    ahead_of_time.compile_for("sm_90", [ahead_of_time.Product(request, "none", False)])
    (planes,) = asked
    assert planes.width == request.level.widest
    assert (planes.widths is not None) == request.level.mixed
