"""Small checkpoints in the formats of other programs, each written by its own library or as its description says."""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from comfy_kitchen.backends.eager import quantization as comfy
from safetensors.torch import save_file

from tadp.files.foreign.names import to_wan
from tests.models import tiny_transformer

LAYER = "blocks.0.self_attn.q"


def heavy(rows: int, columns: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A weight with outliers: Student's t with three degrees of freedom."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(rows, columns, generator=generator)
    others = torch.randn(3, rows, columns, generator=generator)
    return (normal / others.square().mean(0).sqrt() / 50).to(dtype)


def wan_weights(dtype: torch.dtype = torch.bfloat16) -> dict[str, torch.Tensor]:
    """A tiny Wan transformer under diffusers' names; its patches are single pixels."""
    return {name: tensor.to(dtype) for name, tensor in tiny_transformer(2).state_dict().items()}


def original(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same under the names of Wan's own repository."""
    names = to_wan(list(weights))
    return {names[name]: tensor for name, tensor in weights.items()}


def linears(weights: Iterable[str]) -> list[str]:
    """Layers of blocks that other programs quantize, by the names of Wan's own repository."""
    leaves = ("q", "k", "v", "o", "0", "2")
    return [
        name.removesuffix(".weight")
        for name in weights
        if name.startswith("blocks.") and name.endswith(".weight") and name.split(".")[-2] in leaves
    ]


def comfyui_layer(
    layer: str, weight: torch.Tensor, rotation: int = 0, per_tensor: bool = False
) -> dict[str, torch.Tensor]:
    """An int8 layer, rounded by comfy-kitchen."""
    said: dict[str, object] = {"format": "int8_tensorwise"}
    if rotation:
        said |= {"convrot": True, "convrot_groupsize": rotation}
        codes, scale = comfy.quantize_int8_convrot_weight(weight, rotation)
    elif per_tensor:
        codes, scale = comfy.quantize_int8_tensorwise(weight)
    else:
        codes, scale = comfy.quantize_int8_rowwise(weight)
    mark = torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)
    return {f"{layer}.weight": codes, f"{layer}.weight_scale": scale, f"{layer}.comfy_quant": mark}


def write_comfyui(path: Path, weights: dict[str, torch.Tensor], rotation: int = 0, prefix: str = "") -> Path:
    """A whole model in ComfyUI's int8."""
    content = original(weights)
    for layer in linears(list(content)):
        weight = content.pop(f"{layer}.weight").float()
        content |= comfyui_layer(layer, weight, rotation if rotation and weight.shape[1] % rotation == 0 else 0)
    save_file({f"{prefix}{key}": tensor.contiguous() for key, tensor in content.items()}, path)
    return path


def tiles_of(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and scales of tiles, tile by tile as TurboDiffusion's description has them."""
    rows, columns = weight.shape
    codes = torch.empty(rows, columns, dtype=torch.int8)
    scale = torch.empty(-(-rows // 128), -(-columns // 128))
    for row in range(scale.shape[0]):
        for column in range(scale.shape[1]):
            place = (slice(row * 128, row * 128 + 128), slice(column * 128, column * 128 + 128))
            largest = weight[place].float().abs().max().clamp(min=1e-8)
            scale[row, column] = largest / 128
            codes[place] = (weight[place].float() * (128 / largest)).round().clamp(-128, 127).to(torch.int8)
    return codes, scale


def restored_tiles(codes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """What tiles stand for, element by element's formula."""
    spread = scale.repeat_interleave(128, 0)[: codes.shape[0]].repeat_interleave(128, 1)[:, : codes.shape[1]]
    return codes.float() * spread


def write_turbodiffusion(path: Path, weights: dict[str, torch.Tensor], wrapped: bool = False) -> Path:
    """A whole model in TurboDiffusion's int8, with a ``proj_l``; `wrapped` as activation checkpointing leaves names."""
    content = original(weights)
    for layer in linears(list(content)):
        codes, scale = tiles_of(content.pop(f"{layer}.weight"))
        content |= {f"{layer}.int8_weight": codes, f"{layer}.scale": scale}
    patches = content["patch_embedding.weight"]
    content["patch_embedding.weight"] = patches.reshape(patches.shape[0], -1)
    for index in (0, 1):
        content[f"blocks.{index}.self_attn.attn_op.local_attn.proj_l.weight"] = torch.eye(32, dtype=torch.bfloat16)
        content[f"blocks.{index}.self_attn.attn_op.local_attn.proj_l.bias"] = torch.zeros(32, dtype=torch.bfloat16)
    if wrapped:
        content = {
            key.replace("blocks.1.", "blocks.1._checkpoint_wrapped_module."): tensor for key, tensor in content.items()
        }
    torch.save(content, path)  # noqa: TID251
    return path
