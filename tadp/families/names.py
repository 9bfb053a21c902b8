"""The role that a linear layer's name tells, or else its shape: for model classes and layers that nobody declared."""

import re

from tadp.precision import Role

SIDE_PATH = "side_path"
"""What a compiled model calls the product beside a layer that stands for the layer's adapters."""

QUERY = re.compile(r"(^|\.)(\w*_)?(q|query|queries|wq|q_a|q_b)(_proj|_linear|_lin|_a_proj|_b_proj|_t|_proj_cam)?$")
KEY_VALUE = re.compile(
    r"(^|\.)(\w*_)?(k|v|kv|key|value|keys|values|wk|wv|wkv|kv_a|kv_b)(_proj|_linear|_lin|_img|_a_proj|_b_proj|_t|_proj_cam)?$"
)
_FUSED = re.compile(r"(^|\.)(\w*_)?(w?qkv|in_proj)(_proj|_mlp|_mlp_proj|_linear)?$")
_ATTN_OUT = re.compile(
    r"(^|\.)(\w*attn\w*|\w*attention\w*|self|cross|sa|ca)[\w.]*\."
    r"(to_out|to_out_t|to_add_out|o|wo|out|o_proj|out_proj|out_proj_cam|proj_out|proj|dense|output|linear_out|add_out_proj)(\.\d)?$"
)
_GATE = re.compile(r"(^|\.)(\w*attn\w*|\w*attention\w*|mha)\.(to_g|to_gate|output_gate|gate)$")
"""The gate of an attention reads what its queries read."""
_BARE_ATTN_OUT = re.compile(r"(^|\.)(to_out|to_add_out|o_proj|attn_out|(\w+_)?attn_proj|out_layer)(\.\d)?$")
_MODULATION = re.compile(
    r"(^|\.)(norm\w*\.(linear|linear_\d|proj|\w*emb\w*\.\w+)|\w*modulation\w*|ada_?ln\w*|ada_?norm\w*|\w*_mod|mod|film\w*"
    r"|scale_shift\w*)(\.\w+)*$",
    re.IGNORECASE,
)
_FFN_UP = re.compile(
    r"(^|\.)(net\.0(\.proj)?|fc_?1|fc_in|w1|w3|up_proj|gate_proj|gate_up_proj|linear_?1|linear_in|proj_mlp|proj_in|"
    r"(mlp|ffn|ff|feed_forward\w*)(_context)?\.(0|up|gate|in_layer|linear_1|proj_1|gate_proj))$"
)
_FFN_DOWN = re.compile(
    r"(^|\.)(net\.2|fc_?2|fc_out|w2|down_proj|linear_?2|linear_out|proj_out|"
    r"(mlp|ffn|ff|feed_forward\w*)(_context)?\.(2|3|4|down|out_layer|linear_2|proj_2))$"
)


def is_adapter(name: str) -> bool:
    """Whether a path leads into an adapter of a layer, as peft names them, and not to the layer itself."""
    return any(part == SIDE_PATH or part.startswith("lora_") for part in name.split("."))


def role_of(name: str, rows: int, columns: int, self_attention: bool = True) -> Role | None:
    """The role of a layer.

    Args:
        name: of the layer within its block.
        rows: of its weight.
        columns: of its weight.
        self_attention: whether the attention around it reads queries and keys from one tensor.

    Returns:
        None where neither its name nor its shape tells.
    """
    if _MODULATION.search(name):
        return Role.MODULATION
    if _FUSED.search(name):
        return Role.SELF_ATTN_QKV
    if QUERY.search(name) or _GATE.search(name):
        return Role.SELF_ATTN_QKV if self_attention else Role.CROSS_ATTN_Q
    if KEY_VALUE.search(name):
        return Role.SELF_ATTN_QKV if self_attention else Role.CROSS_ATTN_KV
    if _ATTN_OUT.search(name) or _BARE_ATTN_OUT.search(name):
        return Role.SELF_ATTN_OUT if self_attention else Role.CROSS_ATTN_OUT
    if _FFN_UP.search(name):
        return Role.FFN_UP
    if _FFN_DOWN.search(name):
        return Role.FFN_DOWN
    if rows >= 2 * columns:
        return Role.FFN_UP
    return Role.FFN_DOWN if columns >= 2 * rows else None
