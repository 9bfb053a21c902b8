"""What formats that are written are called on the command line; nothing heavy is imported here."""

TADP, DIFFUSERS, TORCHAO, COMFYUI, COMFYUI_ROTATED, TURBODIFFUSION = WRITTEN = (
    "tadp",
    "diffusers",
    "torchao",
    "comfyui",
    "comfyui-convrot",
    "turbodiffusion",
)
"""All of them; the first unless another is asked for."""

ENDINGS = {COMFYUI: ".safetensors", COMFYUI_ROTATED: ".safetensors", TURBODIFFUSION: ".pth"}
"""What the names of formats that are one file end with; the others are directories."""
