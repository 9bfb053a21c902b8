"""One recipe for every block in every stage, the best by an additive cost within additive limits.

A multiple-choice knapsack problem, given to the branch-and-bound solver HiGHS (Huangfu and Hall 2018, "Parallelizing
the dual revised simplex method") through SciPy, and solved to within a known distance of the optimum.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tadp.extras import need

GAP = 2e-3
"""Relative distance to the optimum within which a solution lies; measured times differ by more from run to run."""


@dataclass(frozen=True)
class Limit:
    """The sum of `amounts` of what is chosen may not exceed `most`. `amounts[group][choice]`."""

    amounts: Sequence[Sequence[float]]
    most: float


def choose(costs: Sequence[Sequence[float]], limits: Sequence[Limit] = ()) -> tuple[int, ...] | None:
    """One choice from every group, of least total cost within all limits, but for `GAP`.

    Args:
        costs: ``costs[group][choice]``, finite; groups may have different numbers of choices.
        limits: likewise for amounts.

    Returns:
        The index of the choice in every group; None where nothing lies within the limits.

    Raises:
        ValueError: for a group without choices.
        MissingExtraError: without SciPy.
        RuntimeError: where the solver gives up.
    """
    optimize, sparse = (need(f"scipy.{part}", "calibrate", "budgets need SciPy") for part in ("optimize", "sparse"))
    sizes = [len(group) for group in costs]
    if not sizes:
        return ()
    if 0 in sizes:
        raise ValueError(f"group {sizes.index(0)} has nothing to choose from")
    owners = np.repeat(np.arange(len(sizes)), sizes)
    one_each = sparse.csr_array((np.ones(len(owners)), (owners, np.arange(len(owners)))))
    rows, lows, highs = [one_each], [np.ones(len(sizes))], [np.ones(len(sizes))]
    for limit in limits:
        amounts = np.concatenate([np.asarray(group, dtype=float) for group in limit.amounts])
        unit = max(float(np.abs(amounts).max()), abs(limit.most)) or 1.0  # bytes and squared errors in one problem
        rows.append(sparse.csr_array(amounts[None] / unit))
        lows.append(np.array([-np.inf]))
        highs.append(np.array([limit.most / unit]))
    objective = np.concatenate([np.asarray(group, dtype=float) for group in costs])
    found = optimize.milp(
        objective / (float(np.abs(objective).max()) or 1.0),
        constraints=optimize.LinearConstraint(sparse.vstack(rows), np.concatenate(lows), np.concatenate(highs)),
        integrality=np.ones(len(owners)),
        bounds=optimize.Bounds(0, 1),
        options={"mip_rel_gap": GAP},
    )
    if found.status == 2:  # infeasible
        return None
    if found.x is None:
        raise RuntimeError(f"no plan was found: {found.message}")
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return tuple(int(found.x[start : start + size].argmax()) for start, size in zip(starts, sizes, strict=True))
