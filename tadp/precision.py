"""Level, role, recipe and plan: the values in which precision is spoken of. Imports nothing of tadp."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

MIXED_AVERAGES = (7, 6, 5)
"""Bits that a weight may have on average where every output channel has a width of its own."""

KEPT_SHARES = (50, 25, 10)
"""Percentages of the blocks of keys that block-sparse attention may keep."""

_SPARSE_NAMES = ("sparse", *(f"sparse{kept}" for kept in KEPT_SHARES))
_LEVEL_NAMES = (
    "16",
    "8",
    "6",
    "4",
    *(f"{average}m" for average in MIXED_AVERAGES),
    "w8a16",
    "w6a16",
    "w4a16",
    *_SPARSE_NAMES,
)


@dataclass(frozen=True, order=True)
class Level:
    """Widths of one operation in bits. 16 stands for the model's own floating type.

    Attributes:
        weight: of weights; of mixed widths the average.
        activation: of what they are multiplied with.
        mixed: whether output channels have 8, 6 or 4 bits each, by importance (SPEC A7): so many that over all layers
            of a model a weight has `weight` bits on average.
        kept: of attention products, the percentage of the blocks of keys that each block of queries sees.
    """

    weight: int
    activation: int
    mixed: bool = False
    kept: int = 100

    @staticmethod
    def parse(name: str | int) -> "Level":
        """Read "16", "8" (with 8-bit activations), "6m" (mixed), "w8a16" (weights only), "sparse25" and their like.

        "sparse" alone is "sparse50".

        Raises:
            ValueError: for any other name.
        """
        text = str(name).strip().lower()
        if text not in _LEVEL_NAMES:
            raise ValueError(f"unknown level {name!r}; valid levels are {', '.join(_LEVEL_NAMES)}")
        if text == "16":
            return Level(16, 16)
        if match := re.fullmatch(r"w(\d)a16", text):
            return Level(int(match[1]), 16)
        if text in _SPARSE_NAMES:
            return Level(8, 8, kept=int(text.removeprefix("sparse") or KEPT_SHARES[0]))
        return Level(int(text[0]), 8, mixed=text.endswith("m"))

    @property
    def widest(self) -> int:
        """The width of the widest channel."""
        return 8 if self.mixed else self.weight

    def __str__(self) -> str:
        if self.mixed:
            return f"{self.weight}m"
        if self.kept < 100:
            return f"sparse{self.kept}"
        return str(self.weight) if self.weight == 16 or self.activation == 8 else f"w{self.weight}a{self.activation}"


L16, L8, L6, L4 = (Level.parse(name) for name in ("16", "8", "6", "4"))


@dataclass(frozen=True)
class Part:
    """What a variant reads of a value.

    Attributes:
        kind: "itself", "master" for the 16-bit weight, a tensor of a packed weight by its name ("high", "mid", "low",
            "scale", "factors"), or "widths" for those of its output channels at a mixed level.
        average: of "widths", the bits that a weight has on average, one of `MIXED_AVERAGES`.
    """

    kind: str
    average: int | None = None

    def __str__(self) -> str:
        return self.kind if self.average is None else f"{self.kind}_{self.average}"


ITSELF, MASTER = Part("itself"), Part("master")


class Role(str, Enum):
    """What an operation is in its block."""

    SELF_ATTN_QKV = "self_attn.qkv"
    SELF_ATTN_OUT = "self_attn.out"
    CROSS_ATTN_Q = "cross_attn.q"
    CROSS_ATTN_KV = "cross_attn.kv"
    CROSS_ATTN_OUT = "cross_attn.out"
    FFN_UP = "ffn.up"
    FFN_DOWN = "ffn.down"
    MODULATION = "modulation"
    ATTENTION = "attention"
    EMBED = "embed"
    HEAD = "head"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Recipe:
    """The level of every role of one piece: `default`, but for the roles that `overrides` names.

    The attention products stay at 16 bits unless an override names them (SPEC A5). Raises ValueError where a linear
    layer's level is one of attention alone.
    """

    default: Level = L16
    overrides: tuple[tuple[Role, Level], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "overrides", tuple(sorted(self.overrides)))
        levels = (self.default, *(level for role, level in self.overrides if role is not Role.ATTENTION))
        if sparse := [level for level in levels if level.kept < 100]:
            raise ValueError(f"{sparse[0]} is a level of the attention products, not of linear layers")

    @staticmethod
    def parse(text: str) -> "Recipe":
        """Read what `str` writes, such as "8" or "8+attention:8".

        Raises:
            ValueError: for an unknown level or role.
        """
        default, *overrides = text.split("+")
        pairs = (override.partition(":")[::2] for override in overrides)
        return Recipe(Level.parse(default), tuple((Role(role), Level.parse(level)) for role, level in pairs))

    def __getitem__(self, role: Role) -> Level:
        return dict(self.overrides).get(role, L16 if role is Role.ATTENTION else self.default)

    def has(self, level: Level) -> bool:
        """Whether any role of a linear layer is at a level."""
        return self.default == level or any(found == level for role, found in self.overrides if role != Role.ATTENTION)

    def __str__(self) -> str:
        return "+".join([str(self.default), *(f"{role}:{level}" for role, level in self.overrides)])


@dataclass(frozen=True)
class Plan:
    """The recipe of every piece, by the piece's name, in the order in which pieces run.

    `reasons` say why, piece by piece, where the policy tells; plans of equal recipes are equal whatever the reasons.
    """

    recipes: tuple[tuple[str, Recipe], ...] = ()
    reasons: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    @staticmethod
    def of(recipes: Mapping[str, Recipe] | Iterable[tuple[str, Recipe]]) -> "Plan":
        return Plan(tuple(dict(recipes).items()))

    def replaced(self, piece: str, recipe: Recipe) -> "Plan":
        """The same plan but for one piece."""
        return Plan(tuple((name, recipe if name == piece else found) for name, found in self.recipes))

    def because(self, reasons: Mapping[str, str] | Iterable[tuple[str, str]]) -> "Plan":
        """The same plan with a reason for each piece that is named."""
        return replace(self, reasons=tuple(dict(reasons).items()))

    def why(self, piece: str) -> str:
        """Why a piece has its recipe; "" where the policy does not say."""
        return dict(self.reasons).get(piece, "")

    def __getitem__(self, piece: str) -> Recipe:
        for name, recipe in self.recipes:
            if name == piece:
                return recipe
        raise KeyError(piece)

    def __iter__(self) -> Iterator[tuple[str, Recipe]]:
        return iter(self.recipes)

    def __len__(self) -> int:
        return len(self.recipes)
