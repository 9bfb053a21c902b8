import pytest

from tadp.passes.annotate import block_of, plain_path, role_of
from tadp.precision import Role


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("L['self'].blocks.0.attn1.to_q", "blocks.0.attn1.to_q"),
        ("L['self'].__dict__['_modules']['blocks']._modules['3']._modules['ffn']", "blocks.3.ffn"),
        ("L['self'].blocks[2].norm", "blocks.2.norm"),
        ("L['self']", ""),
    ],
)
def test_dynamo_sources_become_paths(source: str, path: str) -> None:
    assert plain_path(source) == path


@pytest.mark.parametrize(
    ("path", "block"),
    [
        ("blocks.3.attn1.to_out.0", "blocks.3"),
        ("model.layers.12", "model.layers.12"),
        ("condition_embedder.time_proj", None),
        ("", None),
    ],
)
def test_block_is_the_first_numbered_part(path: str, block: str | None) -> None:
    assert block_of(path) == block


@pytest.mark.parametrize(
    ("layer", "self_attention", "role"),
    [
        ("blocks.0.attn1.to_q", True, Role.SELF_ATTN_QKV),
        ("blocks.0.attn1.to_out.0", True, Role.SELF_ATTN_OUT),
        ("blocks.0.attn2.to_q", False, Role.CROSS_ATTN_Q),
        ("blocks.0.attn2.to_k", False, Role.CROSS_ATTN_KV),
        ("blocks.0.attn2.to_out.0", False, Role.CROSS_ATTN_OUT),
        ("blocks.0.ffn.net.0.proj", True, Role.FFN_UP),
        ("blocks.0.ffn.net.2", True, Role.FFN_DOWN),
        ("transformer_blocks.1.norm1.linear", True, Role.MODULATION),
        ("transformer_blocks.1.attn.add_k_proj", True, Role.SELF_ATTN_QKV),
        ("transformer_blocks.1.attn.to_add_out", True, Role.SELF_ATTN_OUT),
        ("single_transformer_blocks.1.proj_mlp", True, Role.FFN_UP),
        ("single_transformer_blocks.1.proj_out", True, Role.FFN_DOWN),
        ("layers.4.self_attn.o_proj", True, Role.SELF_ATTN_OUT),
        ("blocks.0.mixer", True, None),
    ],
)
def test_roles_follow_the_names_that_models_use(layer: str, self_attention: bool, role: Role | None) -> None:
    assert role_of(layer, 64, 64, self_attention) == role


def test_a_shape_tells_the_role_where_the_name_does_not() -> None:
    assert role_of("blocks.0.first", 256, 64) is Role.FFN_UP
    assert role_of("blocks.0.second", 64, 256) is Role.FFN_DOWN
