"""What does another program's format cost, and what does turning it into tadp's cost on top?

A layer is rounded in each format, and what comes out is converted to planes of 8 bits: rows that are no longer the
same, and decibels of the difference. One layer is Gaussian, the other has outliers in every row.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from bench.record import parser, record
from tadp.compiler.converting import convert, order
from tadp.extras import need
from tadp.files.foreign import saved
from tadp.files.foreign.opening import open_checkpoint
from tadp.files.foreign.pieces import decibels, squares
from tadp.files.foreign.tensors import Stored

NAME = "blocks.0.self_attn.q.weight"
WRITTEN = ("diffusers", "comfyui", "comfyui-convrot", "torchao", "turbodiffusion")
_OTHERS = ("head.head.weight", "time_projection.1.weight")
"""What a checkpoint of Wan has, by which its names are known; here without content."""


def main() -> None:
    """Print both figures for every format that is read."""
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=1024)
    options.add_argument("--columns", type=int, default=5120)
    chosen = options.parse_args()
    rows = []
    for kind, weight in layers(chosen.rows, chosen.columns).items():
        with tempfile.TemporaryDirectory() as directory:
            for name, stored in stored_in(weight, Path(directory)):
                rows.append({"layer": kind, "format": name, **costs(weight, stored)})
    record("formats", rows, chosen.json, shape=[chosen.rows, chosen.columns])


def layers(rows: int, columns: int) -> dict[str, torch.Tensor]:
    """A Gaussian layer, and one of Student's t with three degrees of freedom."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(rows, columns, generator=generator)
    chi = torch.zeros(rows, columns)
    for _ in range(3):
        chi += torch.randn(rows, columns, generator=generator).square_()
    heavy = torch.randn(rows, columns, generator=generator) / (chi / 3).sqrt_()
    return {"Gaussian": normal / 50, "heavy tails": heavy / 50}


def costs(weight: torch.Tensor, stored: Stored) -> dict[str, object]:
    """What a format and what planes made of it differ by, and how many rows the latter change."""
    parts = stored.parts()
    before = decibels(*squares(weight, parts.rows(0, weight.shape[0])))
    rotation = 0 if stored.scheme is None else stored.scheme.rotation
    _, outcome = saved.piece(stored, rotation).make()
    return {"format dB": before, "rows changed": outcome.changed / outcome.rows, "planes dB": outcome.decibels}


def stored_in(weight: torch.Tensor, directory: Path) -> Iterator[tuple[str, Stored]]:
    """The layer in each format, by name."""
    source = directory / "source.safetensors"
    save_file({NAME: weight, **{name: torch.zeros(1, 1) for name in _OTHERS}}, source)
    for to in WRITTEN:
        ending = ".safetensors" if to.startswith("comfyui") else ".pth" if to == "turbodiffusion" else ""
        path = directory / f"{to}{ending}"
        convert(order(source, to), path)
        yield to, _layer(path)
    yield "float8_e4m3fn, a scale a tensor", _layer(_float8(weight, directory / "float8.safetensors"))
    library = need("gguf", "formats", "GGUF files need gguf")
    kind = library.GGMLQuantizationType.Q8_0
    writer = library.GGUFWriter(directory / "x.gguf", "wan")
    writer.add_tensor(NAME, library.quantize(weight.numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    yield "GGUF Q8_0", _layer(directory / "x.gguf")


def _float8(weight: torch.Tensor, path: Path) -> Path:
    scale = weight.abs().max() / torch.finfo(torch.float8_e4m3fn).max
    layer = NAME.removesuffix(".weight")
    save_file({NAME: (weight / scale).to(torch.float8_e4m3fn), f"{layer}.weight_scale": scale}, path)
    return path


def _layer(path: Path) -> Stored:
    return next(stored for stored in open_checkpoint(path).tensors if torch.Size(stored.shape).numel() > 1)


if __name__ == "__main__":
    main()
