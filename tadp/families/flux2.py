"""FLUX.2: modulation is shared by all blocks, and single-stream blocks have one layer in and one out."""

from tadp.families.family import Family
from tadp.families.roles import JOINT_ATTN
from tadp.precision import Role

FLUX2 = Family(
    name="FLUX.2",
    classes=("Flux2Transformer2DModel",),
    blocks=("transformer_blocks", "single_transformer_blocks"),
    roles={
        **JOINT_ATTN,
        "ff.linear_in": Role.FFN_UP,
        "ff.linear_out": Role.FFN_DOWN,
        "ff_context.linear_in": Role.FFN_UP,
        "ff_context.linear_out": Role.FFN_DOWN,
        "attn.to_qkv_mlp_proj": Role.SELF_ATTN_QKV,
        "attn.to_out": Role.SELF_ATTN_OUT,
    },
    timestep=("timestep",),
)
