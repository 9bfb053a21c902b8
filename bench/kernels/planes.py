"""How good are nested bit planes, against rounding the same weights to each width on its own?"""

import torch

from bench.record import parser, record
from tadp.kernels import BitPlaneWeight

SHAPE = (512, 1536)
WIDTHS = (8, 6, 4)


def main() -> None:
    """Signal-to-noise ratios for gaussian and heavy-tailed weights."""
    options = parser(__doc__).parse_args()
    record("planes: signal-to-noise, dB", [measure(name) for name in DISTRIBUTIONS], options.json, shape=SHAPE)


def measure(name: str) -> dict[str, object]:
    """Nested and independent ratios of one distribution."""
    weight = DISTRIBUTIONS[name](torch.Generator().manual_seed(0))
    packed = BitPlaneWeight.from_hp(weight)
    row: dict[str, object] = {"weights": name}
    for width in WIDTHS:
        row[f"{width} bits nested"] = signal_to_noise(weight, packed.dequantize(width))
        row[f"{width} bits alone"] = signal_to_noise(weight, rounded_alone(weight, width))
    return row


def rounded_alone(weight: torch.Tensor, width: int) -> torch.Tensor:
    """Symmetric rounding to `width` bits under one scale per row, as an 8-, 6- or 4-bit store of its own would do."""
    largest = 2 ** (width - 1) - 1
    scale = weight.abs().amax(1, keepdim=True) / largest
    return (weight / scale).round().clamp(-largest - 1, largest) * scale


def signal_to_noise(weight: torch.Tensor, restored: torch.Tensor) -> float:
    """In dB."""
    noise = (weight.double() - restored.double()).square().sum()
    return float(10 * torch.log10(weight.double().square().sum() / noise))


def _student(degrees: float, generator: torch.Generator) -> torch.Tensor:
    """Student's t as a gaussian over the root of a chi-square over its degrees of freedom."""
    gaussian = torch.randn(SHAPE, generator=generator)
    squares = torch.randn(int(degrees), *SHAPE, generator=generator).square().sum(0)
    return gaussian / (squares / degrees).sqrt()


DISTRIBUTIONS = {
    "gaussian": lambda generator: torch.randn(SHAPE, generator=generator),
    "Student's t, 6 df": lambda generator: _student(6, generator),
    "Student's t, 4 df": lambda generator: _student(4, generator),
    "Student's t, 3 df": lambda generator: _student(3, generator),
}


if __name__ == "__main__":
    main()
