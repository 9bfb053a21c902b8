"""Policies choose plans: what precision every block runs at, before anything is measured and after."""

from typing import Any

from tadp.policy.budget import Budget
from tadp.policy.complexity import Complexity
from tadp.policy.fixed import Fixed
from tadp.policy.policy import Policy, Scoring
from tadp.policy.seen import Seen
from tadp.policy.staged import Staged
from tadp.policy.static import Static
from tadp.precision import L8, L16, Level

__all__ = ["Budget", "Complexity", "Fixed", "Policy", "Scoring", "Seen", "Staged", "Static", "parse"]


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
    if name == "budget" and level:
        return Budget(**_bounds(level))
    if name == "static" and level:
        level, _, extra = level.partition("+")
        if extra in ("", "attention"):
            return Static(Level.parse(level), attention=L8 if extra else L16)
    raise ValueError(
        f'unknown policy {policy!r}; valid ones are "complexity", "static:LEVEL" with LEVEL one of 16, 8, 6, 4, '
        'w8a16, w6a16, w4a16, optionally followed by "+attention", and "budget:BOUNDS" such as '
        '"budget:quality=40,latency=5"'
    )


def _bounds(text: str) -> dict[str, Any]:
    """Bounds of a budget as they stand in its name: ``quality=40,latency=5``."""
    found: dict[str, Any] = {}
    for bound in text.split(","):
        name, _, value = bound.partition("=")
        if bound == "ends=free":
            found["keep_ends"] = False
            continue
        if name not in ("quality", "latency", "memory", "deviations"):
            raise ValueError(
                "a budget has bounds on quality (dB), latency (s) and memory (bytes), deviations, and ends=free, "
                f"not {name!r}"
            )
        try:
            found[name] = float(value)
        except ValueError:
            raise ValueError(f"the bound {bound!r} of a budget is no number, such as quality=40") from None
    return found
