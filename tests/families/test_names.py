import pytest

from tadp.families.names import role_of
from tadp.precision import Role


@pytest.mark.parametrize(
    ("layer", "self_attention", "role"),
    [
        ("attn1.to_q", True, Role.SELF_ATTN_QKV),
        ("attn1.to_out.0", True, Role.SELF_ATTN_OUT),
        ("attn2.to_q", False, Role.CROSS_ATTN_Q),
        ("attn2.to_k", False, Role.CROSS_ATTN_KV),
        ("attn2.to_out.0", False, Role.CROSS_ATTN_OUT),
        ("ffn.net.0.proj", True, Role.FFN_UP),
        ("ffn.net.2", True, Role.FFN_DOWN),
        ("norm1.linear", True, Role.MODULATION),
        ("attn.add_k_proj", True, Role.SELF_ATTN_QKV),
        ("attn.to_add_out", True, Role.SELF_ATTN_OUT),
        ("proj_mlp", True, Role.FFN_UP),
        ("proj_out", True, Role.FFN_DOWN),
        ("self_attn.o_proj", True, Role.SELF_ATTN_OUT),
        ("attn.to_qkv", True, Role.SELF_ATTN_QKV),
        ("attn.to_added_qkv", True, Role.SELF_ATTN_QKV),
        ("self_attn.q", True, Role.SELF_ATTN_QKV),
        ("cross_attn.o", False, Role.CROSS_ATTN_OUT),
        ("attention.wq", True, Role.SELF_ATTN_QKV),
        ("attention.wo", True, Role.SELF_ATTN_OUT),
        ("feed_forward.w1", True, Role.FFN_UP),
        ("feed_forward.w2", True, Role.FFN_DOWN),
        ("mixer", True, None),
    ],
)
def test_roles_follow_the_names_that_models_use(layer: str, self_attention: bool, role: Role | None) -> None:
    assert role_of(layer, 64, 64, self_attention) == role


def test_a_shape_tells_the_role_where_the_name_does_not() -> None:
    assert role_of("first", 256, 64) is Role.FFN_UP
    assert role_of("second", 64, 256) is Role.FFN_DOWN
