"""Cosmos Predict and Transfer."""

from tadp.families.family import Family
from tadp.families.roles import ATTN1, ATTN2, FF
from tadp.precision import Role

COSMOS = Family(
    name="Cosmos",
    classes=("CosmosTransformer3DModel",),
    blocks=("transformer_blocks",),
    roles={
        "norm?.linear_?": Role.MODULATION,
        **ATTN1,
        **ATTN2,
        "attn2.q_img": Role.CROSS_ATTN_Q,
        "attn2.[kv]_img": Role.CROSS_ATTN_KV,
        **FF,
    },
    timestep=("timestep",),
)
