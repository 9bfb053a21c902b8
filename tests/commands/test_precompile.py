"""`tadp precompile --arch`: kernels for GPUs that need not be there, found again by the next run."""

from pathlib import Path

import pytest
import torch

from tadp.cli import main
from tests.fakes import FakeController, FakePipeline
from tests.models import tiny_inputs, tiny_transformer
from tests.passes.capture import pieces_of

triton = pytest.importorskip("triton", reason="triton is not installed")

from tadp.kernels.triton.pretended import forget_compiled_kernels, gpu_on_this_machine  # noqa: E402


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path / "triton"))
    forget_compiled_kernels()
    return tmp_path / "triton"


def entries(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir()} if cache.exists() else set()


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake controller shows the pieces of a real model."""
    found, _ = pieces_of(tiny_transformer(2, torch.float32), tiny_inputs(dtype=torch.float32))
    monkeypatch.setattr(FakeController, "pieces", found.pieces)


@pytest.mark.compiles
@pytest.mark.usefixtures("captured", "pipeline")
def test_kernels_are_compiled_for_each_architecture_and_operator(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["precompile", "--policy", "static:4+attention", "--device", "cpu", "--dtype", "bfloat16", "--arch"]
    with gpu_on_this_machine() as asked:
        assert main([*arguments, "sm_90,sm_120"]) == 0
    printed = capsys.readouterr().out
    assert {"linear_kernel", "attention_kernel", "quantize_tokens_kernel"} <= {name for name, _ in asked}
    assert "static:4+attention: kernels ready after" in printed
    assert " for sm_90, " in printed
    assert " for sm_120; they are kept in" in printed
    assert str(cache) in printed
    both = entries(cache)
    forget_compiled_kernels()
    assert main([*arguments, "sm_90"]) == 0
    assert entries(cache) == both  # found again
    assert main(["precompile", "--policy", "static:w8a16", "--device", "cpu", "--arch", "sm_90"]) == 0
    assert len(entries(cache)) > len(both)


@pytest.mark.parametrize("architecture", ["sm_75", "90", "hopper"])
def test_an_unknown_architecture_is_refused(
    pipeline: FakePipeline, architecture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["precompile", "--device", "cpu", "--arch", architecture]) == 2
    assert f"{architecture!r} is no architecture that kernels exist for" in capsys.readouterr().err
