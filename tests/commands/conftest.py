"""A fake pipeline in the place of every model that the command line would load."""

from typing import Any

import pytest

import tadp
from tadp.commands import capture, generate
from tests.fakes import FakeController, FakePipeline


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    """A fake pipeline in the place of every model that would be loaded; compiling it attaches a fake controller."""
    fake = FakePipeline()

    def compile_fake(model: FakePipeline, policy: str = "complexity", **_: Any) -> FakePipeline:
        model.transformer.tadp = FakeController()
        model.transformer.tadp.use(policy)
        return model

    monkeypatch.setattr(tadp, "compile", compile_fake, raising=False)
    for command in (generate, capture):
        monkeypatch.setattr(command, "load_pipeline", lambda settings: fake)
    return fake


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips and plans are not drawn, where a test is about something else."""
    monkeypatch.setattr(generate, "write_clip", lambda *_: {})
    monkeypatch.setattr(generate, "draw_plan", lambda *_: None)
