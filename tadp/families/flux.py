"""FLUX.1 and its kin: double-stream blocks, then single-stream blocks."""

from tadp.families.family import Family
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
        "attn.to_[qkv]": Role.SELF_ATTN_QKV,
        "attn.add_[qkv]_proj": Role.SELF_ATTN_QKV,
        "attn.to_out.0": Role.SELF_ATTN_OUT,
        "attn.to_add_out": Role.SELF_ATTN_OUT,
        "ff.net.0.proj": Role.FFN_UP,
        "ff.net.2": Role.FFN_DOWN,
        "ff_context.net.0.proj": Role.FFN_UP,
        "ff_context.net.2": Role.FFN_DOWN,
        "proj_mlp": Role.FFN_UP,
        "proj_out": Role.FFN_DOWN,
    },
    timestep=("timestep",),
)
