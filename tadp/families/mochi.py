"""Mochi 1: text and video in one attention; the last block drops the text."""

from tadp.families.family import Family
from tadp.families.roles import FF, FF_CONTEXT
from tadp.precision import Role

MOCHI = Family(
    name="Mochi",
    classes=("MochiTransformer3DModel",),
    blocks=("transformer_blocks",),
    roles={
        "norm1.linear": Role.MODULATION,
        "norm1_context.linear*": Role.MODULATION,
        "attn1.to_[qkv]": Role.SELF_ATTN_QKV,
        "attn1.add_[qkv]_proj": Role.SELF_ATTN_QKV,
        "attn1.to_out.0": Role.SELF_ATTN_OUT,
        "attn1.to_add_out": Role.SELF_ATTN_OUT,
        **FF,
        **FF_CONTEXT,
    },
    timestep=("timestep",),
)
