"""SANA and SANA-Video: linear attention, and feed-forward layers that are convolutions."""

from tadp.families.family import Family
from tadp.families.roles import ATTN1, ATTN2

SANA = Family(
    name="SANA",
    classes=("SanaTransformer2DModel", "SanaVideoTransformer3DModel"),
    blocks=("transformer_blocks",),
    roles={
        **ATTN1,
        **ATTN2,
    },
    timestep=("timestep",),
)
