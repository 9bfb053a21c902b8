"""Kandinsky 5, 6 and the super-resolution of 6: blocks for the prompt, then visual ones; 6 runs sound beside video."""

from tadp.families.family import Family
from tadp.precision import Role

KANDINSKY = Family(
    name="Kandinsky",
    classes=(
        "Kandinsky5Transformer3DModel",
        "Kandinsky6Transformer3DModel",
        "Kandinsky6SRTransformer3DModel",
    ),
    blocks=(
        "text_transformer_blocks",
        "video_text_transformer_blocks",
        "audio_text_transformer_blocks",
        "visual_transformer_blocks",
    ),
    roles={
        "*modulation.out_layer": Role.MODULATION,
        "*self_attention.to_*": Role.SELF_ATTN_QKV,
        "*self_attention.out_layer": Role.SELF_ATTN_OUT,
        "attn.to_*": Role.SELF_ATTN_QKV,
        "attn.out_layer": Role.SELF_ATTN_OUT,
        "*cross_attention.to_query": Role.CROSS_ATTN_Q,
        "*cross_attention.to_key": Role.CROSS_ATTN_KV,
        "*cross_attention.to_value": Role.CROSS_ATTN_KV,
        "*cross_attention.out_layer": Role.CROSS_ATTN_OUT,
        "feed_forward.in_layer": Role.FFN_UP,
        "feed_forward.out_layer": Role.FFN_DOWN,
        "*feed_forward.net.0.proj": Role.FFN_UP,
        "*feed_forward.net.2": Role.FFN_DOWN,
    },
    timestep=("timestep",),
)
