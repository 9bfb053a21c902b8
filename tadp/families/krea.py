"""Krea 2: prompts of several encoder layers are fused first; attention is gated."""

from tadp.families.family import Family
from tadp.precision import Role

KREA = Family(
    name="Krea 2",
    classes=("Krea2Transformer2DModel",),
    blocks=("text_fusion.layerwise_blocks", "text_fusion.refiner_blocks", "transformer_blocks"),
    roles={
        "attn.to_[qkv]": Role.SELF_ATTN_QKV,
        "attn.to_gate": Role.SELF_ATTN_QKV,
        "attn.to_out.0": Role.SELF_ATTN_OUT,
        "ff.gate": Role.FFN_UP,
        "ff.up": Role.FFN_UP,
        "ff.down": Role.FFN_DOWN,
    },
    timestep=("timestep",),
)
