"""What people do with models of diffusers, done with a compiled one: it works, or is refused in a sentence."""

import warnings
from collections.abc import Callable

import pytest
import torch
from accelerate import cpu_offload
from diffusers import FirstBlockCacheConfig, WanPipeline, WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttnProcessor

import tadp
from tests.models import relative_error, tiny_inputs, tiny_transformer
from tests.pipelines import tiny_clip, tiny_pipeline

pytestmark = pytest.mark.compiles


def _run(model: torch.nn.Module) -> torch.Tensor:
    return model(**tiny_inputs())[0]


def _compiled(policy: str = "static:4") -> WanTransformer3DModel:
    return tadp.compile(tiny_transformer(2), policy=policy)


@pytest.fixture(scope="module")
def expected() -> torch.Tensor:
    return _run(_compiled())


def _is_at_4_bits(found: torch.Tensor, expected: torch.Tensor) -> None:
    """That results err as 4 bits do, and not as 8 or 6: hooks cut blocks into pieces that round on their own."""
    plain = _run(tiny_transformer(2))
    assert 0.8 < relative_error(found, plain) / relative_error(expected, plain) < 1.25


def _levels(model: torch.nn.Module) -> set[str]:
    return {str(row.level) for row in model.tadp.layers() if row.piece.startswith("blocks") and row.shape is not None}


def test_gradients_are_refused() -> None:
    model, inputs = _compiled(), tiny_inputs()
    inputs["hidden_states"].requires_grad_(True)
    with pytest.raises(ValueError, match=r"'hidden_states' requires gradients.*tadp\.restore"):
        model(**inputs)
    with torch.no_grad():
        assert model(**inputs)[0].isfinite().all()


@pytest.mark.parametrize("first", [torch.inference_mode, torch.no_grad])
def test_inference_mode_comes_and_goes(first: Callable[[], torch.no_grad], expected: torch.Tensor) -> None:
    model = _compiled()
    with first():
        assert torch.equal(_run(model), expected)
    assert torch.equal(_run(model), expected)
    with torch.inference_mode():
        assert torch.equal(_run(model), expected)


def _compile(model: WanTransformer3DModel) -> WanTransformer3DModel:
    model.compile()
    return tadp.compile(model, policy="static:4")


def _compile_blocks(model: WanTransformer3DModel) -> WanTransformer3DModel:
    model.compile_repeated_blocks()
    return tadp.compile(model, policy="static:4")


def _cache(model: WanTransformer3DModel) -> WanTransformer3DModel:
    model.enable_cache(FirstBlockCacheConfig(threshold=0.0))
    return tadp.compile(model, policy="static:4")


def _checkpoint(model: WanTransformer3DModel) -> WanTransformer3DModel:
    model.enable_gradient_checkpointing()
    return tadp.compile(model, policy="static:4")


@pytest.mark.filterwarnings("ignore:.*model.compile.*:UserWarning")
@pytest.mark.parametrize("prepare", [_compile, _compile_blocks, _cache, _checkpoint])
def test_what_was_done_before_compiling(
    prepare: Callable[[WanTransformer3DModel], WanTransformer3DModel], expected: torch.Tensor
) -> None:
    model = prepare(tiny_transformer(2))
    with model.cache_context("cond"):
        found = _run(model)
    _is_at_4_bits(found, expected)
    assert _levels(model) == {"4"}


def test_compiling_the_whole_model_is_undone_and_said() -> None:
    model = tiny_transformer(2)
    model.compile()
    with pytest.warns(UserWarning, match=r"compiled as a whole with model\.compile\(\), which is undone"):
        tadp.compile(model, policy="static:4")


@pytest.mark.parametrize("name", ["compile", "compile_repeated_blocks"])
def test_compiling_afterwards_changes_nothing_and_is_said(name: str, expected: torch.Tensor) -> None:
    model = _compiled()
    with pytest.warns(UserWarning, match=f"{name} does nothing here"):
        getattr(model, name)()
    assert torch.equal(_run(model), expected)
    assert _levels(model) == {"4"}


def test_a_compilation_around_the_model_leaves_it_alone(expected: torch.Tensor) -> None:
    model = _compiled()
    assert torch.equal(_run(torch.compile(model)), expected)
    assert _levels(model) == {"4"}


def test_a_cache_afterwards_runs_blocks_at_their_levels(expected: torch.Tensor) -> None:
    model = _compiled()
    model.enable_cache(FirstBlockCacheConfig(threshold=0.0))
    with model.cache_context("cond"):
        _is_at_4_bits(_run(model), expected)
    assert _levels(model) == {"4"}


@pytest.mark.parametrize("name", ["fuse_qkv_projections", "unfuse_qkv_projections", "enable_layerwise_casting"])
def test_what_needs_plain_weights_is_refused(name: str, expected: torch.Tensor) -> None:
    model = _compiled()
    with pytest.raises(ValueError, match=rf"{name} cannot be called on a compiled model: .*tadp\.restore\(model\)"):
        getattr(model, name)()
    assert torch.equal(_run(model), expected)


def test_accelerates_hooks_are_refused() -> None:
    with pytest.raises(TypeError, match=r"accelerate's hooks.*enable_group_offload"):
        cpu_offload(_compiled(), torch.device("cpu"))


def test_hooks_processors_training_mode_and_autocast_work(expected: torch.Tensor) -> None:
    class Processor(WanAttnProcessor):
        pass

    model, calls = _compiled(), []
    model.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    model.set_attn_processor(Processor())
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        assert relative_error(_run(model), expected) < 0.002
    assert calls == [1]
    assert _levels(model) == {"4"}


def test_a_generation_may_be_interrupted_and_the_next_is_right() -> None:
    pipeline = tadp.compile(tiny_pipeline(), policy="static:8")
    pipeline.set_progress_bar_config(disable=True)
    call = {"guidance_scale": 1.0}
    expected = tiny_clip(pipeline, "a red circle", **call)

    def interrupt(running: WanPipeline, step: int, timestep: object, given: dict[str, object]) -> dict[str, object]:
        running._interrupt = step >= 1
        return given

    def fail(running: WanPipeline, step: int, timestep: object, given: dict[str, object]) -> dict[str, object]:
        raise KeyboardInterrupt

    tiny_clip(pipeline, "a red circle", callback_on_step_end=interrupt, **call)
    pipeline._interrupt = False
    assert torch.equal(tiny_clip(pipeline, "a red circle", **call), expected)
    with pytest.raises(KeyboardInterrupt):
        tiny_clip(pipeline, "a red circle", callback_on_step_end=fail, **call)
    assert torch.equal(tiny_clip(pipeline, "a red circle", **call), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tiny_clip(pipeline, "a red circle", num_videos_per_prompt=2, **call).shape[0] == 2
    assert torch.equal(tiny_clip(WanPipeline(**pipeline.components), "a red circle", **call), expected)
