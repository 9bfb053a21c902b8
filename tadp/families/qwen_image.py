"""Qwen-Image: modulation and feed-forward layers of text and image side by side."""

from tadp.families.family import Family
from tadp.families.roles import JOINT_ATTN
from tadp.precision import Role

QWEN_IMAGE = Family(
    name="Qwen-Image",
    classes=("QwenImageTransformer2DModel",),
    blocks=("transformer_blocks",),
    roles={
        "img_mod.1": Role.MODULATION,
        "txt_mod.1": Role.MODULATION,
        **JOINT_ATTN,
        "img_mlp.net.0.proj": Role.FFN_UP,
        "img_mlp.net.2": Role.FFN_DOWN,
        "txt_mlp.net.0.proj": Role.FFN_UP,
        "txt_mlp.net.2": Role.FFN_DOWN,
    },
    timestep=("timestep",),
)
