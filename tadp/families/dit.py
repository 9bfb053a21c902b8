"""DiT: classes of ImageNet; each block embeds the timestep itself."""

from tadp.families.family import Family
from tadp.families.roles import ATTN1, FF
from tadp.precision import Role

DIT = Family(
    name="DiT",
    classes=("DiTTransformer2DModel",),
    blocks=("transformer_blocks",),
    roles={
        "norm1.emb.timestep_embedder.linear_?": Role.MODULATION,
        "norm1.linear": Role.MODULATION,
        **ATTN1,
        **FF,
    },
    timestep=("timestep",),
)
