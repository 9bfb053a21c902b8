"""SANA and SANA-Video: linear attention, and feed-forward layers that are convolutions."""

from tadp.families.family import Family
from tadp.precision import Role

SANA = Family(
    name="SANA",
    classes=("SanaTransformer2DModel", "SanaVideoTransformer3DModel"),
    blocks=("transformer_blocks",),
    roles={
        "attn1.to_[qkv]": Role.SELF_ATTN_QKV,
        "attn1.to_out.0": Role.SELF_ATTN_OUT,
        "attn2.to_q": Role.CROSS_ATTN_Q,
        "attn2.to_[kv]": Role.CROSS_ATTN_KV,
        "attn2.to_out.0": Role.CROSS_ATTN_OUT,
    },
    timestep=("timestep",),
)
