"""PixArt-alpha and PixArt-Sigma."""

from tadp.families.family import Family
from tadp.precision import Role

PIXART = Family(
    name="PixArt",
    classes=("PixArtTransformer2DModel",),
    blocks=("transformer_blocks",),
    roles={
        "attn1.to_[qkv]": Role.SELF_ATTN_QKV,
        "attn1.to_out.0": Role.SELF_ATTN_OUT,
        "attn2.to_q": Role.CROSS_ATTN_Q,
        "attn2.to_[kv]": Role.CROSS_ATTN_KV,
        "attn2.to_out.0": Role.CROSS_ATTN_OUT,
        "ff.net.0.proj": Role.FFN_UP,
        "ff.net.2": Role.FFN_DOWN,
    },
    timestep=("timestep",),
)
