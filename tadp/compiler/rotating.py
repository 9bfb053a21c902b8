"""Which roles of a model are rotated before they are rounded; what that is stands in `tadp.kernels.rotation`."""

from collections.abc import Collection

from tadp.planning.calibration import Calibration
from tadp.precision import Role

UNMEASURED: frozenset[Role] = frozenset({Role.FFN_DOWN})
"""Rotated where nothing was measured: what comes out of an activation function has outliers in every model."""

_NOT_LINEAR = (Role.ATTENTION, Role.EMBED, Role.HEAD)


def roles_of(names: Collection[Role | str]) -> frozenset[Role]:
    """Roles by their names.

    Raises:
        ValueError: for what is no role of a linear layer in a block.
    """
    allowed = [role for role in Role if role not in _NOT_LINEAR]
    for name in [names] if isinstance(names, str) else names:
        if name not in allowed:
            raise ValueError(f"rotate: no linear layer of a block has the role {name!r}; roles are {_listed(allowed)}")
    return frozenset(map(Role, [names] if isinstance(names, str) else names))


def measured_roles(calibration: Calibration | None) -> frozenset[Role]:
    """Those that gained when a model was calibrated; `UNMEASURED` where nobody looked."""
    found = None if calibration is None else calibration.rotated
    return UNMEASURED if found is None else frozenset(found)


def _listed(roles: Collection[Role]) -> str:
    return ", ".join(map(str, roles))
