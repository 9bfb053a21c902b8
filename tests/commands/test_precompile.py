"""`tadp precompile --arch`: kernels for GPUs that need not be there, found again by the next run."""

from pathlib import Path

import pytest

from tadp.cli import main
from tests.fakes import FakePipeline

triton = pytest.importorskip("triton", reason="triton is not installed")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path / "triton"))
    return tmp_path / "triton"


def entries(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir()} if cache.exists() else set()


@pytest.mark.aot
def test_kernels_are_compiled_for_each_architecture_and_level(
    pipeline: FakePipeline, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["precompile", "--policy", "static:4", "--device", "cpu", "--arch"]
    assert main([*arguments, "sm_90,sm_120"]) == 0
    printed = capsys.readouterr().out
    assert "kernels of 1 linear layers ready for sm_90, sm_120" in printed
    assert str(cache) in printed
    both = entries(cache)
    assert len(both) == 2
    assert main([*arguments, "sm_90"]) == 0
    assert entries(cache) == both  # found again
    assert main(["precompile", "--policy", "static:8", "--device", "cpu", "--arch", "sm_90"]) == 0
    assert len(entries(cache)) == 3


@pytest.mark.parametrize("architecture", ["sm_75", "90", "hopper"])
def test_an_unknown_architecture_is_refused(
    pipeline: FakePipeline, architecture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["precompile", "--device", "cpu", "--arch", architecture]) == 2
    assert f"{architecture!r} is no architecture that kernels exist for" in capsys.readouterr().err
