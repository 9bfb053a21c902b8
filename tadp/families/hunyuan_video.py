"""HunyuanVideo, 1.5, Framepack and HunyuanImage: text and video side by side, then joined in single-stream blocks."""

from tadp.families.family import Family
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
        "attn.to_[qkv]": Role.SELF_ATTN_QKV,
        "attn.add_[qkv]_proj": Role.SELF_ATTN_QKV,
        "attn.to_out.0": Role.SELF_ATTN_OUT,
        "attn.to_add_out": Role.SELF_ATTN_OUT,
        "ff.net.0.proj": Role.FFN_UP,
        "ff.net.2": Role.FFN_DOWN,
        "ff_context.net.0.proj": Role.FFN_UP,
        "ff_context.net.2": Role.FFN_DOWN,
        "norm*.linear": Role.MODULATION,
        "proj_mlp": Role.FFN_UP,
        "proj_out": Role.FFN_DOWN,
    },
    timestep=("timestep",),
)
