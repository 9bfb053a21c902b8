"""CogVideoX and ConsisID, which adds the likeness of a face to it."""

from tadp.families.family import Family
from tadp.precision import Role

COGVIDEOX = Family(
    name="CogVideoX",
    classes=("CogVideoXTransformer3DModel", "ConsisIDTransformer3DModel"),
    blocks=("transformer_blocks", "perceiver_cross_attention", "local_facial_extractor.layers"),
    roles={
        "norm1.linear": Role.MODULATION,
        "norm2.linear": Role.MODULATION,
        "attn1.to_[qkv]": Role.SELF_ATTN_QKV,
        "attn1.to_out.0": Role.SELF_ATTN_OUT,
        "ff.net.0.proj": Role.FFN_UP,
        "ff.net.2": Role.FFN_DOWN,
        "to_q": Role.CROSS_ATTN_Q,
        "to_kv": Role.CROSS_ATTN_KV,
        "to_out": Role.CROSS_ATTN_OUT,
        "1": Role.FFN_UP,
        "3": Role.FFN_DOWN,
    },
    timestep=("timestep",),
)
