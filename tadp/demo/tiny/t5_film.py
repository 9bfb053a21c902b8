"""A tiny decoder of Spectrogram Diffusion: a T5 decoder whose layers a time scales and shifts.

The forward has no `return_dict` and returns a tensor; what it decodes is a list of pairs of encodings and masks. Its
layers return tuples.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_MELS, _FRAMES = 16, 24
_NOTES = 12
_DIM = 64


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """A spectrogram in noise, the encoded notes and the encoded sound before, and a time in 0..1."""
    notes_mask = torch.ones(1, _NOTES, dtype=torch.bool)
    notes_mask[:, 9:] = False
    return {
        "encodings_and_masks": [
            (torch.randn(1, _NOTES, _DIM, generator=generator), notes_mask),
            (torch.randn(1, _FRAMES, _DIM, generator=generator), torch.ones(1, _FRAMES, dtype=torch.bool)),
        ],
        "decoder_input_tokens": torch.randn(1, _FRAMES, _MELS, generator=generator),
        "decoder_noise_time": torch.tensor([0.5]),
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="T5FilmDecoder",
        config={
            "input_dims": _MELS,
            "targets_length": _FRAMES,
            "d_model": _DIM,
            "num_layers": 2,
            "num_heads": 4,
            "d_kv": 16,
            "d_ff": 128,
        },
        inputs=_inputs,
    ),
)
