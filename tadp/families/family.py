"""What a family declares: where the blocks of a model class are, what its layers are to a role, what its calls say."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType

from tadp.families.names import role_of
from tadp.precision import Role

TIMESTEP_NAMES = ("timestep", "timesteps", "t", "sigma", "time")
"""What models that nobody declared call their timestep."""


@dataclass(frozen=True)
class Family:
    """A model class, or several that are built alike.

    Attributes:
        name: for people.
        classes: names of model classes, as diffusers or the original repository has them.
        blocks: paths of the lists of blocks, in the order in which the model runs them; empty: every list of modules
            that looks like one, see `tadp.families.blocks`.
        roles: by pattern of a layer's name within its block, such as ``attn1.to_[qkv]``; the first that matches counts,
            and a layer that none matches gets the role that its name or its shape tells.
        timestep: the argument of the forward that holds the timestep; the first that is given counts.
        stays_at_16: by the same patterns, layers that are never quantized, each with the reason.
        pipelines: beginnings of the names of diffusers' pipelines for these classes.
        component_dtypes: by component of these pipelines, the floating type that it needs whatever the transformer has.
    """

    name: str
    classes: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    roles: Mapping[str, Role] = field(default_factory=lambda: MappingProxyType({}))
    timestep: tuple[str, ...] = TIMESTEP_NAMES
    stays_at_16: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    pipelines: tuple[str, ...] = ()
    component_dtypes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def role(self, layer: str, rows: int, columns: int, self_attention: bool = True) -> Role | None:
        """The role of a linear layer; None where neither the declaration nor its name nor its shape tells.

        Args:
            layer: its name within its block.
            rows: of its weight.
            columns: of its weight.
            self_attention: whether the attention around it, if there is one, reads queries and keys from one tensor;
                counts for layers that are not declared.
        """
        declared = self.declared_role(layer)
        return role_of(plain_name(layer), rows, columns, self_attention) if declared is None else declared

    def declared_role(self, layer: str) -> Role | None:
        """The role that the declaration gives a layer, named as within its block."""
        found = _first(self.roles, plain_name(layer))
        return None if found is None else Role(found)

    def reason_at_16(self, layer: str) -> str:
        """Why a layer, named as within its block, is never quantized; "" where it may be."""
        return _first(self.stays_at_16, plain_name(layer)) or ""


def plain_name(layer: str) -> str:
    """A layer's name without what wrappers add: LoRA's ``base_layer``, activation checkpointing's module."""
    parts = [part for part in layer.split(".") if part not in ("base_layer", "_checkpoint_wrapped_module", "_orig_mod")]
    return ".".join(parts)


def _first(patterns: Mapping[str, str], name: str) -> str | None:
    return next((value for pattern, value in patterns.items() if _matches(name, pattern)), None)


@functools.lru_cache(maxsize=65536)
def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern)
