"""Lumina-Next and Lumina 2."""

from tadp.families.family import Family
from tadp.families.roles import ATTN2
from tadp.precision import Role

LUMINA = Family(
    name="Lumina",
    classes=("LuminaNextDiT2DModel", "Lumina2Transformer2DModel"),
    blocks=("noise_refiner", "context_refiner", "layers"),
    roles={
        "attn.to_[qkv]": Role.SELF_ATTN_QKV,
        "attn.to_out.0": Role.SELF_ATTN_OUT,
        "attn1.to_[qkv]": Role.SELF_ATTN_QKV,
        **ATTN2,
        "feed_forward.linear_[13]": Role.FFN_UP,
        "feed_forward.linear_2": Role.FFN_DOWN,
        "norm1.linear": Role.MODULATION,
    },
    timestep=("timestep",),
)
