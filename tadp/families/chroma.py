"""Chroma: FLUX.1 with one small network that gives all blocks their modulation."""

from tadp.families.family import Family
from tadp.families.roles import FF, FF_CONTEXT, JOINT_ATTN
from tadp.precision import Role

CHROMA = Family(
    name="Chroma",
    classes=("ChromaTransformer2DModel",),
    blocks=("transformer_blocks", "single_transformer_blocks"),
    roles={
        **JOINT_ATTN,
        **FF,
        **FF_CONTEXT,
        "proj_mlp": Role.FFN_UP,
        "proj_out": Role.FFN_DOWN,
    },
    timestep=("timestep",),
)
