"""Names of other repositories, and what diffusers calls their tensors."""

import pytest
import torch

from tadp.files.foreign.names import named, stripped, to_diffusers, to_wan, wan_config
from tadp.files.foreign.tensors import Stored
from tests.models import tiny_transformer


def _stored(key: str, shape: tuple[int, ...] = (2, 2)) -> Stored:
    return Stored(key, key, shape, torch.float32, lambda: torch.arange(torch.Size(shape).numel()).float().view(shape))


def test_wan_has_a_name_for_every_tensor_of_diffusers() -> None:
    names = list(tiny_transformer(2).state_dict())
    back = to_wan(names)
    assert back["blocks.1.attn2.to_out.0.weight"] == "blocks.1.cross_attn.o.weight"
    assert back["blocks.0.norm2.bias"] == "blocks.0.norm3.bias"
    assert back["scale_shift_table"] == "head.modulation"
    assert to_diffusers(set(back.values())) == {original: name for name, original in back.items()}
    images = ["condition_embedder.image_embedder.ff.net.0.proj.weight", "blocks.0.attn2.add_k_proj.weight"]
    assert list(to_wan(images).values()) == ["img_emb.proj.1.weight", "blocks.0.cross_attn.k_img.weight"]


def test_a_name_that_wan_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"blocks\.0\.norm3\.weight is no tensor of a Wan transformer"):
        to_wan(["blocks.0.norm3.weight"])


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model.", "net."])
def test_prefixes_and_wrappers_are_taken_off(prefix: str) -> None:
    keys = [f"{prefix}blocks.0._checkpoint_wrapped_module.self_attn.q.weight", f"{prefix}head.head.weight"]
    assert [stripped(key, keys) for key in keys] == ["blocks.0.self_attn.q.weight", "head.head.weight"]


def test_a_prefix_of_some_names_is_a_part_of_them() -> None:
    keys = ["net.0.weight", "blocks.0.weight"]
    assert [stripped(key, keys) for key in keys] == keys


def test_two_tensors_of_one_name_are_refused() -> None:
    keys = ["blocks.0.weight", "blocks._checkpoint_wrapped_module.0.weight"]
    with pytest.raises(ValueError, match=r"both .* are called blocks\.0\.weight"):
        named([_stored(key) for key in keys])


def test_the_patch_embedding_of_turbodiffusion_becomes_a_convolution() -> None:
    keys = ("blocks.0.self_attn.q.weight", "head.head.weight", "time_projection.1.weight")
    found, is_wan = named([*map(_stored, keys), _stored("patch_embedding.weight", (3, 8))])
    assert is_wan
    patches = next(stored for stored in found if stored.name == "patch_embedding.weight")
    assert patches.shape == (3, 2, 1, 2, 2)
    assert torch.equal(patches.read(), torch.arange(24).float().view(3, 2, 1, 2, 2))


def test_models_that_diffusers_cuts_are_refused() -> None:
    keys = ["blocks.0.self_attn.q.weight", "face_adapter.fuser_blocks.0.linear1_kv.weight"]
    with pytest.raises(ValueError, match=r"linear1_kv.*does not follow"):
        to_diffusers(keys)


def test_a_configuration_of_wans_own_repository() -> None:
    config = {"_class_name": "WanModel", "dim": 1536, "num_heads": 12, "in_dim": 16, "out_dim": 16}
    config |= {"freq_dim": 256, "ffn_dim": 8960, "num_layers": 30, "eps": 1e-6}
    found = wan_config(config, [])
    assert found["attention_head_dim"] == 128
    assert found["image_dim"] is None
    assert wan_config(config, ["blocks.0.attn2.add_k_proj.weight"])["added_kv_proj_dim"] == 1536
    del config["ffn_dim"]
    with pytest.raises(ValueError, match="no field 'ffn_dim'"):
        wan_config(config, [])
