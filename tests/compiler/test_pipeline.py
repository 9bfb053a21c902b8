"""A whole diffusers pipeline, untrained and tiny, under tadp.compile."""

from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline, WanVideoToVideoPipeline

import tadp
from tadp.demo.architecture import make_transformer
from tadp.policy import Complexity, Static
from tadp.precision import L6, L8
from tests.pipelines import tiny_clip, tiny_pipeline

pytestmark = pytest.mark.compiles


@pytest.fixture(scope="module")
def _compiled() -> WanPipeline:
    torch._dynamo.reset()
    pipeline = tadp.compile(tiny_pipeline(), policy="complexity")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def compiled(_compiled: WanPipeline) -> WanPipeline:
    """One pipeline for all tests; each finds it under its first policy, before a generation."""
    _compiled.tadp.use("complexity")
    _compiled.tadp.begin()
    return _compiled


def test_prompt_branches_and_steps_are_observed(compiled: WanPipeline) -> None:
    assert isinstance(compiled, WanPipeline)
    first = len(compiled.tadp.history)
    tiny_clip(compiled, "a red circle moves left on a black background", guidance_scale=4.0)
    records = compiled.tadp.history[first:]
    assert [(record.step, record.branch, record.phase) for record in records] == [
        (step, branch, "probe" if step <= 1 else "run") for step in (1, 2, 3, 4) for branch in ("cond", "uncond")
    ]
    assert len({record.generation for record in records}) == 1
    assert compiled.tadp.score.text is not None


def test_the_same_seed_and_plan_give_the_sametiny_clip(compiled: WanPipeline) -> None:
    clips = [tiny_clip(compiled, "a red circle", guidance_scale=1.0) for _ in range(2)]
    assert torch.equal(*clips)


def test_every_generation_is_probed_anew(compiled: WanPipeline) -> None:
    first = len(compiled.tadp.history)
    for _ in range(2):
        tiny_clip(compiled, "a red circle", guidance_scale=1.0)
    phases = [record.phase for record in compiled.tadp.history[first:]]
    assert phases == ["probe", "run", "run", "run"] * 2


def test_the_plan_follows_the_thresholds(compiled: WanPipeline) -> None:
    levels = {}
    for name, policy in {
        "low": Complexity(low=1.0, high=1.0, lowest=L6),
        "high": Complexity(low=0.0, high=0.0),
    }.items():
        compiled.tadp.use(policy)
        tiny_clip(compiled, "a red circle", guidance_scale=1.0)
        levels[name] = {str(recipe.default) for _, recipe in compiled.tadp.plan}
    assert levels == {"low": {"6", "16"}, "high": {"8", "16"}}


def test_a_batch_of_prompts_is_judged_by_its_most_complex_one(compiled: WanPipeline) -> None:
    simple, busy = "a red circle", "a red circle bounces, then a blue star moves left behind a green square that grows"
    compiled.tadp.use(Static(L8, probe_steps=1))  # a score, and little to compile for the batch
    text = []
    for prompt in ([simple], [simple, busy]):
        tiny_clip(compiled, prompt, guidance_scale=1.0)
        text.append(compiled.tadp.score.text)
    assert text[1] > text[0]


def test_an_empty_prompt_is_a_prompt(compiled: WanPipeline) -> None:
    with pytest.warns(UserWarning, match="a prompt is empty, so it scores as the simplest"):
        assert tiny_clip(compiled, ["a red circle", ""], guidance_scale=1.0).isfinite().all()


def test_pipelines_made_of_a_compiled_one_share_its_transformer(compiled: WanPipeline) -> None:
    other = WanVideoToVideoPipeline.from_pipe(compiled, torch_dtype=torch.bfloat16)
    assert other.transformer is compiled.transformer
    assert other.transformer.tadp is compiled.tadp


def test_a_prompt_of_10000_characters_works(compiled: WanPipeline) -> None:
    clip = tiny_clip(compiled, "a red circle moves left and " * 400, guidance_scale=1.0)
    assert clip.isfinite().all()


def test_the_compiled_pipeline_saves_its_configuration_under_its_own_name(
    compiled: WanPipeline, tmp_path: Path
) -> None:
    compiled.save_config(tmp_path)
    assert '"_class_name": "WanPipeline"' in (tmp_path / "model_index.json").read_text()


def test_a_pipeline_without_transformer_is_refused() -> None:
    pipeline = tiny_pipeline()
    pipeline.transformer = None
    with pytest.raises(tadp.UnsupportedModelError, match="no transformer among its components"):
        tadp.compile(pipeline)


def test_two_transformers_are_one_generation() -> None:
    """As in Wan 2.2: one transformer for high noise, another for low noise, the switch within a generation."""
    torch._dynamo.reset()
    first = tiny_pipeline()
    pipeline = WanPipeline(**first.components | {"transformer_2": make_transformer().bfloat16().eval()})
    pipeline.register_to_config(boundary_ratio=0.8)
    pipeline = tadp.compile(pipeline, policy="complexity")
    pipeline.set_progress_bar_config(disable=True)
    tiny_clip(pipeline, "a red circle bounces")
    high, low = (part.tadp.history for part in (pipeline.transformer, pipeline.transformer_2))
    steps = [(record.step, record.branch) for record in (*high, *low)]
    assert steps == [(step, branch) for step in range(1, 5) for branch in ("cond", "uncond")]
    assert {record.phase for record in high if record.step <= 1} == {"probe"}
    assert {record.phase for record in low} == {"run"}
    assert {record.score for record in low} == {pipeline.tadp.score.total}
