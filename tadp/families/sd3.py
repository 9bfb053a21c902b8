"""Stable Diffusion 3 and 3.5."""

from tadp.families.family import Family
from tadp.precision import Role

SD3 = Family(
    name="Stable Diffusion 3",
    classes=("SD3Transformer2DModel",),
    blocks=("transformer_blocks",),
    roles={
        "norm1.linear": Role.MODULATION,
        "norm1_context.linear": Role.MODULATION,
        "attn.to_[qkv]": Role.SELF_ATTN_QKV,
        "attn.add_[qkv]_proj": Role.SELF_ATTN_QKV,
        "attn.to_out.0": Role.SELF_ATTN_OUT,
        "attn.to_add_out": Role.SELF_ATTN_OUT,
        "attn2.to_[qkv]": Role.SELF_ATTN_QKV,
        "attn2.to_out.0": Role.SELF_ATTN_OUT,
        "ff.net.0.proj": Role.FFN_UP,
        "ff.net.2": Role.FFN_DOWN,
        "ff_context.net.0.proj": Role.FFN_UP,
        "ff_context.net.2": Role.FFN_DOWN,
    },
    timestep=("timestep",),
)
