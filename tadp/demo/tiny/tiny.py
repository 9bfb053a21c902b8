"""What a tiny model is: a class of diffusers, a configuration of a few thousand parameters, and inputs that fit it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Tiny:
    """A tiny random model of one transformer class.

    Attributes:
        name: the class, as diffusers exports it.
        config: keyword arguments of its constructor.
        inputs: keyword arguments of one forward in float32, drawn from a generator; `return_dict` is the caller's.
    """

    name: str
    config: Mapping[str, Any]
    inputs: Callable[[torch.Generator], dict[str, Any]]

    def model(self, seed: int = 0) -> torch.nn.Module:
        """The model in float32, in evaluation mode, with random weights that let every layer matter.

        Some classes start with zeros in their last layer or in their gates, which would hide what happens before.

        Raises:
            AttributeError: where the installed diffusers has no such class.
        """
        import diffusers

        torch.manual_seed(seed)
        model: torch.nn.Module = getattr(diffusers, self.name)(**self.config).float().eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.is_floating_point() and not parameter.any():
                    parameter.normal_(0.0, 0.05, generator=generator)
        return model
