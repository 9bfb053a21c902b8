"""Allegro."""

from tadp.families.family import Family
from tadp.families.roles import ATTN1, ATTN2, FF

ALLEGRO = Family(
    name="Allegro",
    classes=("AllegroTransformer3DModel",),
    blocks=("transformer_blocks",),
    roles={
        **ATTN1,
        **ATTN2,
        **FF,
    },
    timestep=("timestep",),
)
