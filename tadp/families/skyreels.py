"""SkyReels V2: Wan with a step of diffusion for each frame."""

from tadp.families.family import Family
from tadp.families.roles import ATTN1, ATTN2
from tadp.precision import Role

SKYREELS = Family(
    name="SkyReels",
    classes=("SkyReelsV2Transformer3DModel",),
    blocks=("blocks",),
    roles={
        **ATTN1,
        **ATTN2,
        "attn2.add_[kv]_proj": Role.CROSS_ATTN_KV,
        "ffn.net.0.proj": Role.FFN_UP,
        "ffn.net.2": Role.FFN_DOWN,
    },
    timestep=("timestep",),
    pipelines=("SkyReels",),
    component_dtypes={"vae": "float32"},
)
