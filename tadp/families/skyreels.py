"""SkyReels V2: Wan with a step of diffusion for each frame."""

from tadp.families.family import Family
from tadp.precision import Role

SKYREELS = Family(
    name="SkyReels",
    classes=("SkyReelsV2Transformer3DModel",),
    blocks=("blocks",),
    roles={
        "attn1.to_[qkv]": Role.SELF_ATTN_QKV,
        "attn1.to_out.0": Role.SELF_ATTN_OUT,
        "attn2.to_q": Role.CROSS_ATTN_Q,
        "attn2.to_[kv]": Role.CROSS_ATTN_KV,
        "attn2.to_out.0": Role.CROSS_ATTN_OUT,
        "attn2.add_[kv]_proj": Role.CROSS_ATTN_KV,
        "ffn.net.0.proj": Role.FFN_UP,
        "ffn.net.2": Role.FFN_DOWN,
    },
    timestep=("timestep",),
    pipelines=("SkyReels",),
    component_dtypes={"vae": "float32"},
)
