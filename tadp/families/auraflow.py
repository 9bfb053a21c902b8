"""AuraFlow: joint blocks, then single-stream blocks."""

from tadp.families.family import Family
from tadp.families.roles import JOINT_ATTN
from tadp.precision import Role

AURAFLOW = Family(
    name="AuraFlow",
    classes=("AuraFlowTransformer2DModel",),
    blocks=("joint_transformer_blocks", "single_transformer_blocks"),
    roles={
        "norm1.linear": Role.MODULATION,
        "norm1_context.linear": Role.MODULATION,
        **JOINT_ATTN,
        "ff.linear_?": Role.FFN_UP,
        "ff.out_projection": Role.FFN_DOWN,
        "ff_context.linear_?": Role.FFN_UP,
        "ff_context.out_projection": Role.FFN_DOWN,
    },
    timestep=("timestep",),
)
