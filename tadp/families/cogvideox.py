"""CogVideoX and ConsisID, which adds the likeness of a face to it."""

from tadp.families.family import Family
from tadp.families.roles import ATTN1, FF
from tadp.precision import Role

COGVIDEOX = Family(
    name="CogVideoX",
    classes=("CogVideoXTransformer3DModel", "ConsisIDTransformer3DModel"),
    blocks=("transformer_blocks", "perceiver_cross_attention", "local_facial_extractor.layers"),
    roles={
        "norm1.linear": Role.MODULATION,
        "norm2.linear": Role.MODULATION,
        **ATTN1,
        **FF,
        "to_q": Role.CROSS_ATTN_Q,
        "to_kv": Role.CROSS_ATTN_KV,
        "to_out": Role.CROSS_ATTN_OUT,
        "1": Role.FFN_UP,
        "3": Role.FFN_DOWN,
    },
    timestep=("timestep",),
)
