"""Compiled models on disk: what tadp.save writes, tadp.load and diffusers read, and what they refuse."""

import json
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline, WanTransformer3DModel
from safetensors import safe_open

import tadp
from tadp.errors import PrecisionFallbackWarning
from tadp.files.manifest import NAME
from tadp.kernels import BitPlaneWeight
from tadp.runtime.pool import RESTORED
from tests.families import original_wan
from tests.models import relative_error, tiny_inputs, tiny_transformer
from tests.pipelines import tiny_pipeline

pytestmark = pytest.mark.compiles


def _run(model: torch.nn.Module) -> torch.Tensor:
    return model(**tiny_inputs())[0]


def _plain() -> WanTransformer3DModel:
    """As diffusers loads it: tables of positions, which no file holds, keep the type that the class gives them."""
    with tempfile.TemporaryDirectory() as directory:
        tiny_transformer(2).save_pretrained(directory)
        return WanTransformer3DModel.from_pretrained(directory, torch_dtype=torch.bfloat16, disable_mmap=True)


@pytest.fixture(scope="module")
def original() -> WanTransformer3DModel:
    return tadp.compile(_plain(), policy="static:8")


@pytest.fixture(scope="module")
def saved(original: WanTransformer3DModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("saved")
    original.tadp.use("static:8")
    tadp.save(original, directory)
    return directory


def test_a_loaded_model_runs_as_the_one_that_was_saved(original: WanTransformer3DModel, saved: Path) -> None:
    loaded = tadp.load(saved)
    assert isinstance(loaded, WanTransformer3DModel)
    assert str(loaded.tadp.policy) == "static:8"
    assert loaded.tadp.facts.fingerprint == original.tadp.facts.fingerprint
    assert loaded.tadp.facts.packing["rotated"] == ["ffn.down"]
    for policy in ("static:8", "static:4"):
        loaded.tadp.use(policy)
        original.tadp.use(policy)
        assert torch.equal(_run(loaded), _run(original))


def test_planes_stand_in_the_order_of_widths(saved: Path) -> None:
    with safe_open(saved / "diffusion_pytorch_model.safetensors", "pt") as file:
        names = file.offset_keys()
    ranks = [{"high": 1, "mid": 2, "low": 3}.get(name.rpartition(".")[2], 0) for name in names]
    assert ranks == sorted(ranks)
    assert set(ranks) == {0, 1, 2, 3}


def test_16_bits_are_restored_and_say_so(saved: Path) -> None:
    loaded = tadp.load(saved, policy="static:16")
    reference = _plain()
    assert 0 < relative_error(_run(loaded), _run(reference)) < 0.05
    rows = [row for row in loaded.tadp.layers() if row.shape is not None and row.piece.startswith("blocks")]
    assert rows
    assert {row.reason for row in rows} == {RESTORED}


def test_masters_that_are_named_make_16_bits_exact(saved: Path, tmp_path: Path) -> None:
    _plain().save_pretrained(tmp_path / "masters")
    loaded = tadp.load(saved, policy="static:16", masters=tmp_path / "masters")
    compiled = tadp.compile(_plain(), policy="static:16")
    assert torch.equal(_run(loaded), _run(compiled))
    assert not any(row.reason == RESTORED for row in loaded.tadp.layers())
    other = _plain()
    with torch.no_grad():
        other.blocks[0].ffn.net[2].weight.add_(1)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="not those that the model was packed from"):
        tadp.load(saved, masters=tmp_path / "other")
    with pytest.raises(ValueError, match="do not hold blocks"):
        tadp.load(saved, masters=tmp_path)


def test_narrow_widths_are_loaded_alone_and_wider_ones_follow(saved: Path, original: WanTransformer3DModel) -> None:
    loaded = tadp.load(saved, policy="static:4", widths=4)
    weights = [weight for weight in loaded.parameters() if isinstance(weight, BitPlaneWeight)]
    assert {weight.widest for weight in weights} == {4}
    original.tadp.use("static:4")
    assert torch.equal(_run(loaded), _run(original))
    assert {weight.widest for weight in weights} == {4}
    loaded.tadp.use("static:8")
    original.tadp.use("static:8")
    assert torch.equal(_run(loaded), _run(original))
    assert {weight.widest for weight in weights} == {8}
    with pytest.raises(ValueError, match="widths is one of"):
        tadp.load(saved, widths=5)


