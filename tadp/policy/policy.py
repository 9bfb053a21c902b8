"""What every policy is: a function from what is seen to a plan, with a name and a key, and defaults for the rest."""

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, is_dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

from tadp.complexity import text
from tadp.complexity.score import DEFAULT_RANGES, FeatureRanges, ScoreWeights
from tadp.policy.exact import exact, import_path, short
from tadp.policy.seen import Seen
from tadp.precision import Plan, Recipe
from tadp.runtime.shadows import DEFAULT_BUDGET

if TYPE_CHECKING:
    from tadp.planning.calibration import Calibration

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_IN_BRACKETS = re.compile(r"\((?:with )?(.+)\)$")


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

    A subclass with a `name` and `register` above it can be named by a string: "name" or "name:settings". It then writes
    `parse` and `written` as well, unless it has no settings.

    Attributes:
        name: what stands before the colon; lower case.
        usage: how the whole string is written, for error messages.
        follows_steps: whether `plan` looks at ``seen.step`` or ``seen.memory``. Where it does, it is asked before every
            step. Where it does not, both are None, and it is asked again only when the rest of `Seen` has changed.
    """

    name: ClassVar[str] = ""
    usage: ClassVar[str] = ""
    follows_steps: ClassVar[bool] = True

    @classmethod
    def parse(cls, settings: str) -> "Policy":
        """The policy with the settings that a string gives.

        Args:
            settings: what stands behind the colon; "" where there is nothing.

        Raises:
            ValueError: where that cannot be read.
        """
        if settings:
            raise ValueError("this policy has no settings")
        return cls()

    def written(self) -> str:
        """The settings for `parse`. What no string can say is left out; `str` then says so."""
        return ""

    @property
    def probe_steps(self) -> int:
        """How many first steps of a generation are measured; 0 for none."""
        return 0

    def probe_steps_of(self, steps: int | None) -> int:
        """How many first steps are measured in a generation of so many steps; None where nobody said how many."""
        return self.probe_steps

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

    def calibrated(self, calibration: "Calibration") -> "Policy":
        """The same policy with what was measured of a model; here one that takes nothing from it."""
        return self

    @property
    def key(self) -> str:
        """Names this policy exactly, for files, caches and dicts: policies with other settings have other keys.

        It is `str` where a string says all, such as "static:8". Other settings stand in brackets, long ones as digests.

        Raises:
            ValueError: for a setting that is a lambda or another function that cannot be imported by its name.
            TypeError: for a subclass that is no frozen dataclass, and for settings that are no values.
        """
        kind = type(self)
        parameters = vars(kind).get("__dataclass_params__")
        if parameters is None or not parameters.frozen:
            raise TypeError(f"{kind.__qualname__} needs @dataclass(frozen=True) above it, as every policy does")
        said, unsaid = self._said()
        if not _registered(kind):
            said = import_path(kind)
        settings = ", ".join(f"{name}={short(exact(getattr(self, name)))}" for name in unsaid)
        return f"{said} ({settings})" if unsaid else said

    def __str__(self) -> str:
        said, unsaid = self._said()
        return f"{said} (with {', '.join(unsaid)})" if unsaid else said

    def _said(self) -> tuple[str, list[str]]:
        """What a string says of this policy, and the fields that reading it back would lose."""
        kind = type(self)
        if not _registered(kind):
            return f"{kind.__module__}.{kind.__qualname__}", _compared(self)
        settings = self.written()
        try:
            again = kind.parse(settings)
        except ValueError:
            return kind.name, _compared(self)
        unsaid = [name for name in _compared(self) if getattr(again, name) != getattr(self, name)]
        return f"{kind.name}:{settings}" if settings else kind.name, unsaid


DEFAULT = "complexity"
"""The policy where nobody names one."""

_KINDS: dict[str, type[Policy]] = {}
Kind = TypeVar("Kind", bound=type[Policy])


def register(kind: Kind) -> Kind:
    """Let `parse` read policies of a class by its name; stands above the class.

    Raises:
        ValueError: for a name that is no lower-case word, or that another class has.
    """
    if not _NAME.fullmatch(kind.name):
        raise ValueError(f"the name of a policy is a lower-case word, not {kind.name!r}")
    if _KINDS.setdefault(kind.name, kind) is not kind:
        raise ValueError(f"there is a policy called {kind.name!r} already: {_KINDS[kind.name].__qualname__}")
    return kind


def parse(policy: "str | Policy") -> Policy:
    """Read a policy's name, or pass a policy object through.

    Raises:
        ValueError: for names that mean nothing; the message says how policies are written.
        TypeError: for anything that is neither a string nor a policy.
    """
    if isinstance(policy, Policy):
        return policy
    if not isinstance(policy, str):
        raise TypeError(f"a policy is a string or an object of tadp.policy, got {type(policy).__name__}")
    if unsaid := _IN_BRACKETS.search(policy.strip()):
        raise ValueError(
            f"the policy {policy!r} cannot be read back: no string can say its {unsaid[1]}. Make it in Python, as an "
            "object of tadp.policy"
        )
    name, _, settings = policy.strip().partition(":")
    kind = _KINDS.get(name.strip().lower())
    if kind is None:
        usages = "; ".join(known.usage or known.name for known in _KINDS.values())
        raise ValueError(f"unknown policy {policy!r}; valid ones are {usages}")
    try:
        return kind.parse(settings.strip())
    except ValueError as error:
        raise ValueError(f"the policy {policy!r}: {error}. It is written {kind.usage or kind.name}") from error


def _registered(kind: type[Policy]) -> bool:
    return _KINDS.get(kind.name) is kind


def _compared(policy: Policy) -> list[str]:
    """Fields that tell policies of a class apart."""
    return [item.name for item in dataclasses.fields(policy) if item.compare] if is_dataclass(policy) else []
