"""Asking a policy for plans, as rarely as that gives the same."""

from tadp.policy import Policy, Seen
from tadp.precision import Plan


class Planner:
    """Asks a policy, and remembers its last answer.

    A plan is a function of the policy and of what it is shown, so the answer holds while both are the same. What a
    policy is shown changes with every step only where the policy follows steps (`Policy.follows_steps`).
    """

    def __init__(self) -> None:
        self._last: tuple[Policy, Seen, Plan] | None = None

    def plan(self, policy: Policy, seen: Seen) -> Plan:
        """The policy's plan for what is seen."""
        if self._last is None or self._last[0] is not policy or self._last[1] != seen:
            self._last = policy, seen, policy.plan(seen)
        return self._last[2]
