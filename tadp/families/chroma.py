"""Chroma: FLUX.1 with one small network that gives all blocks their modulation."""

from tadp.families.family import Family
from tadp.precision import Role

CHROMA = Family(
    name="Chroma",
    classes=("ChromaTransformer2DModel",),
    blocks=("transformer_blocks", "single_transformer_blocks"),
    roles={
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
