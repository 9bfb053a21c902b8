"""DiT: classes of ImageNet; each block embeds the timestep itself."""

from tadp.families.family import Family
from tadp.precision import Role

DIT = Family(
    name="DiT",
    classes=("DiTTransformer2DModel",),
    blocks=("transformer_blocks",),
    roles={
        "norm1.emb.timestep_embedder.linear_?": Role.MODULATION,
        "norm1.linear": Role.MODULATION,
        "attn1.to_[qkv]": Role.SELF_ATTN_QKV,
        "attn1.to_out.0": Role.SELF_ATTN_OUT,
        "ff.net.0.proj": Role.FFN_UP,
        "ff.net.2": Role.FFN_DOWN,
    },
    timestep=("timestep",),
)
