"""Stable Diffusion 3 and 3.5."""

from tadp.families.family import Family
from tadp.families.roles import FF, FF_CONTEXT, JOINT_ATTN
from tadp.precision import Role

SD3 = Family(
    name="Stable Diffusion 3",
    classes=("SD3Transformer2DModel",),
    blocks=("transformer_blocks",),
    roles={
        "norm1.linear": Role.MODULATION,
        "norm1_context.linear": Role.MODULATION,
        **JOINT_ATTN,
        "attn2.to_[qkv]": Role.SELF_ATTN_QKV,
        "attn2.to_out.0": Role.SELF_ATTN_OUT,
        **FF,
        **FF_CONTEXT,
    },
    timestep=("timestep",),
)
