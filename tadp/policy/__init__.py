"""Policies choose plans: what precision every block runs at, before anything is measured and after.

A policy is one file. `register` above its class is all that it takes for `parse` to read it by its name.
"""

from tadp.policy.budget import Budget
from tadp.policy.complexity import Complexity
from tadp.policy.difference import Difference
from tadp.policy.fixed import Fixed
from tadp.policy.policy import Policy, Scoring, parse, register
from tadp.policy.seen import Seen
from tadp.policy.staged import Staged
from tadp.policy.static import Static

__all__ = [
    "Budget",
    "Complexity",
    "Difference",
    "Fixed",
    "Policy",
    "Scoring",
    "Seen",
    "Staged",
    "Static",
    "parse",
    "register",
]