def test_shards_hold_what_one_file_does(original: WanTransformer3DModel, saved: Path, tmp_path: Path) -> None:
    tadp.save(original, tmp_path, max_shard_size="40KB")
    shards = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(shards) > 2
    assert (tmp_path / "diffusion_pytorch_model.safetensors.index.json").exists()
    assert torch.equal(_run(tadp.load(tmp_path, policy="static:8")), _run(tadp.load(saved, policy="static:8")))
    tadp.save(original, tmp_path)  # what the call before wrote is replaced
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
        NAME,
    ]


def test_diffusers_saves_and_loads_it(original: WanTransformer3DModel, saved: Path, tmp_path: Path) -> None:
    assert tadp.TadpConfig  # what imports it lets diffusers know of the format
    original.tadp.use("static:8")
    expected = _run(original)
    for size in ("10GB", "40KB"):
        original.save_pretrained(tmp_path / size, max_shard_size=size)
        loaded = WanTransformer3DModel.from_pretrained(tmp_path / size, torch_dtype=torch.bfloat16)
        assert str(loaded.tadp.policy) == "static:8"
        assert torch.equal(_run(loaded), expected)
    config = tadp.TadpConfig(policy="static:4")
    other = WanTransformer3DModel.from_pretrained(saved, quantization_config=config, torch_dtype=torch.bfloat16)
    original.tadp.use("static:4")
    assert torch.equal(_run(other), _run(original))
    with pytest.raises(ValueError, match="safetensors"):
        original.save_pretrained(tmp_path, safe_serialization=False)


def test_diffusers_quantizes_plain_weights_while_loading(tmp_path: Path) -> None:
    _plain().save_pretrained(tmp_path)
    config = tadp.TadpConfig("static:8", rotate=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionFallbackWarning)
        loaded = WanTransformer3DModel.from_pretrained(
            tmp_path, quantization_config=config, torch_dtype=torch.bfloat16, device_map={"": "cpu"}
        )
        found = _run(loaded)
    assert torch.equal(found, _run(tadp.compile(_plain(), policy="static:8", rotate=None)))
    with pytest.raises(ValueError, match="unknown policy"):
        tadp.TadpConfig("statik")


def test_a_model_of_another_library_is_loaded_into_a_skeleton(tmp_path: Path) -> None:
    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = tiny_transformer(2)

        def forward(self, hidden_states: torch.Tensor, **options: object) -> object:
            return self.inner(hidden_states, **options)

    compiled = tadp.compile(Own(), policy="static:8")
    expected = _run(compiled)
    tadp.save(compiled, tmp_path)
    with pytest.raises(ValueError, match=r"Own.*tadp\.load\(directory, model=\.\.\.\)"):
        tadp.load(tmp_path)
    skeleton = Own()
    assert tadp.load(tmp_path, model=skeleton) is skeleton
    assert torch.equal(_run(skeleton), expected)
    with pytest.raises(ValueError, match="compiled already"):
        tadp.load(tmp_path, model=skeleton)
    wrong = _plain()
    before = {name: tensor.clone() for name, tensor in wrong.state_dict().items()}
    with pytest.raises(ValueError, match=r"lacks|has no"):
        tadp.load(tmp_path, model=wrong)
    assert all(torch.equal(tensor, before[name]) for name, tensor in wrong.state_dict().items())


def test_what_cannot_be_saved_says_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"call tadp\.compile"):
        tadp.save(tiny_transformer(1), tmp_path)
    with pytest.raises(TypeError, match=r"nn\.Module or a diffusers pipeline"):
        tadp.save("model", tmp_path)
    with pytest.raises(ValueError, match="holds no model"):
        tadp.load(tmp_path)


