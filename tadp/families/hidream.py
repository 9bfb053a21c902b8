"""HiDream-I1: experts in the feed-forward layers of the image."""

from tadp.families.family import Family
from tadp.precision import Role

HIDREAM = Family(
    name="HiDream",
    classes=("HiDreamImageTransformer2DModel",),
    blocks=("double_stream_blocks", "single_stream_blocks"),
    roles={
        "block.adaLN_modulation.1": Role.MODULATION,
        "block.attn1.to_[qkv]": Role.SELF_ATTN_QKV,
        "block.attn1.to_[qkv]_t": Role.SELF_ATTN_QKV,
        "block.attn1.to_out": Role.SELF_ATTN_OUT,
        "block.attn1.to_out_t": Role.SELF_ATTN_OUT,
        "block.ff_?.w[13]": Role.FFN_UP,
        "block.ff_?.w2": Role.FFN_DOWN,
        "block.ff_i.shared_experts.w[13]": Role.FFN_UP,
        "block.ff_i.shared_experts.w2": Role.FFN_DOWN,
        "block.ff_i.experts.*.w[13]": Role.FFN_UP,
        "block.ff_i.experts.*.w2": Role.FFN_DOWN,
    },
    timestep=("timesteps", "timestep"),
)
