"""Cosmos Predict and Transfer."""

from tadp.families.family import Family
from tadp.precision import Role

COSMOS = Family(
    name="Cosmos",
    classes=("CosmosTransformer3DModel",),
    blocks=("transformer_blocks",),
    roles={
        "norm?.linear_?": Role.MODULATION,
        "attn1.to_[qkv]": Role.SELF_ATTN_QKV,
        "attn1.to_out.0": Role.SELF_ATTN_OUT,
        "attn2.to_q": Role.CROSS_ATTN_Q,
        "attn2.to_[kv]": Role.CROSS_ATTN_KV,
        "attn2.to_out.0": Role.CROSS_ATTN_OUT,
        "attn2.q_img": Role.CROSS_ATTN_Q,
        "attn2.[kv]_img": Role.CROSS_ATTN_KV,
        "ff.net.0.proj": Role.FFN_UP,
        "ff.net.2": Role.FFN_DOWN,
    },
    timestep=("timestep",),
)
