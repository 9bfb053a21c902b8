"""EasyAnimate: text and video in one attention."""

from tadp.families.family import Family
from tadp.families.roles import FF
from tadp.precision import Role

EASYANIMATE = Family(
    name="EasyAnimate",
    classes=("EasyAnimateTransformer3DModel",),
    blocks=("transformer_blocks",),
    roles={
        "norm?.linear": Role.MODULATION,
        "attn1.to_[qkv]": Role.SELF_ATTN_QKV,
        "attn1.add_[qkv]_proj": Role.SELF_ATTN_QKV,
        "attn1.to_out.0": Role.SELF_ATTN_OUT,
        "attn1.to_add_out": Role.SELF_ATTN_OUT,
        **FF,
        "txt_ff.net.0.proj": Role.FFN_UP,
        "txt_ff.net.2": Role.FFN_DOWN,
    },
    timestep=("timestep",),
)
