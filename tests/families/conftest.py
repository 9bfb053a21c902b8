"""Variants that are not compiled: graphs run as they are, so that a model takes a second instead of a minute."""

import pytest
import torch

from tadp import passes


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave Inductor out; everything before it (capture, passes, dispatch) and all operators run as always."""
    torch._dynamo.reset()
    monkeypatch.setattr(passes, "lower", lambda graph, device, options=None: passes.Lowered(graph.forward))
