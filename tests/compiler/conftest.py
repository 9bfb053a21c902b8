"""One compiled model for all tests of a file."""

import pytest
import torch
from diffusers import WanTransformer3DModel

import tadp
from tests.models import tiny_transformer


@pytest.fixture(scope="module")
def _compiled() -> WanTransformer3DModel:
    torch._dynamo.reset()
    return tadp.compile(tiny_transformer(), policy="static:16")


@pytest.fixture
def compiled(_compiled: WanTransformer3DModel) -> WanTransformer3DModel:
    """One model for all tests of a file, as compiling takes long; each finds it at 16 bits, before a generation."""
    _compiled.tadp.use("static:16")
    _compiled.tadp.begin()
    return _compiled
