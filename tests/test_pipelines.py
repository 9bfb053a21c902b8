"""What pipelines say of themselves."""

from types import SimpleNamespace

import numpy as np

from tadp.compiler.adoption import adopt_pipeline
from tadp.pipelines import first_clip, takes
from tests.fakes import FakePipeline


def test_a_compiled_pipeline_still_says_what_its_call_takes() -> None:
    pipeline = FakePipeline()
    adopt_pipeline(pipeline, ())
    assert takes(pipeline, "num_frames")
    assert not takes(pipeline, "callback_on_step_end")


def test_an_image_is_a_clip_of_one_frame() -> None:
    clips, images = np.random.default_rng(0).random((2, 5, 4, 4, 3)), np.ones((2, 4, 4, 3))
    assert np.array_equal(first_clip(SimpleNamespace(frames=clips)), clips[0].astype(np.float32))
    assert first_clip(SimpleNamespace(images=images)).shape == (1, 4, 4, 3)
