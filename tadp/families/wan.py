"""Wan 2.1 and 2.2, VACE, Animate and what is built on them; WanModel is the class of the original repositories."""

from tadp.families.family import Family
from tadp.families.roles import ATTN1, ATTN2
from tadp.precision import Role

WAN = Family(
    name="Wan",
    classes=(
        "WanTransformer3DModel",
        "WanVACETransformer3DModel",
        "WanAnimateTransformer3DModel",
        "WanAnimate2Transformer3DModel",
        "ChronoEditTransformer3DModel",
        "HeliosTransformer3DModel",
        "AnyFlowTransformer3DModel",
        "AnyFlowFARTransformer3DModel",
        "WanModel",
    ),
    blocks=("blocks", "vace_blocks", "face_adapter"),
    roles={
        **ATTN1,
        **ATTN2,
        "attn2.add_[kv]_proj": Role.CROSS_ATTN_KV,
        "self_attn.to_[qkv]": Role.SELF_ATTN_QKV,
        "self_attn.to_out.0": Role.SELF_ATTN_OUT,
        "cross_attn.to_q": Role.CROSS_ATTN_Q,
        "cross_attn.to_[kv]": Role.CROSS_ATTN_KV,
        "cross_attn.add_[kv]_proj": Role.CROSS_ATTN_KV,
        "cross_attn.to_out.0": Role.CROSS_ATTN_OUT,
        "self_attn.[qkv]": Role.SELF_ATTN_QKV,
        "self_attn.o": Role.SELF_ATTN_OUT,
        "cross_attn.q": Role.CROSS_ATTN_Q,
        "cross_attn.[kv]": Role.CROSS_ATTN_KV,
        "cross_attn.[kv]_img": Role.CROSS_ATTN_KV,
        "cross_attn.o": Role.CROSS_ATTN_OUT,
        "to_q": Role.CROSS_ATTN_Q,
        "to_[kv]": Role.CROSS_ATTN_KV,
        "to_out": Role.CROSS_ATTN_OUT,
        "ffn.net.0.proj": Role.FFN_UP,
        "ffn.net.2": Role.FFN_DOWN,
        "ffn.0": Role.FFN_UP,
        "ffn.2": Role.FFN_DOWN,
        "proj_in": Role.FFN_UP,
        "proj_out": Role.FFN_DOWN,
    },
    timestep=("timestep", "t", "timesteps_B_T"),
    stays_at_16={
        "*attn_op*.proj_l": "it is the small projection behind linear attention, whose result is added to attention"
    },
    pipelines=("Wan", "ChronoEdit"),
    component_dtypes={"vae": "float32"},
)
