"""LTX-Video and LTX-2; the second makes sound in a stream of its own."""

from tadp.families.family import Family
from tadp.families.roles import ATTN1, ATTN2, FF
from tadp.precision import Role

LTX = Family(
    name="LTX-Video",
    classes=("LTXVideoTransformer3DModel", "LTX2VideoTransformer3DModel", "SanaWMLTX2RefinerTransformer3DModel"),
    blocks=("transformer_blocks",),
    roles={
        **ATTN1,
        "audio_attn1.to_[qkv]": Role.SELF_ATTN_QKV,
        "audio_attn1.to_out.0": Role.SELF_ATTN_OUT,
        **ATTN2,
        "audio_attn2.to_q": Role.CROSS_ATTN_Q,
        "audio_attn2.to_[kv]": Role.CROSS_ATTN_KV,
        "audio_attn2.to_out.0": Role.CROSS_ATTN_OUT,
        "audio_to_video_attn.to_q": Role.CROSS_ATTN_Q,
        "audio_to_video_attn.to_[kv]": Role.CROSS_ATTN_KV,
        "audio_to_video_attn.to_out.0": Role.CROSS_ATTN_OUT,
        "video_to_audio_attn.to_q": Role.CROSS_ATTN_Q,
        "video_to_audio_attn.to_[kv]": Role.CROSS_ATTN_KV,
        "video_to_audio_attn.to_out.0": Role.CROSS_ATTN_OUT,
        **FF,
        "audio_ff.net.0.proj": Role.FFN_UP,
        "audio_ff.net.2": Role.FFN_DOWN,
    },
    timestep=("timestep",),
)
