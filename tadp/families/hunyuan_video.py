"""HunyuanVideo, 1.5, Framepack and HunyuanImage: text and video side by side, then joined in single-stream blocks."""

from tadp.families.family import Family
from tadp.families.roles import FF, FF_CONTEXT, JOINT_ATTN
from tadp.precision import Role

HUNYUAN_VIDEO = Family(
    name="HunyuanVideo",
    classes=(
        "HunyuanVideoTransformer3DModel",
        "HunyuanVideo15Transformer3DModel",
        "HunyuanVideoFramepackTransformer3DModel",
        "HunyuanImageTransformer2DModel",
    ),
    blocks=(
        "context_embedder.token_refiner.refiner_blocks",
        "transformer_blocks",
        "single_transformer_blocks",
    ),
    roles={
        **JOINT_ATTN,
        **FF,
        **FF_CONTEXT,
        "norm*.linear": Role.MODULATION,
        "proj_mlp": Role.FFN_UP,
        "proj_out": Role.FFN_DOWN,
    },
    timestep=("timestep",),
)
