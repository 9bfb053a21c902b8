"""What every test runs in: its own cache folder, and one compiled model for a file."""

import pytest
import torch
from diffusers import WanTransformer3DModel

import tadp
from tests.models import tiny_transformer


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TADP_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "tadp-cache"))


@pytest.fixture(scope="module")
def compiled() -> WanTransformer3DModel:
    """One model for all tests of a file, as compiling takes long; its policy is what the last test left."""
    torch._dynamo.reset()
    return tadp.compile(tiny_transformer(), policy="static:16")
