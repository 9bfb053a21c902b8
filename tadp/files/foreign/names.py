"""Names of tensors: from those of other repositories to diffusers', and back for Wan."""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from tadp.files.foreign.tensors import Stored

_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "net.", "module.")
"""What training programs and ComfyUI put before all names of a transformer."""

_WRAPPER = "_checkpoint_wrapped_module."
"""What PyTorch's activation checkpointing leaves in names."""

_PATCH = (1, 2, 2)
"""Frames, rows and columns of a patch in every Wan of the original repository."""

_WAN = ("blocks.0.self_attn.q.weight", "head.head.weight", "time_projection.1.weight")
"""What tells the names of Wan's own repository."""

_BACK = (
    (r"^condition_embedder\.time_embedder\.linear_1\.", "time_embedding.0."),
    (r"^condition_embedder\.time_embedder\.linear_2\.", "time_embedding.2."),
    (r"^condition_embedder\.text_embedder\.linear_1\.", "text_embedding.0."),
    (r"^condition_embedder\.text_embedder\.linear_2\.", "text_embedding.2."),
    (r"^condition_embedder\.time_proj\.", "time_projection.1."),
    (r"^condition_embedder\.image_embedder\.norm1\.", "img_emb.proj.0."),
    (r"^condition_embedder\.image_embedder\.ff\.net\.0\.proj\.", "img_emb.proj.1."),
    (r"^condition_embedder\.image_embedder\.ff\.net\.2\.", "img_emb.proj.3."),
    (r"^condition_embedder\.image_embedder\.norm2\.", "img_emb.proj.4."),
    (r"^scale_shift_table$", "head.modulation"),
    (r"^proj_out\.", "head.head."),
    (r"\.scale_shift_table$", ".modulation"),
    (r"\.attn1\.", ".self_attn."),
    (r"\.attn2\.", ".cross_attn."),
    (r"\.to_out\.0\.", ".o."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.add_([kv])_proj\.", r".\1_img."),
    (r"\.norm_added_k\.", ".norm_k_img."),
    (r"\.ffn\.net\.0\.proj\.", ".ffn.0."),
    (r"\.ffn\.net\.2\.", ".ffn.2."),
    (r"^(blocks\.\d+)\.norm2\.", r"\1.norm3."),
)
"""From diffusers' names of Wan to the original ones; what diffusers maps back to other names is refused."""


def stripped(key: str, keys: Collection[str]) -> str:
    """A key without what stands before all `keys`, and without wrappers inside."""
    name = key
    for prefix in _PREFIXES:
        if all(other.startswith(prefix) for other in keys):
            name = name.removeprefix(prefix)
            break
    return name.replace(_WRAPPER, "")


def named(tensors: Collection[Stored]) -> tuple[tuple[Stored, ...], bool]:
    """The same tensors with diffusers' names, and whether their own were those of Wan's repository.

    Raises:
        ValueError: where two tensors come to one name, and for models of Wan whose tensors diffusers cuts in two.
    """
    keys = [stored.key for stored in tensors]
    plain = {stored.key: stripped(stored.key, keys) for stored in tensors}
    is_wan = set(_WAN) <= set(plain.values())
    mapping = to_diffusers(set(plain.values())) if is_wan else {}
    found: dict[str, Stored] = {}
    for stored in tensors:
        name = mapping.get(plain[stored.key], plain[stored.key])
        if name in found:
            raise ValueError(f"both {found[name].key} and {stored.key} are called {name}")
        found[name] = replace(stored, name=name)
    patches = found.get("patch_embedding.weight")
    if is_wan and patches is not None and len(patches.shape) == 2 and patches.shape[1] % 4 == 0:
        found[patches.name] = patches.in_shape((patches.shape[0], patches.shape[1] // 4, *_PATCH))
    return tuple(found.values()), is_wan


def to_diffusers(names: Collection[str]) -> dict[str, str]:
    """Diffusers' names of Wan's tensors by the original ones, from the function that diffusers converts files with.

    Raises:
        ValueError: for models whose tensors diffusers cuts or reshapes, such as Wan Animate.
    """
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    placeholders: dict[str, Any] = {name: _Placeholder(name) for name in names}
    converted = convert_wan_transformer_to_diffusers(placeholders)
    return {placeholder.name: name for name, placeholder in converted.items()}


def to_wan(names: Collection[str]) -> dict[str, str]:
    """The names in Wan's own repository by diffusers'.

    Raises:
        ValueError: for names that are none of a Wan transformer.
    """
    found = {}
    for name in names:
        original = name
        for pattern, replacement in _BACK:
            original = re.sub(pattern, replacement, original)
        found[name] = original
    back = to_diffusers(set(found.values()))
    for name, original in found.items():
        if back.get(original) != name:
            raise ValueError(f"{name} is no tensor of a Wan transformer: the original repository has no name for it")
    return found


def wan_config(config: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """A configuration of Wan's own repository in diffusers' terms.

    Args:
        config: of ``WanModel``.
        names: of its tensors, in diffusers: whether it reads images is seen by them.

    Raises:
        ValueError: for a configuration that lacks a field; names it.
    """
    try:
        width, heads = int(config["dim"]), int(config["num_heads"])
        reads_images = any(".add_k_proj." in name for name in names)
        return {
            "_class_name": "WanTransformer3DModel",
            "patch_size": list(_PATCH),
            "num_attention_heads": heads,
            "attention_head_dim": width // heads,
            "in_channels": int(config["in_dim"]),
            "out_channels": int(config["out_dim"]),
            "text_dim": int(config.get("text_dim", 4096)),
            "freq_dim": int(config["freq_dim"]),
            "ffn_dim": int(config["ffn_dim"]),
            "num_layers": int(config["num_layers"]),
            "cross_attn_norm": True,
            "qk_norm": "rms_norm_across_heads",
            "eps": float(config["eps"]),
            "image_dim": 1280 if reads_images else None,
            "added_kv_proj_dim": width if reads_images else None,
        }
    except KeyError as error:
        raise ValueError(f"config.json of WanModel has no field {error}") from error
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f"config.json of WanModel is damaged ({error})") from error


class _Placeholder:
    """Stands for a tensor while names are converted."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, attribute: str) -> Any:
        raise ValueError(f"{self.name} becomes more than one tensor in diffusers, which tadp does not follow")

    def __getitem__(self, index: Any) -> Any:
        raise ValueError(f"{self.name} is cut in diffusers, which tadp does not follow")
