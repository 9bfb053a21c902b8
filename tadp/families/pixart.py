"""PixArt-alpha and PixArt-Sigma."""

from tadp.families.family import Family
from tadp.families.roles import ATTN1, ATTN2, FF

PIXART = Family(
    name="PixArt",
    classes=("PixArtTransformer2DModel",),
    blocks=("transformer_blocks",),
    roles={
        **ATTN1,
        **ATTN2,
        **FF,
    },
    timestep=("timestep",),
)
