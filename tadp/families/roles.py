"""Roles of the layers of diffusers' shared modules, ``Attention`` and ``FeedForward``, under their usual names.

Families put these tables into theirs with ``**``; what a family names in its own way it declares itself.
"""

from collections.abc import Mapping
from types import MappingProxyType

from tadp.precision import Role

ATTN1: Mapping[str, Role] = MappingProxyType(
    {
        "attn1.to_[qkv]": Role.SELF_ATTN_QKV,
        "attn1.to_out.0": Role.SELF_ATTN_OUT,
    }
)
"""Self-attention of a block that may have a cross-attention after it."""

ATTN2: Mapping[str, Role] = MappingProxyType(
    {
        "attn2.to_q": Role.CROSS_ATTN_Q,
        "attn2.to_[kv]": Role.CROSS_ATTN_KV,
        "attn2.to_out.0": Role.CROSS_ATTN_OUT,
    }
)
"""Cross-attention to the prompt."""

JOINT_ATTN: Mapping[str, Role] = MappingProxyType(
    {
        "attn.to_[qkv]": Role.SELF_ATTN_QKV,
        "attn.add_[qkv]_proj": Role.SELF_ATTN_QKV,
        "attn.to_out.0": Role.SELF_ATTN_OUT,
        "attn.to_add_out": Role.SELF_ATTN_OUT,
    }
)
"""One attention over the tokens of the image and of the prompt, with projections for either."""

FF: Mapping[str, Role] = MappingProxyType(
    {
        "ff.net.0.proj": Role.FFN_UP,
        "ff.net.2": Role.FFN_DOWN,
    }
)
"""Feed-forward network of the image's tokens."""

FF_CONTEXT: Mapping[str, Role] = MappingProxyType(
    {
        "ff_context.net.0.proj": Role.FFN_UP,
        "ff_context.net.2": Role.FFN_DOWN,
    }
)
"""Feed-forward network of the prompt's tokens."""
