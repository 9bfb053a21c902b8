"""Policies choose plans: what precision every block runs at, before anything is measured and after."""

from typing import Protocol, runtime_checkable

from tadp.policy.complexity import Complexity
from tadp.policy.static import Static
from tadp.precision import L8, L16, Level, Plan, Recipe
from tadp.runtime.signals import Signals

__all__ = ["Complexity", "Policy", "Static", "parse"]


@runtime_checkable
class Policy(Protocol):
    """What a policy must offer.

    One that probes may also have an attribute `shadow_budget`, see `Complexity`.
    """

    @property
    def probe_steps(self) -> int:
        """How many first steps of a generation are measured; 0 for none."""

    def recipes(self) -> tuple[Recipe, ...]:
        """Every recipe that `plan` may name: what has to be compiled ahead."""

    def plan(self, blocks: tuple[str, ...], score: float | None = None, signals: tuple[Signals, ...] = ()) -> Plan:
        """The plan for blocks in running order; `score` is None until the probe is over.

        A function of its arguments and of the policy's own fixed settings: it is asked again when these change only.
        """


def parse(policy: "str | Policy") -> Policy:
    """Read a policy's name, or pass a policy object through.

    Raises:
        ValueError: for names that mean nothing; the message lists those that do.
        TypeError: for anything that is neither a string nor a policy.
    """
    if not isinstance(policy, str):
        if isinstance(policy, Policy):
            return policy
        raise TypeError(f"a policy is a string or an object of tadp.policy, got {type(policy).__name__}")
    name, _, level = policy.strip().lower().partition(":")
    if name == "complexity" and not level:
        return Complexity()
    if name == "static" and level:
        level, _, extra = level.partition("+")
        if extra in ("", "attention"):
            return Static(Level.parse(level), attention=L8 if extra else L16)
    raise ValueError(
        f'unknown policy {policy!r}; valid ones are "complexity" and "static:LEVEL" with LEVEL one of 16, 8, 6, 4, '
        'w8a16, w6a16, w4a16, optionally followed by "+attention"'
    )
