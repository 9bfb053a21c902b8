"""A first-order estimate of what quantizing each layer does to a model's prediction, from one backward pass.

With y the output of a layer, d its change under quantization and f the prediction, the change of f is J d to first
order. For a random v of independent standard normal values, the expectation of ``(g . d)^2`` with ``g = J^T v``, the
gradient of ``v . f``, is ``|J d|^2`` (Hutchinson 1989, "A stochastic estimator of the trace of the influence matrix").
One v serves all layers at once. Products are squared token by token before they are summed: that averages over tokens,
and leaves out that their errors may be correlated.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from tadp.kernels.bitplanes import BitPlaneWeight
from tadp.runtime.signals import prediction_of


@dataclass(frozen=True)
class Estimate:
    """What quantizing one layer at one width adds to the squared relative error of a prediction.

    Attributes:
        whole: of all its output channels together.
        channels: of each alone, ``(rows,)``.
    """

    whole: float
    channels: torch.Tensor


def estimate(
    model: torch.nn.Module,
    layers: Mapping[str, torch.nn.Linear],
    inputs: Mapping[str, Any],
    widths: Sequence[int] = (8, 6, 4),
    generator: torch.Generator | None = None,
) -> dict[str, dict[int, Estimate]]:
    """Estimate the squared relative error of the prediction for every layer quantized alone, at every width.

    Args:
        model: not compiled yet.
        layers: its layers to estimate, by path.
        inputs: keyword arguments of one forward.
        widths: of weights, in bits; activations have 8.
        generator: of v; seed 0 where there is none.

    Returns:
        By layer and width. Layers that the forward does not run are left out.

    Raises:
        ValueError: where the model returns no prediction.
    """
    return {
        layer: {
            width: Estimate(
                whole=(error * gradient).sum(-1).square().sum().item() / size,
                channels=(error * gradient).square().flatten(0, -2).sum(0) / size,
            )
            for width, error in errors.items()
        }
        for layer, errors, gradient, size in _errors(model, layers, inputs, widths, generator)
    }


def _errors(
    model: torch.nn.Module,
    layers: Mapping[str, torch.nn.Linear],
    inputs: Mapping[str, Any],
    widths: Sequence[int],
    generator: torch.Generator | None,
) -> Iterator[tuple[str, dict[int, torch.Tensor], torch.Tensor, float]]:
    """By layer: the change of its output at every width, the gradient there, and the prediction's squared norm."""
    taken: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    with _recording(layers, taken), torch.enable_grad():
        prediction = prediction_of(model(**{name: _differentiable(value) for name, value in inputs.items()}))
        if prediction is None:
            raise ValueError(f"{type(model).__name__} returned no prediction to differentiate")
        generator = generator or torch.Generator().manual_seed(0)
        direction = torch.randn(prediction.shape, generator=generator).to(prediction)
        outputs = {layer: output for layer, (_, output) in taken.items() if output.requires_grad}
        gradients = torch.autograd.grad((prediction * direction).sum(), list(outputs.values()), allow_unused=True)
    size = prediction.detach().float().square().sum().item()
    for layer, gradient in zip(outputs, gradients, strict=True):
        if gradient is not None:
            yield layer, _changes(layers[layer], *taken[layer], widths), gradient.float(), size


@torch.no_grad()
def _changes(
    layer: torch.nn.Linear, activation: torch.Tensor, output: torch.Tensor, widths: Sequence[int]
) -> dict[int, torch.Tensor]:
    weight = BitPlaneWeight.from_hp(layer.weight.detach())
    return {width: weight.linear(activation, layer.bias, width).float() - output.float() for width in widths}


@contextmanager
def _recording(
    layers: Mapping[str, torch.nn.Linear], taken: dict[str, tuple[torch.Tensor, torch.Tensor]]
) -> Iterator[None]:
    """Note input and output of every layer."""

    def noting(name: str) -> Any:
        def note(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            taken[name] = inputs[0], output

        return note

    hooks = [layer.register_forward_hook(noting(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _differentiable(value: object) -> object:
    """Inputs that ask for gradients, so that a graph is built although the parameters ask for none."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().requires_grad_()
    return value
