"""What every policy is: a function from what is seen to a plan, with declared defaults for everything else."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from tadp.complexity import text
from tadp.complexity.score import DEFAULT_RANGES, FeatureRanges, ScoreWeights
from tadp.policy.seen import Seen
from tadp.precision import Plan, Recipe
from tadp.runtime.shadows import DEFAULT_BUDGET

if TYPE_CHECKING:
    from tadp.policy.calibrated import Calibrated


@dataclass(frozen=True)
class Scoring:
    """How content becomes a complexity score.

    Attributes:
        ranges: where the model's signals lie between simple and complex content.
        weights: what text, image and features count; None for the defaults of the task.
        text_scorer: scores one prompt.
    """

    ranges: FeatureRanges = field(default_factory=lambda: DEFAULT_RANGES, hash=False)
    weights: ScoreWeights | None = None
    text_scorer: Callable[[str], text.TextScore] = text.score


class Policy(ABC):
    """Chooses the precision of every block. Subclasses are frozen dataclasses and write `recipes` and `plan`.

    Attributes:
        follows_steps: whether `plan` looks at ``seen.step`` or ``seen.memory``. Where it does, it is asked before every
            step. Where it does not, both are None, and it is asked again only when the rest of `Seen` has changed.
    """

    follows_steps: ClassVar[bool] = True

    @property
    def probe_steps(self) -> int:
        """How many first steps of a generation are measured; 0 for none."""
        return 0

    @property
    def stages(self) -> tuple[float, ...]:
        """Noise levels, falling, as shares of the first step's timestep, between which the plan may change."""
        return ()

    @property
    def shadow_budget(self) -> float:
        """Share of the time of probe steps, in [0, 1], that may go into running blocks again at another level."""
        return DEFAULT_BUDGET

    @property
    def scoring(self) -> Scoring:
        """How content is scored."""
        return Scoring()

    @abstractmethod
    def recipes(self) -> tuple[Recipe, ...]:
        """Every recipe that `plan` may name: what has to be compiled ahead."""

    @abstractmethod
    def plan(self, seen: Seen) -> Plan:
        """The plan for what is seen: a function of `seen` and of the policy's own settings, and of nothing else."""

    def calibrated(self, calibration: "Calibrated") -> "Policy":
        """The same policy with what was measured of a model; here one that takes nothing from it."""
        return self
