"""How sensitive the roles of every block are to a lower level."""

import statistics
from collections.abc import Sequence

from tqdm import tqdm

from tadp.calibration.prediction_error import QUALITY_OF_ROLE, PredictionErrorFile, predict, role_alone
from tadp.calibration.subject import Subject
from tadp.extras import need
from tadp.planning.calibration import RoleSensitivity
from tadp.policy import parse
from tadp.precision import L4, L8, L16, Level, Role

stats = need("scipy.stats", "calibrate", "rank correlations need SciPy")

ROLE_LEVELS = (L8, L4)


def role_sensitivity(
    subject: Subject, blocks: Sequence[str], known: PredictionErrorFile
) -> tuple[RoleSensitivity, ...]:
    """Every role of every block at every level; roles that the model does not have are left out."""
    subject.model.tadp.use(parse("static:8+attention"))
    predict(subject.model, subject.recorded[0])
    roles: dict[str, dict[Role, list[str]]] = {}
    for layer in subject.model.tadp.layers():
        if layer.role is not None:
            roles.setdefault(layer.piece, {}).setdefault(layer.role, []).append(layer.layer)
    found = []
    for block in tqdm(blocks, desc="lowering roles one by one", unit="block"):
        for role in (role for role in QUALITY_OF_ROLE if role in roles.get(block, {})):
            for level in ROLE_LEVELS if role is not Role.ATTENTION else (L8,):
                measured = known.of(role_alone(block, role, level))
                found.append(
                    RoleSensitivity(
                        block=block,
                        role=role,
                        level=level,
                        quality=QUALITY_OF_ROLE[role],
                        error=statistics.fmean(error.of(role) for error in measured),
                        visual=statistics.fmean(error.visual for error in measured),
                        estimate=_estimate_of(subject, roles[block][role], level),
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
