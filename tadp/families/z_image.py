"""Z-Image: refiners of noise and prompt before the layers that join them."""

from tadp.families.family import Family
from tadp.precision import Role

Z_IMAGE = Family(
    name="Z-Image",
    classes=("ZImageTransformer2DModel",),
    blocks=("noise_refiner", "context_refiner", "layers"),
    roles={
        "attention.to_[qkv]": Role.SELF_ATTN_QKV,
        "attention.to_out.0": Role.SELF_ATTN_OUT,
        "feed_forward.w[13]": Role.FFN_UP,
        "feed_forward.w2": Role.FFN_DOWN,
        "adaLN_modulation.0": Role.MODULATION,
    },
    timestep=("t", "timestep"),
)