def test_a_manifest_of_a_newer_version_is_refused(saved: Path, tmp_path: Path) -> None:
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    content = json.loads((tmp_path / NAME).read_text())
    (tmp_path / NAME).write_text(json.dumps({**content, "schema": 99}))
    with pytest.raises(ValueError, match=r"tadp\.json was written by a newer tadp \(schema 99"):
        tadp.load(tmp_path)


def test_a_model_in_activation_checkpointing_is_saved_under_plain_names(tmp_path: Path) -> None:
    compiled = tadp.compile(original_wan.WanModel().eval(), policy="static:8")
    expected = compiled(**original_wan.inputs())
    tadp.save(compiled, tmp_path)
    with safe_open(tmp_path / "diffusion_pytorch_model.safetensors", "pt") as file:
        assert not any("_checkpoint_wrapped_module" in name for name in file.offset_keys())
    loaded = tadp.load(tmp_path, model=original_wan.WanModel().eval())
    assert relative_error(loaded(**original_wan.inputs()), expected) < 1e-5  # mapped weights lie elsewhere in memory
    assert all(parameter.requires_grad for parameter in tadp.restore(compiled).parameters())


def test_16_bits_are_restored_from_all_planes_whatever_was_loaded(saved: Path) -> None:
    whole, narrow = tadp.load(saved, policy="static:16"), tadp.load(saved, policy="static:16", widths=4)
    assert torch.equal(_run(narrow), _run(whole))
    narrow = tadp.load(saved, policy="static:4", widths=4)
    with pytest.warns(PrecisionFallbackWarning, match="as 8 bits restore them"):
        tadp.restore(narrow)
    with pytest.warns(PrecisionFallbackWarning, match="as 8 bits restore them"):
        tadp.restore(whole)
    name = "blocks.0.ffn.net.2.weight"
    assert torch.equal(narrow.state_dict()[name], whole.state_dict()[name])


def test_a_calibration_of_an_earlier_call_goes(original: WanTransformer3DModel, tmp_path: Path) -> None:
    (tmp_path / "tadp-calibration.json").write_text("{}")
    tadp.save(original, tmp_path)
    assert not (tmp_path / "tadp-calibration.json").exists()


def test_ways_of_packing_are_refused_where_weights_are_packed(saved: Path) -> None:
    config = tadp.TadpConfig(group_size=64)
    with pytest.raises(ValueError, match="group_size of TadpConfig: the weights are packed already"):
        WanTransformer3DModel.from_pretrained(saved, quantization_config=config, torch_dtype=torch.bfloat16)


def test_a_restored_model_is_saved_as_any_other(tmp_path: Path) -> None:
    _plain().save_pretrained(tmp_path / "plain")
    model = WanTransformer3DModel.from_pretrained(
        tmp_path / "plain", quantization_config=tadp.TadpConfig("static:8"), torch_dtype=torch.bfloat16
    )
    tadp.restore(model).save_pretrained(tmp_path / "restored")
    assert "quantization_config" not in json.loads((tmp_path / "restored" / "config.json").read_text())
    again = WanTransformer3DModel.from_pretrained(tmp_path / "restored", torch_dtype=torch.bfloat16)
    assert not hasattr(again, "tadp")


def test_pipelines_are_loaded_with_what_was_asked_for(tmp_path: Path) -> None:
    pipeline = tadp.compile(tiny_pipeline(), policy="static:8")
    tadp.save(pipeline, tmp_path)
    dtype = pipeline.text_encoder.dtype
    loaded = tadp.load(tmp_path, policy="static:4", widths=4)
    assert str(loaded.tadp.policy) == str(loaded.transformer.tadp.policy) == "static:4"
    assert loaded.tadp is loaded.transformer.tadp
    weights = [weight for weight in loaded.transformer.parameters() if isinstance(weight, BitPlaneWeight)]
    assert {weight.widest for weight in weights} == {4}
    assert loaded.text_encoder.dtype == dtype
    assert loaded.config["_name_or_path"] == str(tmp_path)
    tadp.restore(loaded)
    assert type(loaded) is WanPipeline
    alone = tiny_pipeline()
    tadp.compile(alone.transformer, policy="static:8")
    assert type(tadp.restore(alone)) is WanPipeline
