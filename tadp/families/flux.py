"""FLUX.1 and its kin: double-stream blocks, then single-stream blocks."""

from tadp.families.family import Family
from tadp.families.roles import FF, FF_CONTEXT, JOINT_ATTN
from tadp.precision import Role

FLUX = Family(
    name="FLUX.1",
    classes=(
        "FluxTransformer2DModel",
        "BriaTransformer2DModel",
        "BriaFiboTransformer2DModel",
        "LongCatImageTransformer2DModel",
        "OvisImageTransformer2DModel",
    ),
    blocks=("transformer_blocks", "single_transformer_blocks"),
    roles={
        "norm1.linear": Role.MODULATION,
        "norm1_context.linear": Role.MODULATION,
        "norm.linear": Role.MODULATION,
        **JOINT_ATTN,
        **FF,
        **FF_CONTEXT,
        "proj_mlp": Role.FFN_UP,
        "proj_out": Role.FFN_DOWN,
    },
    timestep=("timestep",),
)
