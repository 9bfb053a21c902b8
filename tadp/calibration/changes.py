"""What lowering blocks and roles changes in the recorded steps of a subject, in a file that is gone on with."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from tadp.calibration.clips import REFERENCE
from tadp.calibration.journal import Journal
from tadp.calibration.sensitivity import QUALITY_OF_ROLE, Change, changes_of, predict, role_alone
from tadp.calibration.subject import Subject
from tadp.extras import need
from tadp.planning.calibration import RoleSensitivity
from tadp.policy import parse
from tadp.policy.fixed import Fixed
from tadp.precision import L4, L8, L16, Level, Plan, Recipe, Role

stats = need("scipy.stats", "calibrate", "rank correlations need SciPy")

ROLE_LEVELS = (L8, L4)


class Changes:
    """What plans change in the recorded steps, kept in a file."""

    def __init__(self, path: Path, subject: Subject) -> None:
        """Open what was measured of a subject, or start a file.

        Raises:
            ValueError: if the file was measured of another one, or is damaged before its last line.
        """
        self._subject = subject
        self._known: dict[str, list[Change]] = {}
        self._references: list[dict[str, torch.Tensor]] | None = None
        steps = [step.noise for step in subject.recorded]
        self._journal = Journal(path, {**subject.key, "steps": steps}, self._take)

    def of(self, plan: Plan) -> list[Change]:
        """Of every recorded step, measured unless it is known."""
        name = Fixed(plan).key
        if all(recipe == Recipe() for _, recipe in plan):
            return [Change(0.0, 0.0, 0.0)] * len(self._subject.recorded)
        if name not in self._known:
            subject = self._subject
            if self._references is None:
                subject.model.tadp.use(parse(REFERENCE))
                self._references = [predict(subject.model, step) for step in subject.recorded]
            found = changes_of(subject.model, subject.recorded, self._references, [plan], subject.guidance_scale)[0]
            self._journal.add([name, [vars(change) for change in found]])
        return self._known[name]

    def _take(self, content: list[Any]) -> None:
        plan, changes = content
        self._known[plan] = [Change(**values) for values in changes]


def role_sensitivity(subject: Subject, blocks: Sequence[str], changes: Changes) -> tuple[RoleSensitivity, ...]:
    """Every role of every block at every level; roles that the model does not have change nothing and are left out."""
    subject.model.tadp.use(parse("static:8+attention"))
    predict(subject.model, subject.recorded[0])
    roles: dict[str, dict[str, list[str]]] = {}
    for row in subject.model.tadp.explain().rows:
        layers = roles.setdefault(str(row["piece"]), {}).setdefault(str(row["role"]), [])
        layers.append(str(row["layer"]))
    found = []
    for block in tqdm(blocks, desc="lowering roles one by one", unit="block"):
        for role in (role for role in QUALITY_OF_ROLE if str(role) in roles.get(block, {})):
            for level in ROLE_LEVELS if role is not Role.ATTENTION else (L8,):
                measured = changes.of(role_alone(block, role, level))
                found.append(
                    RoleSensitivity(
                        block=block,
                        role=role,
                        level=level,
                        quality=QUALITY_OF_ROLE[role],
                        error=statistics.fmean(change.of(role) for change in measured),
                        visual=statistics.fmean(change.visual for change in measured),
                        estimate=_estimate_of(subject, roles[block][str(role)], level),
                    )
                )
    return tuple(found)


def _estimate_of(subject: Subject, layers: Sequence[str], level: Level) -> float | None:
    known = [subject.estimates[layer][level.weight].whole for layer in layers if layer in subject.estimates]
    return sum(known) if known and level != L16 else None


def gradient_agreement(sensitivity: Sequence[RoleSensitivity]) -> dict[str, float]:
    """Rank correlation of what gradients estimate with what was measured, over blocks and roles, by level."""
    found = {}
    for level in dict.fromkeys(item.level for item in sensitivity):
        pairs = [(s.estimate, s.visual) for s in sensitivity if s.level == level and s.estimate is not None]
        if len(pairs) > 2:
            found[str(level)] = float(stats.spearmanr(*zip(*pairs, strict=True)).statistic)
    return found
