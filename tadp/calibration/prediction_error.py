"""The error that a lower level of a part of a model makes in its prediction, on inputs as they occur in generations.

Each part is lowered alone, everything else stays at 16 bits, and the inputs are those of a generation at 16 bits:
errors of one step do not travel to the next. What they do to a whole clip is measured by stages, see `run`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tadp.calibration.clips import REFERENCE
from tadp.calibration.journal import Journal
from tadp.calibration.recording import Step
from tadp.calibration.subject import Subject
from tadp.policy.fixed import Fixed
from tadp.precision import L16, Level, Plan, Recipe, Role
from tadp.runtime.clock import CONDITIONAL, UNCONDITIONAL
from tadp.runtime.compiled import Compiled
from tadp.runtime.signals import prediction_of

_FRAMES = 2  # the dimension of frames in (batch, channels, frames, height, width)

QUALITIES = ("visual", "text", "temporal")
"""What layers influence, with the metric that fits it: "visual" the guided prediction, "text" what the prompt adds to
it, "temporal" its changes from frame to frame (ViDiT-Q, arXiv 2406.02540, metric-decoupled mixed precision).
"""

QUALITY_OF_ROLE: Mapping[Role, str] = {
    Role.CROSS_ATTN_Q: "text",
    Role.CROSS_ATTN_KV: "text",
    Role.CROSS_ATTN_OUT: "text",
    Role.SELF_ATTN_QKV: "temporal",
    Role.SELF_ATTN_OUT: "temporal",
    Role.ATTENTION: "temporal",
    Role.FFN_UP: "visual",
    Role.FFN_DOWN: "visual",
    Role.MODULATION: "visual",
}
"""Full self-attention is what moves information between frames; where it attends within frames, motion depends on it
less, and the visual quality more.
"""


@dataclass(frozen=True)
class PredictionError:
    """Squared relative errors of a prediction by quality; None where it cannot be measured.

    Attributes:
        visual: ``|dp|^2 / |p|^2`` of the guided prediction p.
        text: the same of the difference between both guidance branches; None without them.
        temporal: the same of the changes of p from frame to frame; None for single images.
    """

    visual: float
    text: float | None = None
    temporal: float | None = None

    def of(self, role: Role) -> float:
        """By the metric that fits a role; where that is missing, of the guided prediction."""
        found = getattr(self, QUALITY_OF_ROLE.get(role, "visual"))
        return self.visual if found is None else float(found)


Predictions = Mapping[str, torch.Tensor]
"""What a model predicts in a step, float32, by guidance branch."""


def predict(model: Callable[..., Any], step: Step) -> dict[str, torch.Tensor]:
    """Run all branches of a step."""
    found = {}
    for branch, inputs in step.inputs.items():
        prediction = prediction_of(model(**inputs))
        assert prediction is not None
        found[branch] = prediction.detach().float().clone()
    return found


def prediction_error(ours: Predictions, reference: Predictions, guidance_scale: float) -> PredictionError:
    """How far predictions are from those of reference.

    Args:
        ours: by branch, ``(batch, channels, frames, height, width)`` or of other shapes.
        reference: likewise.
        guidance_scale: of classifier-free guidance, which weighs the errors of both branches.
    """
    guided, other = (_guided(predictions, guidance_scale) for predictions in (ours, reference))
    text = None
    if {CONDITIONAL, UNCONDITIONAL} <= set(reference):
        gaps = [found[CONDITIONAL] - found[UNCONDITIONAL] for found in (ours, reference)]
        text = _squared_error(*gaps)
    moves = guided.dim() == 5 and guided.shape[_FRAMES] > 1
    temporal = _squared_error(guided.diff(dim=_FRAMES), other.diff(dim=_FRAMES)) if moves else None
    return PredictionError(_squared_error(guided, other), text, temporal)


def prediction_errors(
    model: Compiled,
    steps: Sequence[Step],
    references: Sequence[Predictions],
    plans: Iterable[Plan],
    guidance_scale: float,
    progress: Callable[[], object] = lambda: None,
) -> list[list[PredictionError]]:
    """The error of each plan in each step.

    Args:
        model: compiled; left under the last plan.
        steps: recorded.
        references: `predict` of every step at 16 bits.
        plans: to be tried.
        guidance_scale: of the recorded generation.
        progress: called after every plan.
    """
    found = []
    for plan in plans:
        model.tadp.use(Fixed(plan))
        pairs = zip(steps, references, strict=True)
        found.append([prediction_error(predict(model, step), reference, guidance_scale) for step, reference in pairs])
        progress()
    return found


class PredictionErrorFile:
    """The errors of plans in the recorded steps, in a file that an interrupted run goes on with."""

    def __init__(self, path: Path, subject: Subject) -> None:
        """Open what was measured of a subject, or start a file.

        Raises:
            ValueError: if the file was measured of another one, or is damaged before its last line.
        """
        self._subject = subject
        self._known: dict[str, list[PredictionError]] = {}
        self._references: list[dict[str, torch.Tensor]] | None = None
        steps = [step.noise for step in subject.recorded]
        self._journal = Journal(path, {**subject.key, "steps": steps}, self._take)

    def missing(self, plans: Iterable[Plan]) -> int:
        """How many plans were not measured yet."""
        return len({Fixed(plan).key for plan in plans if not _at_16(plan)} - set(self._known))

    def of(self, plan: Plan) -> list[PredictionError]:
        """Of every recorded step, measured unless it is known."""
        name = Fixed(plan).key
        if _at_16(plan):
            return [PredictionError(0.0, 0.0, 0.0)] * len(self._subject.recorded)
        if name not in self._known:
            subject = self._subject
            if self._references is None:
                subject.model.tadp.use(REFERENCE)
                self._references = [predict(subject.model, step) for step in subject.recorded]
            found = prediction_errors(
                subject.model, subject.recorded, self._references, [plan], subject.guidance_scale
            )[0]
            self._journal.add([name, [vars(error) for error in found]])
        return self._known[name]

    def _take(self, content: list[Any]) -> None:
        plan, errors = content
        self._known[plan] = [PredictionError(**values) for values in errors]


def _at_16(plan: Plan) -> bool:
    return all(recipe == Recipe() for _, recipe in plan)


def alone(block: str, recipe: Recipe) -> Plan:
    """The plan that lowers one block."""
    return Plan.of({block: recipe})


def role_alone(block: str, role: Role, level: Level) -> Plan:
    """The plan that lowers one role of one block."""
    return alone(block, Recipe(L16, ((role, level),)))


def _guided(predictions: Predictions, scale: float) -> torch.Tensor:
    if not {CONDITIONAL, UNCONDITIONAL} <= set(predictions):
        return next(iter(predictions.values()))
    without = predictions[UNCONDITIONAL]
    return without + scale * (predictions[CONDITIONAL] - without)


def _squared_error(ours: torch.Tensor, reference: torch.Tensor) -> float:
    size = reference.square().sum().item()
    return (ours - reference).square().sum().item() / size if size > 0 else 0.0
