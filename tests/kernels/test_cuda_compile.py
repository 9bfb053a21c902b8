"""The CUDA kernels, compiled ahead of time for GPUs that need not be there."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernels.on_host import SOURCES

pytestmark = [pytest.mark.aot, pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")]

ARCHITECTURES = (80, 89, 90, 100, 120)

# Of what linear_few_tokens.cu and quantize.cu launch, the kernels that need most registers, and one or two others.
FEW_TOKENS = (
    (8, 2, 16, True, False),
    (8, 2, 16, True, True),
    (8, 4, 8, True, False),
    (8, 4, 4, True, True),
    (6, 2, 16, True, False),
    (4, 2, 16, True, False),
    (4, 2, 1, True, False),
    (8, 1, 1, False, False),
)
QUANTIZE = (("float", 8, True), ("__nv_bfloat16", 8, True), ("__half", 4, False))


def instantiation(kernel: str, arguments: tuple[object, ...], problem: str) -> str:
    listed = ", ".join(str(argument).lower() if isinstance(argument, bool) else str(argument) for argument in arguments)
    return f"template __global__ void {kernel}<{listed}>({problem});"


def selected_kernels() -> str:
    kernels = [instantiation("few_tokens_kernel", arguments, "FewTokensProblem") for arguments in FEW_TOKENS]
    kernels += [instantiation("quantize_kernel", arguments, "QuantizeProblem") for arguments in QUANTIZE]
    includes = [f'#include "{name}.cuh"' for name in ("linear_few_tokens", "quantize")]
    return "\n".join([*includes, "namespace tadp::cuda {", *kernels, "}", ""])


def nvcc(*arguments: str, contract: bool = False) -> str:
    done = subprocess.run(
        ["nvcc", "-std=c++20", "-O3", f"-fmad={str(contract).lower()}", "-Xptxas", "-v", f"-I{SOURCES}", *arguments],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr
    return done.stderr


def assert_nothing_spills(log: str, kernels: int) -> None:
    assert log.count("Compiling entry function") == kernels
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert len(frames) == kernels
    assert {number for frame in frames for number in frame} == {"0"}, log


def instructions(compiled: Path) -> str | None:
    """The machine code, where a disassembler is installed: the CUDA toolkit has one, and so has Triton."""
    tool = shutil.which("cuobjdump")
    triton = importlib.util.find_spec("triton")
    if tool is None and triton is not None and triton.origin is not None:
        bundled = Path(triton.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        tool = str(bundled) if bundled.is_file() else None
    if tool is None:
        return None
    return subprocess.run([tool, "-sass", str(compiled)], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_selected_kernels(architecture: int, tmp_path: Path) -> None:
    source, cubin = tmp_path / "selected.cu", tmp_path / "selected.cubin"
    source.write_text(selected_kernels())
    log = nvcc(f"-arch=sm_{architecture}", "-cubin", "-o", str(cubin), str(source))
    assert_nothing_spills(log, len(FEW_TOKENS) + len(QUANTIZE))
    code = instructions(cubin)
    if code is not None:
        assert "IDP.4A.U8.S8" in code  # four products an instruction
        assert re.search(r"LDG\.E\.EF\.128", code)  # weights: 16 bytes a lane, first to leave the cache
        assert "REDUX" in code


def test_ptx_holds_dp4a_and_no_contracted_steps(tmp_path: Path) -> None:
    source, ptx = tmp_path / "selected.cu", tmp_path / "selected.ptx"
    source.write_text(selected_kernels())
    nvcc("-arch=compute_80", "-ptx", "-o", str(ptx), str(source))
    text = ptx.read_text()
    assert "dp4a.u32.s32" in text
    assert "div.rn.f32" in text
    assert not re.search(r"\.ftz\.|\.approx\.", text)
    # Where steps are fused they are written so: a compiler that may contract others as well finds none.
    nvcc("-arch=compute_80", "-ptx", "-o", str(ptx), str(source), contract=True)
    assert ptx.read_text().count("fma.") == text.count("fma.")


@pytest.mark.parametrize("name", ["linear_few_tokens", "quantize"])
def test_everything_that_is_launched_on_one_architecture(name: str, tmp_path: Path) -> None:
    log = nvcc("-arch=sm_90", "-cubin", "-o", str(tmp_path / f"{name}.cubin"), str(SOURCES / f"{name}.cu"))
    assert_nothing_spills(log, log.count("Compiling entry function"))
