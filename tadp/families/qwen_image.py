"""Qwen-Image: modulation and feed-forward layers of text and image side by side."""

from tadp.families.family import Family
from tadp.precision import Role

QWEN_IMAGE = Family(
    name="Qwen-Image",
    classes=("QwenImageTransformer2DModel",),
    blocks=("transformer_blocks",),
    roles={
        "img_mod.1": Role.MODULATION,
        "txt_mod.1": Role.MODULATION,
        "attn.to_[qkv]": Role.SELF_ATTN_QKV,
        "attn.add_[qkv]_proj": Role.SELF_ATTN_QKV,
        "attn.to_out.0": Role.SELF_ATTN_OUT,
        "attn.to_add_out": Role.SELF_ATTN_OUT,
        "img_mlp.net.0.proj": Role.FFN_UP,
        "img_mlp.net.2": Role.FFN_DOWN,
        "txt_mlp.net.0.proj": Role.FFN_UP,
        "txt_mlp.net.2": Role.FFN_DOWN,
    },
    timestep=("timestep",),
)
