"""What helps layers whose activations have heavy tails, as those of large diffusion transformers do?

The embedded model has no such layers, so these are made up. A few channels are 20 to 100 times as large as the rest, as
published for large models (LLM.int8, arXiv 2208.07339; SmoothQuant, arXiv 2211.10438; ViDiT-Q, arXiv 2406.02540, for
diffusion transformers), and some tokens have single huge values (massive activations, arXiv 2402.17762). Channels
depend on each other, and weights follow Student's t. Signal-to-noise of the layer's output, dB, on tokens that nothing
was chosen with.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from bench.kernels.layers import ratios_of
from bench.record import parser, record
from tadp.calibration.rounding import Curvature, compensate
from tadp.compiler.balancing import balance
from tadp.kernels import BitPlaneWeight
from tadp.kernels.rotation import rotate, size_for

COLUMNS, ROWS, TOKENS = 512, 128, 2048
ALPHA = 0.5
FREEDOM = 5  # degrees of, of weights
RANK = 8  # columns for each factor that channels have in common


@dataclass(frozen=True)
class Tails:
    """How activations are spread.

    Attributes:
        channels: share of channels that are large.
        channel: how much larger they are than the rest.
        tokens: share of tokens that have huge values.
        value: how much larger these are than their channel; each such token has them in a hundredth of its channels.
    """

    channels: float = 0.0
    channel: float = 1.0
    tokens: float = 0.0
    value: float = 1.0


KINDS = {
    "even": Tails(),
    "channels, 20 times": Tails(0.01, 20),
    "channels, 100 times": Tails(0.01, 100),
    "tokens, 30 times": Tails(tokens=0.02, value=30),
    "channels, 50 times, and tokens, 10 times": Tails(0.01, 50, 0.02, 10),
}

Made = tuple[BitPlaneWeight, torch.Tensor, torch.Tensor]
"""A packed weight, the weight that it stands for, and the activations that its product takes."""


@dataclass(frozen=True)
class Layer:
    """A layer.

    Attributes:
        weight: ``(rows, columns)``.
        seen: ``(tokens, columns)``, that may be looked at.
        unseen: likewise, that outputs are compared on.
    """

    weight: torch.Tensor
    seen: torch.Tensor
    unseen: torch.Tensor


@torch.no_grad()
def main() -> None:
    """A row for each kind of activations and each way of packing."""
    options = parser(__doc__)
    options.add_argument("--short", action="store_true", help="a small layer, two kinds")
    chosen = options.parse_args()
    sizes = (256, 64, 512) if chosen.short else (COLUMNS, ROWS, TOKENS)
    rows: list[dict[str, object]] = []
    for name, tails in list(KINDS.items())[: 2 if chosen.short else None]:
        layer = made_up(tails, *sizes)
        for way, make in ways().items():
            found = ratios_of(*make(layer))
            rows.append({"activations": name, "packed": way} | {f"{key}, dB": value for key, value in found.items()})
    record("heavy_tails", rows, chosen.json, columns=sizes[0], rows_of_weight=sizes[1], tokens=sizes[2])


def made_up(tails: Tails, columns: int, rows: int, tokens: int) -> Layer:
    """A layer of one kind; the same for all kinds but for its tails."""
    generator = torch.Generator().manual_seed(0)
    gaussian = torch.randn(rows, columns, generator=generator)
    squares = torch.randn(FREEDOM, rows, columns, generator=generator).square().sum(0)
    weight = gaussian / (squares / FREEDOM).sqrt() / columns**0.5
    common = torch.randn(columns // RANK, columns, generator=generator) * RANK**0.5 / columns**0.5
    sizes = (torch.randn(columns, generator=generator) / 2).exp()
    large = torch.randperm(columns, generator=generator)[: round(tails.channels * columns)]
    sizes[large] = tails.channel

    def activations() -> torch.Tensor:
        x = torch.randn(tokens, columns // RANK, generator=generator) @ common * RANK**0.5
        x = (x + torch.randn(tokens, columns, generator=generator) / 2) * sizes
        struck = torch.rand(tokens, 1, generator=generator) < tails.tokens
        places = torch.rand(tokens, columns, generator=generator) < 0.01
        return torch.where(struck & places, x * tails.value, x)

    return Layer(weight, activations(), activations())


def ways() -> dict[str, Callable[[Layer], Made]]:
    """Ways of packing a layer, by name."""
    found: dict[str, Callable[[Layer], Made]] = {}
    for size, scales in ((None, ""), (128, ", groups of 128"), (64, ", groups of 64")):
        found[f"without data{scales}"] = lambda layer, size=size: packed(layer, size)
        found[f"compensated{scales}"] = lambda layer, size=size: packed(layer, size, data=True)
    found["balanced"] = lambda layer: packed(layer, factors=factors(layer))
    found["balanced, compensated"] = lambda layer: packed(layer, factors=factors(layer), data=True)
    found["rotated"] = lambda layer: packed(rotated(layer))
    found["rotated, compensated"] = lambda layer: packed(rotated(layer), data=True)
    found["rotated, compensated, groups of 64"] = lambda layer: packed(rotated(layer), 64, data=True)
    return found


def packed(layer: Layer, size: int | None = None, factors: torch.Tensor | None = None, *, data: bool = False) -> Made:
    """A layer with a scale for so many columns, with activations multiplied by factors, with codes chosen or not."""
    if not data:
        return BitPlaneWeight.from_hp(layer.weight, size, factors), layer.weight, layer.unseen
    by = torch.ones(layer.weight.shape[1]) if factors is None else factors
    x = layer.seen * by
    codes, scale = compensate(layer.weight / by, Curvature.of(x.T @ x), size)
    return BitPlaneWeight.from_codes(codes, scale, torch.float32, factors), layer.weight, layer.unseen


def factors(layer: Layer) -> torch.Tensor:
    """What balancing multiplies activations by."""
    return 1 / balance(layer.seen.abs().amax(0), layer.weight, ALPHA)


def rotated(layer: Layer) -> Layer:
    """The same layer, whose outputs are the same, with columns rotated in blocks."""
    size = size_for(layer.weight.shape[1])
    return Layer(*(rotate(matrix, size) for matrix in (layer.weight, layer.seen, layer.unseen)))


if __name__ == "__main__":
    main()
