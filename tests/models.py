"""Small models that tests compile. Structures are shared, so that Inductor's cache serves most of the suite."""

import torch
from diffusers import WanTransformer3DModel

SHAPE = (1, 4, 3, 8, 8)
TEXT_LENGTH = 16


def tiny_transformer(layers: int = 4, dtype: torch.dtype = torch.bfloat16) -> WanTransformer3DModel:
    """A Wan transformer of two heads of 32 and random weights large enough that every block matters."""
    torch.manual_seed(0)
    model = WanTransformer3DModel(
        patch_size=(1, 1, 1),
        num_attention_heads=2,
        attention_head_dim=32,
        in_channels=4,
        out_channels=4,
        text_dim=32,
        freq_dim=32,
        ffn_dim=128,
        num_layers=layers,
        rope_max_seq_len=32,
    )
    return model.to(dtype).eval()


def tiny_inputs(
    batch: int = 1, dtype: torch.dtype = torch.bfloat16, timestep: float = 900.0, seed: int = 1
) -> dict[str, object]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "hidden_states": torch.randn(batch, *SHAPE[1:], generator=generator).to(dtype),
        "timestep": torch.full((batch,), timestep),
        "encoder_hidden_states": torch.randn(batch, TEXT_LENGTH, 32, generator=generator).to(dtype),
        "return_dict": False,
    }


def relative_error(value: torch.Tensor, reference: torch.Tensor) -> float:
    return ((value.double() - reference.double()).norm() / reference.double().norm()).item()
