"""Finding a model: its files checked by name before loading, its arguments checked before sampling."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import tadp
from tadp import processor
from tadp.commands import model
from tadp.commands.errors import InputError
from tadp.commands.model import floating_type
from tadp.commands.settings import Settings
from tadp.demo import FEW_STEP_DIR, PIPELINE_DIR
from tadp.policy import parse
from tests.fakes import FakePipeline


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The files of a pipeline: a transformer of two shards, an autoencoder, a scheduler."""
    index: dict[str, Any] = {"_class_name": "WanPipeline", "safety_checker": [None, None], "boundary_ratio": None}
    for name in ("transformer", "vae", "scheduler"):
        (tmp_path / name).mkdir()
        index[name] = ["diffusers", "Class"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "scheduler" / "scheduler_config.json").write_text("{}")
    for name in ("transformer", "vae"):
        (tmp_path / name / "config.json").write_text("{}")
    for shard in ("a.safetensors", "b.safetensors"):
        save_file({"weight": torch.ones(64)}, tmp_path / "transformer" / shard)
    shards = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (tmp_path / "transformer" / "diffusion.safetensors.index.json").write_text(json.dumps(shards))
    save_file({"weight": torch.ones(64)}, tmp_path / "vae" / "diffusion.safetensors")
    return tmp_path


def test_whole_files_pass(saved: Path) -> None:
    model.check_files(saved, "redo")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("transformer/b.safetensors", None, "is missing, though diffusion.safetensors.index.json lists it"),
        ("vae/diffusion.safetensors", None, "holds no weight file"),
        ("vae/diffusion.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "is damaged"),
        ("vae/diffusion.safetensors", b"", "is damaged"),
        ("model_index.json", None, "is missing, so .* is not a diffusers pipeline"),
        ("model_index.json", b"{", "cannot be read as JSON"),
    ],
)
def test_a_file_at_fault_is_named_with_a_way_out(saved: Path, file: str, content: bytes | None, message: str) -> None:
    (saved / file).unlink()
    if content is not None:
        (saved / file).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        model.check_files(saved, "Do it again")
    assert str(saved / file) in str(caught.value) or str((saved / file).parent) in str(caught.value)
    assert str(caught.value).endswith("Do it again")


def test_a_cut_file_is_damaged(saved: Path) -> None:
    path = saved / "transformer" / "a.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"transformer/a.safetensors is damaged"):
        model.check_files(saved, "")


def test_a_missing_embedded_model_names_the_training_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "PIPELINE_DIR", tmp_path / "pipeline")
    with pytest.raises(InputError, match=r"embedded model is missing: .*python -m tadp.demo.train"):
        model.load_pipeline(Settings())


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("scheduler", "few-step model is missing: .*scheduler.*python -m tadp.demo.distill"),
        ("transformer", "few-step model is missing: .*transformer.*python -m tadp.demo.distill"),
        ("transformer/a.safetensors", "transformer holds no weight file.*python -m tadp.demo.distill"),
    ],
)
def test_a_missing_few_step_model_names_its_training_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, message: str
) -> None:
    for name in ("transformer", "scheduler"):
        (tmp_path / name).mkdir()
    save_file({"weight": torch.ones(64)}, tmp_path / "transformer" / "a.safetensors")
    gone = tmp_path / missing
    (shutil.rmtree if gone.is_dir() else Path.unlink)(gone)
    monkeypatch.setattr(model, "FEW_STEP_DIR", tmp_path)
    with pytest.raises(InputError, match=message):
        model.load_pipeline(Settings(model="few-step"))


def test_the_few_step_model_has_its_own_defaults() -> None:
    first, second = (model.call_arguments(FakePipeline(), Settings(model=name)) for name in (None, "few-step"))
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"num_inference_steps", "guidance_scale"}
    assert (second["num_inference_steps"], second["guidance_scale"]) == (4, 1.0)
    assert model.call_arguments(FakePipeline(), Settings(model="few-step", steps=2))["num_inference_steps"] == 2


def test_both_embedded_models_are_known_by_name() -> None:
    assert all(map(model.is_embedded, (None, "few-step", str(PIPELINE_DIR))))
    assert not model.is_embedded("owner/name")
    assert model.directory_of(None) == PIPELINE_DIR
    assert model.directory_of("few-step") == FEW_STEP_DIR
    assert model.directory_of("somewhere") == Path("somewhere")


@pytest.mark.parametrize("name", ["./nowhere/at/all", "just-a-word", "/absent"])
def test_what_is_neither_directory_nor_hub_id_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"there is no model .*model_index.json.*Hub id"):
        model.load_pipeline(Settings(model=name))


def test_an_absent_device_is_refused(saved: Path) -> None:
    with pytest.raises(InputError, match="--device: 'quantum' cannot be used here"):
        model.load_pipeline(Settings(model=str(saved), device="quantum"))


def test_a_pipeline_moves_to_a_gpu_when_its_weights_are_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Pipeline:
        def to(self, device: torch.device) -> "Pipeline":
            done.append(f"to {device}")
            return self

    def compile_fake(pipeline: Pipeline, **_: object) -> Pipeline:
        done.append("compile")
        return pipeline

    monkeypatch.setattr(tadp, "compile", compile_fake)
    model.compile_pipeline(Pipeline(), parse("static:8"), device=torch.device("cuda"))
    assert done == ["compile", "to cuda"]
    model.compile_pipeline(Pipeline(), parse("static:8"), device=torch.device("cpu"))
    assert done == ["compile", "to cuda", "compile"]


def test_other_models_keep_their_own_defaults() -> None:
    pipeline = FakePipeline()
    assert model.call_arguments(pipeline, Settings(model="owner/name")) == {}
    assert model.call_arguments(pipeline, Settings(model="owner/name", steps=3)) == {"num_inference_steps": 3}
    assert model.read_tokens(pipeline, {}) == 512
    assert model.read_tokens(pipeline, {"max_sequence_length": 64}) == 64


def test_a_setting_that_a_pipeline_lacks_is_refused() -> None:
    class ImagePipeline:
        def __call__(self, prompt: str, height: int = 8) -> None: ...

    with pytest.raises(InputError, match="ImagePipeline takes no 'num_frames'; leave --frames out"):
        model.call_arguments(ImagePipeline(), Settings(model="owner/name", frames=5))


def test_an_input_that_cannot_be_given_is_named() -> None:
    class ImageToVideoPipeline:
        def __call__(self, image: Any, prompt: str = "") -> None: ...

    with pytest.raises(InputError, match="ImageToVideoPipeline needs 'image'"):
        model.call_arguments(ImageToVideoPipeline(), Settings(model="owner/name"))


@pytest.mark.parametrize(
    ("name", "device", "instructions", "expected"),
    [
        ("auto", "cpu", True, torch.bfloat16),
        ("auto", "cpu", False, torch.float32),
        ("auto", "cuda", False, torch.bfloat16),
        ("bfloat16", "cpu", False, torch.bfloat16),
        ("float16", "cuda", True, torch.float16),
    ],
)
def test_auto_is_the_type_that_the_device_multiplies_fast(
    monkeypatch: pytest.MonkeyPatch, name: str, device: str, instructions: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(processor, "multiplies_bfloat16", lambda: instructions)
    assert floating_type(name, torch.device(device)) == expected
