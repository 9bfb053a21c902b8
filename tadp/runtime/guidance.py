"""Guidance reuse: steps in which the branch without the prompt is not run.

The two branches of classifier-free guidance differ by what the prompt adds, which changes more slowly than either. So
where a plan gives leave, the unconditional prediction is the conditional one of the same step less that difference,
foretold from earlier steps (the idea of the guidance cache of FasterCache, arXiv 2410.19355, section 3.2).

A guided prediction is u + g (c - u) = c + (g - 1)(c - u), so an error of the difference counts g - 1 times.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch

from tadp.precision import Reuse
from tadp.runtime.clock import CONDITIONAL, UNCONDITIONAL, Tick
from tadp.runtime.signals import prediction_of
from tadp.runtime.track import Track, foretell_together

USUAL_SCALE = 5.0
"""Guidance scale of a generation that does not say: what most video pipelines have as their default."""


class GuidanceStore:
    """Keeps what the prompt adds to predictions, and foretells predictions without the prompt."""

    def __init__(self) -> None:
        self._track = Track()
        self._conditional: tuple[int, Any, torch.Tensor] | None = None  # step, result and prediction
        self._conditional_ran = False

    @property
    def bytes(self) -> int:
        """Of what is kept now."""
        return self._track.bytes

    def clear(self) -> None:
        """Forget everything."""
        self._track, self._conditional = Track(), None

    def foretell(self, leave: Reuse | None, tick: Tick, noise: float, gap: float) -> Any:
        """What the forward of the branch without the prompt would return; None where it has to run.

        Args:
            leave: of the plan.
            tick: of the forward.
            noise: that is left, in [0, 1].
            gap: in noise since the step before.
        """
        if leave is None or tick.branch != UNCONDITIONAL or self._conditional is None:
            return None
        step, result, prediction = self._conditional
        if step != tick.step:
            return None
        foretold = foretell_together([self._track], noise, gap, leave)
        if foretold is None:
            return None
        self._track.spend(foretold.error)
        (difference,) = foretold.of(tuple(self._track.kept))
        return with_prediction(result, prediction - difference)

    def take(self, tick: Tick, noise: float, result: Any, scale: float | None, ran: bool) -> None:
        """Take what a forward returned.

        Args:
            tick: of the forward.
            noise: that is left.
            result: what it returned.
            scale: of guidance; None where that is not known.
            ran: whether all of it was computed in this step.
        """
        prediction = prediction_of(result)
        if prediction is None:
            return
        if tick.branch == CONDITIONAL:
            self._conditional = tick.step, result, prediction.detach().clone()  # buffers may be used again
            self._conditional_ran = ran
        elif tick.branch == UNCONDITIONAL and self._conditional is not None and ran and self._conditional_ran:
            step, _, other = self._conditional
            if step == tick.step and other.shape == prediction.shape:
                amplified = max(abs((USUAL_SCALE if scale is None else scale) - 1), 1e-3)
                size = torch.linalg.vector_norm(other, dtype=torch.float32) ** 2 / amplified**2
                self._track.add(step, noise, (other - prediction,), size)


def with_prediction(result: Any, prediction: torch.Tensor) -> Any:
    """What a forward returned, with another prediction in the place of its own; see `prediction_of`."""
    if isinstance(result, torch.Tensor):
        return prediction
    if isinstance(result, (tuple, list)):
        return type(result)((prediction, *result[1:]))
    if isinstance(result, Mapping):  # the outputs of diffusers and transformers
        return type(result)(**{**result, "sample": prediction})
    changed = copy.copy(result)
    changed.sample = prediction
    return changed
