"""What decision 0021 says of re-tiled planes, and that the kernels which it compiles are right."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed")

from bench.kernels.retiled import kernels
from tadp.kernels.triton.compiled import Compiled, inspect


@pytest.mark.interpreter
def test_retiled_products_are_right() -> None:
    file = Path(__file__).with_name("interpreted_retiled.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def compiled(architecture: str) -> dict[str, tuple[Compiled, int]]:
    return {name: (inspect(kernel), steps) for _, name, _, steps, kernel in kernels(architecture)}


@pytest.mark.aot
def test_retiling_saves_hopper_neither_instructions_nor_waits() -> None:
    found = compiled("sm_90")
    retiled, _ = found["joined"]
    deep, _ = found["triton-deep-256x128x32-w16-s4"]
    longer, steps = found["triton-256x128x64-w16-s3"]
    assert retiled.from_registers
    assert (retiled.products, retiled.waits) == (deep.products, deep.waits) == (4, 1)
    assert retiled.instructions == pytest.approx(deep.instructions, rel=0.05)
    assert retiled.instructions == pytest.approx(longer.instructions / steps, rel=0.05)
    assert found["split"][0].instructions > 1.2 * found["triton-256x128x32-w16-s4"][0].instructions


@pytest.mark.aot
def test_retiling_costs_single_warps_instructions() -> None:
    found = compiled("sm_80")
    apart = found["triton-128x128x32-w8-s4"][0].instructions
    assert found["joined"][0].instructions > 2 * apart
    assert found["split"][0].instructions > 1.3 * apart
    longer, steps = found["triton-128x128x64-w8-s3"]
    assert longer.instructions / steps < apart
